"""Converts between ComfyUI's ``[B, H, W, C]`` and our ``[B, 3, H, W]``; nothing else does."""

from __future__ import annotations

import torch

from ..lib.faces.detection import FaceLandmarks
from ..lib.vocabulary import Faces, UserError


def to_photos(image: torch.Tensor) -> torch.Tensor:
    """IMAGE to float32 ``[B, 3, H, W]`` on the CPU, in 0..1 if the input is. Gray is repeated, alpha is dropped.

    Raises UserError for an empty picture, and for values that are not numbers: one of them would spread over a large part of the result.
    """
    check_numbers(image, "The picture")
    channels = 3 if image.shape[-1] >= 3 else 1
    photos = image[..., :channels].movedim(-1, 1).cpu().float()
    return photos.expand(-1, 3, -1, -1) if channels == 1 else photos


def check_numbers(values: torch.Tensor, what: str) -> None:
    """Raises UserError where there is nothing, or that says where NaN or infinite values are. values: ``[B, H, W, ...]``."""
    if not values.numel():
        raise UserError(f"{what} is empty: its shape is {list(values.shape)}. Look for the node that made it.")
    if all(torch.isfinite(one).all() for one in values):
        return
    wrong = torch.nonzero(~torch.isfinite(values))
    number, y, x = wrong[0, :3].tolist()
    raise UserError(
        f"{what} has {len(wrong)} value(s) that are not numbers (NaN or infinite), the first at x {x}, y {y} of number "
        f"{number} in the batch. Look for the node or the file that made it, and repair it there."
    )


def to_image(photos: torch.Tensor) -> torch.Tensor:
    """``[B, 3, H, W]`` to a contiguous IMAGE on the CPU."""
    return photos.movedim(1, -1).float().cpu().contiguous()


def check_same_photos(node: str, photos: torch.Tensor, faces: Faces | FaceLandmarks) -> None:
    """Raises UserError if the faces were found in different pictures."""
    found, given = (len(faces.frames), *faces.size), (len(photos), *photos.shape[-2:])
    if found != given:
        raise UserError(
            f"{node}: the faces were found in {found[0]} picture(s) of {found[2]}x{found[1]}, but the image has "
            f"{given[0]} of {given[2]}x{given[1]}. Connect the photograph in which the faces were detected."
        )


def masks_of(node: str, mask: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
    """MASK ``[H, W]``, ``[1, H, W]`` or ``[B, H, W]`` as ``[B, 1, H, W]`` in 0..1, one for each photograph. Raises UserError where they
    do not fit."""
    masks = mask if mask.ndim == 3 else mask[None]
    check_numbers(masks, f"{node}: the mask")
    if masks.shape[-2:] != photos.shape[-2:] or len(masks) not in (1, len(photos)):
        raise UserError(
            f"{node}: there are {len(masks)} mask(s) of {masks.shape[-1]}x{masks.shape[-2]} for {len(photos)} photograph(s) of "
            f"{photos.shape[-1]}x{photos.shape[-2]}. Provide one mask of that size for all of them, or one for each."
        )
    return masks.cpu().float().clamp(0, 1)[:, None].expand(len(photos), -1, -1, -1)

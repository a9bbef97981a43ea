"""The sample photographs and their albums: NASA's portrait of Eileen Collins (public domain), from the scikit-image wheel."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .pictures.files import pictures_below, read_picture
from .vocabulary import UserError

PERSON = "Eileen Collins"
NOTE = (
    "The sample album is made from the sample photograph itself (cropped differently, mirrored, relit, rescaled). It "
    "shows how detail is transferred; it is not a test of identity restoration."
)

INVENTED = "Nobody Real"
GROUP_NOTE = (
    "The group shows one portrait three times: unchanged, and warped into two people who do not exist. Eileen Collins "
    "and one of them have albums made from the same pictures; the third person is a stranger."
)
FACE = (222.0, 115.0)  # center of the face in the portrait, x and y
# Displacement of features in pixels: eyes apart, jaw wider, brows up, nose wider, chin down.
STRANGER_BEND, INVENTED_BEND = (3, -5, -2, 2, 5), (-4, 7, 2, -3, -5)


def photograph() -> torch.Tensor:
    """float32 ``[1, 3, 512, 512]`` in 0..1. Read by path, because importing the library takes a second."""
    spec = importlib.util.find_spec("skimage")
    path = Path(spec.origin).parent / "data" / "astronaut.png" if spec else None
    if path is None or not path.is_file():
        raise UserError(
            "The sample photograph comes with scikit-image, which is not installed. Run pip install scikit-image."
        )
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def group() -> torch.Tensor:
    """float32 ``[1, 3, 300, 700]`` in 0..1: from left to right a stranger, Eileen Collins, and the other person with an
    album."""
    photo = photograph()
    people = bent(photo, *STRANGER_BEND), photo, bent(photo, *INVENTED_BEND).flip(-1)
    width, overlap, middle = 260, 40, round(FACE[0])
    middles = middle, middle, 511 - middle
    canvas = torch.zeros(1, 3, 300, 3 * width - 2 * overlap)
    for number, (person, x) in enumerate(zip(people, middles, strict=True)):
        column = person[..., :300, x - width // 2 : x + width // 2]
        at = number * (width - overlap)
        place = canvas[..., at : at + width]
        # Each one is faded in over the previous one.
        weight = torch.ones(width) if number == 0 else (torch.arange(width) / overlap).clamp(0, 1)
        place.copy_(torch.lerp(place, column, weight.expand_as(column)))
    return canvas


def group_albums() -> dict[str, list[torch.Tensor]]:
    """The albums of the two known people in the group, by name."""
    return {PERSON: sample_album(), INVENTED: sample_album(bent(photograph(), *INVENTED_BEND))}


def edit() -> torch.Tensor:
    """float32 ``[1, 3, 630, 680]`` in 0..1: the portrait as an editing model may return it, cropped, enlarged, in other colors, and with
    a face that is no longer hers."""
    drawn = bent(photograph(), *INVENTED_BEND)[..., :420, 50:-8]
    large = F.interpolate(drawn, scale_factor=1.5, mode="bicubic").clamp(0, 1)[..., :680]
    return (large ** torch.tensor([0.85, 0.95, 1.1]).view(3, 1, 1)) * torch.tensor([1.0, 0.97, 0.9]).view(3, 1, 1)


def bent(photo: torch.Tensor, eyes: float, jaw: float, brows: float, nose: float, chin: float) -> torch.Tensor:
    """The portrait ``[1, 3, 512, 512]`` with its features moved smoothly by the given number of pixels."""
    y, x = np.mgrid[: photo.shape[-2], : photo.shape[-1]].astype(np.float32)
    across, down = x - FACE[0], y - FACE[1]

    def near(at_x: float, at_y: float, width: float, height: float) -> np.ndarray:
        return np.exp(-(((across - at_x) / width) ** 2 + ((down - at_y) / height) ** 2) / 2)

    for side in (-1, 1):
        x -= side * (eyes * near(20 * side, -13, 16, 16) + nose * near(8 * side, 8, 9, 9))
        y += brows * near(20 * side, -20, 18, 18)
    x -= jaw * np.tanh(across / 25) * near(0, 40, 60, 22)
    y -= chin * near(0, 55, 50, 22)
    picture = cv2.remap(photo[0].permute(1, 2, 0).numpy(), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].clamp(0, 1)


def sample_album(photo: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Four pictures ``[3, h, w]`` made from the portrait, or from a warped one."""
    photo = photograph() if photo is None else photo

    def view(
        top: int, left: int, side: int, scale: float, gamma: float, gain: tuple[float, float, float], mirrored: bool
    ):
        crop = photo[..., top : top + side, left : left + side]
        crop = F.interpolate(crop, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
        lit = (crop**gamma * torch.tensor(gain).view(1, 3, 1, 1)).clamp(0, 1)
        return (lit.flip(-1) if mirrored else lit)[0].contiguous()

    return [
        view(0, 90, 300, 1.5, 0.85, (1.03, 1.0, 0.96), mirrored=True),
        view(10, 60, 340, 1.2, 1.15, (1.0, 1.0, 1.0), mirrored=False),
        view(0, 110, 250, 1.9, 1.0, (0.97, 1.0, 1.05), mirrored=False),
        view(20, 80, 290, 1.0, 0.9, (1.0, 0.98, 0.95), mirrored=True),
    ]


def load_photographs(folder: Path | None, side: int) -> Iterable[tuple[str, torch.Tensor]]:
    """Name and picture ``[1, 3, H, W]`` of every photograph of a folder and its subfolders, at most ``side`` long; without a
    folder the sample portrait alone. Raises UserError if there is none."""
    if folder is None:
        yield "portrait", shrink(photograph(), side)
        return
    files = pictures_below(folder)
    if not files:
        raise UserError(f"--photos {folder}: there is no picture in it.")
    for path in files:
        yield str(path.relative_to(folder)), shrink(read_picture(path)[None], side)


def shrink(picture: torch.Tensor, side: int) -> torch.Tensor:
    height, width = picture.shape[-2:]
    factor = min(1.0, side / max(height, width))
    size = (round(height * factor), round(width * factor))
    return picture if factor == 1 else F.interpolate(picture, size, mode="bicubic", antialias=True).clamp(0, 1)

"""Soft masks that determine how much of a restored crop is blended into the photograph."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch

from ..faces.align import from_template, warp
from ..faces.outline import covering, outline
from ..pictures.pyramid import each_plane
from ..vocabulary import Face, Size, UserError, enlargement

# In units of the crop's side, for the five-point template of ``lib/faces/align.py``: forehead to chin and cheek to cheek.
CENTRE = (0.500, 0.540)
HALF_AXES = (0.293, 0.367)
FADE = 0.18
# The hulls of ``hull``; the last two have none.
REGIONS = {
    "face": {"forehead": 0.45, "width": 0.0, "neck": 0.0},
    "head": {"forehead": 0.85, "width": 0.3, "neck": 0.15},
    "person": {},
    "crop": {},
}
FEATURES = 0.25  # of the forehead, see ``hull``
MOST_OF_THE_FACE = 0.5
# Of a crop's side: standard deviation of the blur that makes a border fade.
SOFTNESS = 0.03


def face_mask(size: int = 512) -> torch.Tensor:
    """``[1, size, size]`` in 0..1 for an aligned crop: an oval that holds the face and fades out toward hair and neck.

    It ends well inside the crop, so that a warped crop never shows its border.
    """
    at = (torch.arange(size) + 0.5) / size
    x, y = ((at - centre) / half for centre, half in zip(CENTRE, HALF_AXES, strict=True))
    radius = torch.hypot(x[None, :], y[:, None])[None]
    inside = ((1 + FADE - radius) / FADE).clamp(0, 1)
    return inside * inside * (3 - 2 * inside)


def own_mask(face: Face) -> torch.Tensor:
    """``[1, S, S]`` in 0..1, how much of a face's crop is blended back if no other mask is given."""
    return from_template(face, face_mask(face.similarity.size)) if face.mask is None else face.mask


def border_fade(size: int = 512) -> torch.Tensor:
    """``[1, size, size]`` in 0..1: 1 inside an aligned crop, fading to 0 toward its border.

    For external masks, which may extend beyond the crop: its border must never be visible.
    """
    at = (torch.arange(size) + 0.5) / size
    edge = (torch.minimum(at, 1 - at) / FADE).clamp(0, 1)
    edge = edge * edge * (3 - 2 * edge)
    return (edge[None, :] * edge[:, None])[None]


def region_mask(face: Face, region: str, segment: torch.Tensor | None = None) -> torch.Tensor:
    """``[1, S, S]`` in 0..1, which part of a face's crop belongs to a region of REGIONS, fading out within it.

    "face": jaw to hairline; "head": with hair, ears and neck; "person": all that the crop shows; "crop": the whole
    square with a hard edge, which demonstrates the effect of context. segment: ``[1, S, S]`` in the
    crop's frame, 1 where the person is, which bounds the region. Raises UserError for another region.
    """
    if region not in REGIONS:
        raise UserError(f"Masks: region {region!r} is unknown. Choose one of {', '.join(REGIONS)}.")
    size = face.similarity.size
    if region == "crop":
        return torch.ones(1, size, size)
    inside = torch.ones(1, size, size) if region == "person" else hull(outline(face), size, **REGIONS[region])
    if segment is not None:
        inside = inside * segment
    return _softened(inside) * border_fade(size)


def features_mask(face: Face, find: Callable[[Face], np.ndarray] = outline) -> torch.Tensor:
    """``[1, S, S]`` in 0..1: the face's own mask, or, without one, its outline, as ``find`` gives it, up to the middle of the forehead.

    Hair says little about who somebody is, and shows most where it was laid into other hair.
    """
    size = face.similarity.size
    if face.mask is not None:
        return face.mask
    return _softened(hull(find(face), size, FEATURES, 0.0, 0.0)) * border_fade(size)


def hull(points: np.ndarray, size: int, forehead: float, width: float, neck: float) -> torch.Tensor:
    """``[1, size, size]``, 1 inside the hull of a face's outline ``[27, 2]``, stretched.

    forehead: how far it reaches beyond the brows, as a share of the distance of brows and chin (a hairline lies at half of it,
    by the rule that brows and nose divide a face into thirds); width, neck: by what share jaw and chin are moved out.
    """
    jaw, brows = points[:17], points[17:]
    up = brows.mean(0) - jaw[8]
    across = jaw[16] - jaw[0]
    wider = jaw + np.linspace(-1, 1, 17)[:, None] * width / 2 * across - neck * up
    above = brows + forehead * up
    # A forehead narrows: its corners lie over the middles of the brows.
    above[[0, -1]] -= 0.25 * forehead * up
    return torch.from_numpy(covering(np.concatenate([jaw, wider, above]), size))[None]


def segment_of(face: Face, segments: torch.Tensor, size: Size) -> torch.Tensor | None:
    """The segment ``[1, S, S]``, in the face's crop, of the person that the face belongs to; None if there is none.

    segments: ``[N, h, w]`` in 0..1 over the whole photograph of ``size`` (H, W), of one or several people each. Of those that
    hold most of the face the one that holds least besides is taken, so that an instance goes before a group.
    """
    own = hull(outline(face), face.similarity.size, **REGIONS["face"])
    best, least = None, float("inf")
    for segment in segments:
        found = _in_crop(segment, face, size)
        area = float(segment.mean())
        if float((found * own).sum()) > MOST_OF_THE_FACE * float(own.sum()) and area < least:
            best, least = found, area
    return best


def _in_crop(segment: torch.Tensor, face: Face, size: Size) -> torch.Tensor:
    """A mask ``[h, w]`` of a photograph of ``size`` (H, W) as the face's crop ``[1, S, S]`` shows it."""
    matrix = face.similarity.matrix @ enlargement(size[1] / segment.shape[1], size[0] / segment.shape[0])
    return warp(segment[None].float(), matrix, (face.similarity.size,) * 2, border=(0.0,)).clamp(0, 1)


def _softened(mask: torch.Tensor) -> torch.Tensor:
    """``[1, S, S]``, faded out inside of its border."""
    sigma = SOFTNESS * mask.shape[-1]
    blurred = each_plane(lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), mask)
    return (2 * blurred - 1).clamp(0, 1)

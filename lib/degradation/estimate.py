"""Estimates the degradation code of a photograph from a restored face and the damaged one (Face2Scene, 3.2-3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
import torch.nn.functional as F

from ..faces.paste import Region, covered_region, unwarp
from ..vocabulary import Face, FacePairs, Faces, Size, UserError

# Pixels, the paper's smallest face; at the eighth of the resolution, where tokens are made, its grid is 2x2.
SMALLEST = 16
# Windows beside what was filled: shares of the pair's sides, places tried along each, and how much of one may be filled.
WINDOWS, TRIES, HARDLY = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3), 8, 0.002
LARGEST = 384  # pixels: more adds no information about a homogeneous degradation


def face_pair(photo: torch.Tensor, face: Face, filled: torch.Tensor | None = None) -> torch.Tensor | None:
    """Restored and damaged face at the photograph's own scale, ``[6, h, w]`` in 0..1, or None if the face is too small.

    photo: ``[3, H, W]``; filled: ``[1, H, W]``, above 0 where the photograph shows nothing of its own; the pair lies beside it.
    """
    window = None if face.restored is None else pair_window(face, photo.shape[-2:], filled)
    return None if window is None else _pair_in(photo, face, window)


def pair_window(face: Face, size: Size, filled: torch.Tensor | None = None) -> Region | None:
    """Where the pair of a face lies in a photograph of ``size`` (H, W), None if it is too small. filled: as in `face_pair`."""
    x0, y0, x1, y1 = covered_region(face.similarity.inverse, face.similarity.size, size)
    left, top, right, bottom = (round(v) for v in face.box)
    # The corners of a box may be outside a rotated crop; its middle nine tenths are inside.
    inset_x, inset_y = (right - left) // 20, (bottom - top) // 20
    left, right = max(left + inset_x, x0), min(right - inset_x, x1)
    top, bottom = max(top + inset_y, y0), min(bottom - inset_y, y1)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    left, right = max(left, middle_x - LARGEST // 2), min(right, middle_x + LARGEST // 2)
    top, bottom = max(top, middle_y - LARGEST // 2), min(bottom, middle_y + LARGEST // 2)
    if min(right - left, bottom - top) < SMALLEST:
        return None
    if filled is None:
        return left, top, right, bottom
    x, y, width, height = clear_window(filled[0, top:bottom, left:right] > 0)
    return left + x, top + y, left + x + width, top + y + height


def _pair_in(photo: torch.Tensor, face: Face, window: Region) -> torch.Tensor:
    left, top, right, bottom = window
    region, _, (x0, y0, _, _) = unwarp(face.best, face.similarity, photo.shape[-2:])
    restored = region[:, top - y0 : bottom - y0, left - x0 : right - x0]
    return torch.cat([restored, photo[:, top:bottom, left:right]])


def clear_window(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """x, y, width and height of the largest window of a mask ``[h, w]`` that is clear but for ``HARDLY`` of it; windows of the mask's own
    shape are tried. Of none, that of the smallest share."""
    height, width = mask.shape
    plane, best = mask[None, None].float(), (2.0, (0, 0, width, height))
    for share in WINDOWS:
        size = max(round(height * share), SMALLEST), max(round(width * share), SMALLEST)
        step = max((height - size[0]) // TRIES, 1), max((width - size[1]) // TRIES, 1)
        covered = F.avg_pool2d(plane, size, step)[0, 0]
        row, column = divmod(int(covered.argmin()), covered.shape[1])
        least = float(covered[row, column])
        if least < best[0]:
            best = least, (column * step[1], row * step[0], size[1], size[0])
        if least <= HARDLY:
            break
    return best[1]


def face_pairs(
    node: str,
    photos: torch.Tensor,
    faces: Faces,
    face: int = -1,
    one_for_all: bool = False,
    filled: torch.Tensor | None = None,
) -> FacePairs:
    """The pair of the largest restored face of every photograph ``[B, 3, H, W]``.

    face: the only one to use, for all photographs, numbered from 0 through the batch; -1 for any. one_for_all: only the largest
    pair counts, for all photographs. filled: ``[B, 1, H, W]``, see `face_pair`.
    Raises UserError, which begins with the node's name, if there is no such face.
    """
    if face >= len(faces) > 0:
        raise UserError(f"{node}: face {face} does not exist. There are {len(faces)} faces, numbered from 0.")
    frames, numbers = faces.frames, count()
    if face >= 0:
        frames = tuple(tuple(one for one in frame if next(numbers) == face) for frame in frames)
    masks = [None] * len(photos) if filled is None else list(filled)
    pairs = FacePairs(tuple(_largest(*each) for each in zip(photos, frames, masks, strict=True)))
    if pairs.largest is None or not (one_for_all or face >= 0):
        return pairs
    return FacePairs((pairs.frames[pairs.largest],))


def _largest(photo: torch.Tensor, faces: Sequence[Face], filled: torch.Tensor | None) -> torch.Tensor | None:
    restored = [face for face in faces if face.restored is not None]
    best = largest_face(restored, photo.shape[-2:], filled)
    return None if best is None else face_pair(photo, best, filled)


def largest_face(faces: Sequence[Face], size: Size, filled: torch.Tensor | None = None) -> Face | None:
    """The face of a photograph of ``size`` (H, W) that has the largest pair, the first of equal ones; None if all are too small."""

    def area(face: Face) -> int:
        left, top, right, bottom = pair_window(face, size, filled) or (0, 0, 0, 0)
        return (right - left) * (bottom - top)

    best = max(faces, key=area, default=None)
    return best if best is not None and area(best) else None


def pairs_of_pictures(restored: torch.Tensor, damaged: torch.Tensor) -> FacePairs:
    """Pairs of pictures that show the same, ``[B, 3, h, w]`` each: their middle, where that is enough.

    Raises UserError if they differ in number or size, or are too small.
    """
    sizes = [f"{len(one)} of {one.shape[-1]}x{one.shape[-2]} px" for one in (restored, damaged)]
    if restored.shape != damaged.shape:
        raise UserError(
            f"Face Pair from Images: restored has {sizes[0]}, but damaged has {sizes[1]}. Both must show the same faces, pixel "
            "by pixel."
        )
    height, width = restored.shape[-2:]
    if min(height, width) < SMALLEST:
        raise UserError(
            f"Face Pair from Images: the pictures are {width}x{height} px, but at least {SMALLEST} px are needed to see the damage."
        )
    top, left = max(height - LARGEST, 0) // 2, max(width - LARGEST, 0) // 2
    both = torch.cat([restored, damaged], 1)[..., top : top + LARGEST, left : left + LARGEST]
    return FacePairs(tuple(both))


def describe_damage(scalars: dict[str, float]) -> str:
    """Scalars in plain words, worst first within each kind: ``clear blur (about 2.1 px), ...``."""
    blur, noise = scalars["blur_sigma"], scalars["noise_sigma"]
    quality, factor = scalars["jpeg_quality"], scalars["downscale"]
    words = []
    if blur >= 0.6:
        words.append(f"{_grade(blur, 1.3, 2.4)} blur (sigma about {blur:.1f} px)")
    if noise >= 2:
        words.append(f"{_grade(noise, 8, 18)} noise (about {noise:.0f} of 255)")
    if quality < 90:
        words.append(f"{_grade(100 - quality, 30, 50)} JPEG compression (quality about {quality:.0f})")
    if factor >= 1.3:
        words.append(f"enlarged from a smaller picture (about {factor:.1f} times)")
    return ", ".join(words) or "hardly any damage"


def _grade(value: float, clear: float, strong: float) -> str:
    return "strong" if value >= strong else "clear" if value >= clear else "slight"

"""Mask-guided, context-aware pyramid blending of restored faces into a photograph (PerFuSe, supplement).

A Laplacian pyramid is linear, so blending source S into target T with mask M is ``T + collapse(G(M) * L(S - T))``. The
correction vanishes a few pixels outside the mask: only the face's surroundings are computed, nothing else is touched.
"Context" is the content of the source canvas outside the face crop. If it is empty, black leaks across the
mask's edge through the low bands, which is the dark seam of the paper's ablation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..pictures.pyramid import collapse, gaussian_pyramid, laplacian_pyramid
from ..vocabulary import UserError

CONTEXTS = ("target", "lq", "reflect", "off")


@dataclass(frozen=True)
class Patch:
    """A restored face in the photograph's frame.

    region: ``[3, h, w]``; mask: ``[1, h, w]`` in 0..1, how much of it is blended in; valid: ``[1, h, w]`` in 0..1, where it
    has content; box: integers (x0, y0, x1, y1) inside the photograph, with h = y1 - y0 and w = x1 - x0.
    """

    region: torch.Tensor
    mask: torch.Tensor
    valid: torch.Tensor
    box: tuple[int, int, int, int]


def blend_faces(
    target: torch.Tensor,
    patches: Sequence[Patch],
    context: str = "target",
    levels: int = 3,
    reference: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """``[3, H, W]`` with every patch blended in, the largest first; a later one is blended into the result so far.

    Farther than ``2 ** (levels + 1)`` px from every mask, the result equals the target bit for bit.
    context: what surrounds a face's content: "target" the photograph itself; "lq" the same place of ``reference``
    ``[3, H, W]`` (the enlarged input, say); "reflect" its own mirror image; "off" black. Raises UserError for any
    other, and for "lq" without a reference of the target's size. out: where the result is written, so that no third
    picture of the full size is held.
    """
    if context not in CONTEXTS:
        raise UserError(f"Blending: context {context!r} is unknown. Choose one of {', '.join(CONTEXTS)}.")
    if context == "lq" and (reference is None or reference.shape != target.shape):
        raise UserError(
            "Blending: context 'lq' fills the area around a face from a reference picture with the photograph's size "
            f"({target.shape[-1]}x{target.shape[-2]}). Connect one, or choose context 'target'."
        )
    result = target.clone() if out is None else out.copy_(target)
    for patch in sorted(patches, key=lambda patch: patch.mask.numel(), reverse=True):
        rows, columns = _surroundings(patch.box, target.shape, levels)
        below = result[:, rows, columns]
        canvas = _place(torch.cat((patch.region, patch.mask, patch.valid)), patch.box, rows, columns)
        source, mask, valid = canvas[:3], canvas[3:4], _eroded(canvas[4:])
        mask = mask * valid
        if not mask.any():
            continue
        if context == "target":
            fill = below
        elif context == "lq" and reference is not None:
            fill = reference[:, rows, columns]
        elif context == "reflect":
            fill = _mirrored(source, valid > 0)
        else:
            fill = torch.zeros_like(below)
        # valid * source + (1 - valid) * fill - below, in the order that is exactly zero where all three are equal.
        difference = valid * (source - fill) + (fill - below)
        bands = zip(gaussian_pyramid(mask, levels), laplacian_pyramid(difference, levels), strict=True)
        below += collapse([weight * band for weight, band in bands])
    return result


def _surroundings(box: tuple[int, int, int, int], shape: torch.Size, levels: int) -> tuple[slice, slice]:
    """Rows and columns that the pyramid of a box reaches, starting on the coarsest level's sampling grid."""
    reach, grid = 2 ** (levels + 1), 2 ** (levels - 1)
    (x0, y0, x1, y1), (height, width) = box, shape[-2:]
    top, left = (max(side - reach, 0) // grid * grid for side in (y0, x0))
    return slice(top, min(y1 + reach, height)), slice(left, min(x1 + reach, width))


def _place(content: torch.Tensor, box: tuple[int, int, int, int], rows: slice, columns: slice) -> torch.Tensor:
    """The content of ``box`` on a zero canvas of the given rows and columns of the photograph."""
    x0, y0, x1, y1 = box
    return F.pad(content, (x0 - columns.start, columns.stop - x1, y0 - rows.start, rows.stop - y1))


def _eroded(valid: torch.Tensor) -> torch.Tensor:
    """One pixel less on every side but the photograph's own borders: there resampling mixed in what is not the face."""
    return -F.max_pool2d(-valid[None], 3, stride=1, padding=1)[0]


def _mirrored(source: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """``[3, h, w]`` continued beyond ``valid`` by point reflection in the nearest valid pixel."""
    from scipy.ndimage import distance_transform_edt  # takes a while to import

    inside = valid[0].cpu().numpy()
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    limits = np.array(inside.shape)[:, None, None] - 1
    mirror = np.clip(2 * nearest - np.indices(inside.shape), 0, limits)
    rows, columns = np.where(inside[tuple(mirror)], mirror, nearest)
    return source[:, torch.from_numpy(rows), torch.from_numpy(columns)]

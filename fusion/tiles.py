"""Runs a restorer tile by tile and merges the results with Gaussian weights (StableSR, made symmetric)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

VARIANCE = 0.01  # of the Gaussian, in units of the tile's squared side


def tiled(
    apply: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    tile: int,
    overlap: int,
    scale: int = 1,
    multiple: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """``[B, 3, H, W]`` to ``[B, 3, H * scale, W * scale]``, float32 on the CPU.

    apply maps ``[B, 3, h, w]`` to ``[B, 3, h * scale, w * scale]`` and gets every tile in the same size; a picture that
    fits into one tile goes through it as it is. tile and overlap are in input pixels and rounded to multiples of
    ``multiple``, as the tiles' origins are: the network's stride and JPEG's 8x8 grid then lie in every tile as in the
    whole picture. A quarter of the overlap is discarded along the inner borders of a tile, where the network could not
    see its surroundings: a network that looks no farther than that gives what it gives for the whole picture.
    """
    height, width = image.shape[-2:]
    tile = max(tile // multiple, 1) * multiple
    overlap = min(overlap, tile - multiple) // multiple * multiple
    rows, columns = (_spans(side, tile, overlap, multiple) for side in (height, width))
    total = len(rows) * len(columns)
    if total == 1:
        out = apply(image).float().cpu()
        progress(1, 1)
        return out
    row_weights, column_weights = (
        _weights(spans, side, overlap // 4, scale) for spans, side in ((rows, height), (columns, width))
    )
    out = torch.zeros(*image.shape[:2], height * scale, width * scale)
    done = 0
    for (top, bottom), vertical in zip(rows, row_weights, strict=True):
        for (left, right), horizontal in zip(columns, column_weights, strict=True):
            part = image[..., top:bottom, left:right]
            # Only the last tile of a row or column can reach beyond the picture, by less than ``multiple``.
            part = F.pad(part, (0, right - left - part.shape[-1], 0, bottom - top - part.shape[-2]), mode="reflect")
            place = out[..., top * scale : bottom * scale, left * scale : right * scale]
            restored = apply(part)[..., : place.shape[-2], : place.shape[-1]].float().cpu()
            place += restored * vertical[:, None] * horizontal
            done += 1
            progress(done, total)
    return out


def window(size: int) -> torch.Tensor:
    """Gaussian weights ``[size]``, float32, symmetric and positive: 3.7e-6 of the middle at the ends, so never in float16."""
    offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    return torch.exp(-offset.square() / (2 * VARIANCE * size**2))


def _spans(side: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Starts and ends of equal tiles that cover a side; the last one is shifted inwards, onto the grid."""
    if side <= tile:
        return [(0, side)]
    last = -(-(side - tile) // multiple) * multiple
    return [(start, start + tile) for start in [*range(0, last, tile - overlap), last]]


def _weights(spans: list[tuple[int, int]], side: int, margin: int, scale: int) -> list[torch.Tensor]:
    """Each span's window, cut at the picture's border, without the margin at inner borders; all add up to one.

    The weights of a grid of tiles are products, so it is enough to normalise along each side: where only one tile
    remains its weight is exactly one, however small its window is there.
    """
    weights = []
    for start, stop in spans:
        weight = window((stop - start) * scale)
        weight[: margin * scale * (start > 0)] = 0
        if stop < side:
            weight[len(weight) - margin * scale :] = 0
        weights.append(weight[: (side - start) * scale])
    total = torch.zeros(side * scale)
    for (start, _), weight in zip(spans, weights, strict=True):
        total[start * scale : start * scale + len(weight)] += weight
    return [
        weight / total[start * scale : start * scale + len(weight)]
        for (start, _), weight in zip(spans, weights, strict=True)
    ]

"""Runs a restorer tile by tile and merges the results with Gaussian weights (StableSR, made symmetric)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..vocabulary import UserError

log = logging.getLogger(__name__)

VARIANCE = 0.01  # of the Gaussian, in units of the tile's squared side


def tiled(
    apply: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    tile: int,
    overlap: int,
    scale: int = 1,
    multiple: int = 8,
    progress: Callable[[int, int], None] = lambda done, total: None,
    show: Callable[[torch.Tensor, int, int], None] = lambda part, left, top: None,
) -> torch.Tensor:
    """``[B, C, H, W]`` to ``[B, D, H * scale, W * scale]``, float32 on the CPU.

    apply maps ``[B, C, h, w]`` to ``[B, D, h * scale, w * scale]``; a picture that fits into one tile goes through it
    as it is. tile and overlap are in input pixels, rounded down to multiples of ``multiple``. Tiles start at multiples
    of it, so that the network's stride and JPEG's 8x8 grid lie in every tile as in the whole picture. They have one
    size, less up to ``multiple - 1`` px where the picture ends. A quarter of the overlap is discarded along the inner
    borders of a tile: a network that looks no farther than that gives what it gives for the whole picture.
    progress(done, total) is called after every tile and may raise to cancel; before it show(tile, left, top), with the place
    in output pixels.
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
    row_weights, column_weights = (_weights(spans, overlap // 4, scale) for spans in (rows, columns))
    out, done = torch.zeros(0), 0
    for (top, bottom), vertical in zip(rows, row_weights, strict=True):
        for (left, right), horizontal in zip(columns, column_weights, strict=True):
            restored = apply(image[..., top:bottom, left:right]).float().cpu()
            if not done:
                out = torch.zeros(*restored.shape[:2], height * scale, width * scale)
            place = out[..., top * scale : bottom * scale, left * scale : right * scale]
            place += restored * vertical[:, None] * horizontal
            done += 1
            show(restored, left * scale, top * scale)
            progress(done, total)
    return out


class NotEnoughMemory(UserError, torch.OutOfMemoryError):
    """A readable message that still makes ComfyUI unload its models."""


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Inside the context, running out of memory raises NotEnoughMemory, which says that ``what`` did not fit."""
    try:
        yield
    except RuntimeError as error:
        # Graphics cards have their own exception class; the allocators of Linux, Windows and macOS only have messages.
        words = ("can't allocate memory", "not enough memory", "out of memory")
        short = isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in words)
        if not short or isinstance(error, NotEnoughMemory):
            raise
        raise NotEnoughMemory(
            f"There is not enough memory for {what}. Use a smaller picture or scale, or close other programs that use "
            "memory."
        ) from error


def as_memory_allows(run: Callable[[int], torch.Tensor], tile: int, overlap: int, stride: int = 1) -> torch.Tensor:
    """Calls run(tile), with half the tile whenever memory runs out and the overlap still fits; then raises
    NotEnoughMemory.

    stride: pixels of the picture per unit of tile and overlap, for what is said.
    """
    while True:
        try:
            with memory_for(f"tiles of {tile * stride} px"):
                return run(tile)
        except NotEnoughMemory:
            if tile // 2 <= overlap:
                raise
            tile //= 2
            log.warning("Not enough memory: trying again with tiles of %d px.", tile * stride)


def tile_window(size: int) -> torch.Tensor:
    """Gaussian weights ``[size]``, float32: symmetric, positive, 3.7e-6 of the middle's at the ends."""
    offset = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    return torch.exp(-offset.square() / (2 * VARIANCE * size**2))


def _spans(side: int, tile: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Starts and ends of the tiles that cover a side. The last one is shifted inwards, as far as the grid allows."""
    last = -(-max(side - tile, 0) // multiple) * multiple
    return [(start, min(start + tile, side)) for start in [*range(0, last, tile - overlap), last]]


def _weights(spans: list[tuple[int, int]], margin: int, scale: int) -> list[torch.Tensor]:
    """Every span's window without the margin at inner borders, in output pixels; together they sum to one everywhere.

    Tiles form a grid and their weights are products, so it is enough to normalize along each side. Where one tile is
    alone its weight is exactly one, however small its window is there.
    """
    side = spans[-1][1]
    planes = torch.zeros(len(spans), side * scale)
    for plane, (start, stop) in zip(planes, spans, strict=True):
        left = margin if start > 0 else 0
        right = margin if stop < side else 0
        weight = tile_window((stop - start) * scale)
        plane[(start + left) * scale : (stop - right) * scale] = weight[left * scale : len(weight) - right * scale]
    planes /= planes.sum(0)
    return [plane[start * scale : stop * scale] for plane, (start, stop) in zip(planes, spans, strict=True)]

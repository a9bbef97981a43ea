"""Sheets of damaged, masked and filled photographs, and a page on which drawn and real damage are mixed, to be looked at blindly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...lib.pictures.files import to_pil

Bytes = NDArray[np.uint8]

TILE, PAGE_TILE, COLUMNS, PER_SCAN = 384, 320, 5, 2


def row_of(pictures: Sequence[torch.Tensor]) -> list[Bytes]:
    """Pictures ``[1, 3, H, W]``, each at most ``TILE`` pixels long."""
    scaled = []
    for picture in pictures:
        image = to_pil(picture[0])
        image.thumbnail((TILE, TILE))
        scaled.append(np.asarray(image))
    return scaled


def sheet_of(rows: Sequence[Sequence[Bytes]]) -> Bytes:
    """Rows below each other, on black."""
    lines = [np.concatenate([_on_black(one, max(len(one) for one in row), TILE) for one in row], 1) for row in rows]
    width = max((line.shape[1] for line in lines), default=TILE)
    return np.concatenate([_on_black(line, len(line), width) for line in lines] or [np.zeros((1, width, 3), np.uint8)])


def _on_black(picture: Bytes, height: int, width: int) -> Bytes:
    rows, columns = height - picture.shape[0], width - picture.shape[1]
    return np.pad(picture, ((0, rows), (0, columns), (0, 0)))


def mixed_page(drawn: Sequence[torch.Tensor], real: Sequence[torch.Tensor]) -> tuple[Bytes, list[bool]]:
    """Crops of drawn and of real damage in random order, and which of them are real, row by row."""
    rng = np.random.default_rng(0)
    some = [drawn[index] for index in rng.permutation(len(drawn))[: PER_SCAN * len(real)]]
    crops = [(_crop(one, rng), True) for one in real for _ in range(PER_SCAN)] + [
        (_crop(one, rng), False) for one in some
    ]
    order = [crops[index] for index in rng.permutation(len(crops))]
    tiles = [tile for tile, _ in order] + [np.zeros((PAGE_TILE, PAGE_TILE, 3), np.uint8)] * (-len(order) % COLUMNS)
    rows = [np.concatenate(tiles[first : first + COLUMNS], 1) for first in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows), [is_real for _, is_real in order]


def _crop(picture: torch.Tensor, rng: np.random.Generator) -> Bytes:
    """A random square of ``PAGE_TILE`` pixels, on black where the picture is smaller."""
    array = np.asarray(to_pil(picture[0]))
    top, left = (int(rng.integers(0, max(side - PAGE_TILE, 0) + 1)) for side in array.shape[:2])
    return _on_black(array[top : top + PAGE_TILE, left : left + PAGE_TILE], PAGE_TILE, PAGE_TILE)

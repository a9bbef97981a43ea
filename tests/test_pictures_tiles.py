"""Gaussian-windowed tiling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.pictures.tiles import tile_window, tiled


@pytest.mark.parametrize("size", [8, 65, 512])
def test_window_is_symmetric_positive_and_gaussian(size):
    weights = tile_window(size)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, weights.flip(0)) and weights.min() > 0
    x = torch.arange(size, dtype=torch.float64)
    expected = torch.exp(-((x - (size - 1) / 2) ** 2) / (size**2 * 2 * 0.01))
    assert torch.allclose(weights.double(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [65, 72, 128, 199, 257], ids=str)
@pytest.mark.parametrize("tile, overlap", [(64, 0), (96, 32), (72, 500), (50, 7)], ids=str)
def test_a_pointwise_model_gives_what_it_gives_without_tiles(size, tile, overlap):
    image = torch.rand(2, 3, size, 322 - size)
    out = tiled(lambda x: x.square() + 0.1, image, tile, overlap)
    assert (out - (image.square() + 0.1)).abs().max() <= 1e-5


def test_enlarging_models_too():
    image = torch.rand(1, 3, 99, 150)
    out = tiled(lambda x: F.interpolate(x, scale_factor=3), image, 64, 16, scale=3)
    assert (out - F.interpolate(image, scale_factor=3)).abs().max() <= 1e-5


@pytest.mark.parametrize("size", [(64, 64), (31, 64), (1, 1)], ids=str)
def test_a_picture_that_fits_into_a_tile_is_restored_in_one_call_bit_for_bit(size):
    image, calls = torch.rand(1, 3, *size), []

    def apply(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x.sin()

    assert torch.equal(tiled(apply, image, 64, 16), image.sin())
    assert len(calls) == 1 and calls[0] is image


@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_tiles_start_on_the_grid_and_differ_only_where_the_picture_ends(overlap):
    height, width = 203, 150
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.float32).expand(height, width)
    seen = []
    tiled(lambda x: seen.append(x) or x, torch.stack((rows, columns, rows))[None], 64, overlap)
    ends_on_grid = {203: 203 - 144, 150: 150 - 88}
    for x in seen:
        bottom, right = (int(x[0, channel, -1, -1]) + 1 for channel in (0, 1))
        assert x.shape[-2] == ends_on_grid.get(bottom, 64) and x.shape[-1] == ends_on_grid.get(right, 64)
    starts = {(int(x[0, 0, 0, 0]), int(x[0, 1, 0, 0])) for x in seen}
    assert len(starts) == len(seen) and all(y % 8 == 0 and x % 8 == 0 for y, x in starts)


def test_a_pixel_that_one_tile_alone_covers_has_that_tiles_value():
    values = iter(torch.linspace(0.1, 0.9, 9).tolist())
    out = tiled(lambda x: torch.full_like(x, next(values)), torch.rand(1, 3, 150, 150), 64, 16)[0, 0]
    for y, x, expected in ((0, 0, 0.1), (0, -1, 0.3), (-1, 0, 0.7), (-1, -1, 0.9), (75, 75, 0.5)):
        assert abs(out[y, x].item() - expected) < 1e-6


def test_a_network_that_sees_no_farther_than_a_quarter_of_the_overlap_gives_what_it_gives_without_tiles():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.GELU(), torch.nn.Conv2d(8, 3, 3, padding=3, dilation=3)]
    network = torch.nn.Sequential(*layers).requires_grad_(False)
    image = torch.rand(1, 3, 150, 203)
    assert (tiled(network, image, 64, 16) - network(image)).abs().max() <= 1e-5


def test_progress_is_told_after_every_tile_and_may_cancel():
    told = []
    tiled(lambda x: x, torch.rand(1, 3, 100, 100), 64, 16, progress=lambda *state: told.append(state))
    assert told == [(done, 4) for done in range(1, 5)]

    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    calls = []
    with pytest.raises(KeyboardInterrupt):
        tiled(lambda x: calls.append(1) or x, torch.rand(1, 3, 100, 100), 64, 16, progress=cancel)
    assert len(calls) == 1

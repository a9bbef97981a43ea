"""The figures of `bench old` are what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.cli.benchmarks import old
from personal_restore.lib.pictures.metrics import psnr_where, ssim_where


def square(top: int, left: int, side: int = 6) -> np.ndarray:
    mask = np.zeros((40, 40), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def figures(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    return old.found_figures(old.found_counts(true, found))


def test_a_mask_within_two_pixels_counts_as_found_and_one_further_away_does_not():
    true = square(10, 10)
    assert figures(true, square(12, 12)) == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert figures(true, square(10, 30))["f1"] == 0
    assert figures(true, np.zeros_like(true)) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    more = figures(true, square(10, 10) | square(30, 30))
    assert more["precision"] == 0.5 and more["recall"] == 1


def test_a_photograph_counts_in_the_pooled_mask_as_much_as_its_damage():
    heavy, light = square(2, 2, 30), square(10, 10, 2)
    rows = [old.found_counts(heavy, heavy), old.found_counts(light, np.zeros_like(light))]
    pooled = old.pooled({f"pixels_{name}": value for name, value in row.items()} for row in rows)
    assert pooled["precision"] == 1 and pooled["recall"] == pytest.approx(900 / 904, abs=1e-4)


def test_the_area_under_the_curve_is_the_chance_that_damage_scores_higher():
    true = square(10, 10)
    assert old.mask_auc(true.astype(np.float32), true) == 1
    assert old.mask_auc(1 - true.astype(np.float32), true) == 0
    assert old.mask_auc(np.full(true.shape, 0.3, np.float32), true) == 0.5


def test_quality_is_measured_where_it_is_asked_for():
    truth = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    where = torch.from_numpy(square(15, 15))
    worse = torch.where(where, (truth + 0.1).clamp(0, 1), truth)
    assert psnr_where(worse, truth, ~where) == pytest.approx(100) and psnr_where(worse, truth, where) < 23
    assert ssim_where(worse, truth, where) < ssim_where(worse, truth, ~where) <= 1


def test_a_drawn_print_differs_from_its_undamaged_version_only_by_the_damage(astronaut):
    drawn = old.drawn_damage(torch.nn.functional.avg_pool2d(astronaut, 2), 5)
    difference = (drawn.damaged - drawn.print).abs().amax((0, 1)).numpy()
    assert (drawn.damage >= old.DAMAGED).any()
    assert difference[drawn.damage >= 0.5].mean() > 10 * difference[drawn.damage == 0].mean()


def test_opencv_fills_inside_of_the_mask_alone(astronaut):
    picture = torch.nn.functional.avg_pool2d(astronaut, 8)
    mask = np.zeros(picture.shape[-2:], bool)
    mask[20:24, 10:40] = True
    for name in ("telea", "navier_stokes"):
        done = old.FILLERS[name](picture, mask)
        assert torch.equal(done[..., ~torch.from_numpy(mask)], picture[..., ~torch.from_numpy(mask)])
        assert not torch.equal(done, picture)

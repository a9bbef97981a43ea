"""What the benchmarks compute, on pictures small enough to check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.benchmarks import invariance, quality
from personal_restore.benchmarks.quality import Row
from personal_restore.vocabulary import UserError


def row(damaged: float, blind: float, guided: float) -> Row:
    scores = {"damaged": damaged, "blind": blind, "guided": guided, "true pair": guided, "wrong pair": blind - 1}
    return Row("photo", "trial", {method: (value, value / 100) for method, value in scores.items()})


def test_gains_are_over_the_damaged_photograph_and_over_the_blind_restoration():
    rows = [row(20, 22, 23), row(24, 25, 24.5)]
    means = quality.summary(rows)
    assert means["blind"] == {"psnr": 23.5, "ssim": 0.235, "psnr_gain": 1.5, "ssim_gain": 0.015}
    tokens = quality.oracle(rows)
    assert tokens["true pair"] == {"gain": 0.25, "helped": 0.5}
    assert tokens["wrong pair"] == {"gain": -1.0, "helped": 0.0}


def test_crops_are_disjoint_and_the_flattest_quarter_is_left_out():
    side = invariance.CROP + 2 * invariance.MARGIN
    picture = torch.zeros(1, 3, 2 * side, 2 * side)
    for number, (top, left) in enumerate([(0, 0), (0, side), (side, 0)]):
        picture[..., top : top + side, left : left + side] = torch.rand(3, side, side) / 2 + number / 10
    cells = invariance.crops([picture], seed=0)
    assert cells.shape == (3, 3, side, side)
    assert len({float(cell.sum()) for cell in cells}) == 3 and all(cell.std() > 0 for cell in cells)


def test_photographs_too_small_for_crops_are_a_clear_error():
    with pytest.raises(UserError, match="160 px"):
        invariance.crops([torch.rand(1, 3, 100, 400)], seed=0)


def test_a_folder_without_pictures_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="no picture"):
        list(quality.load(tmp_path, 100))


def test_photographs_are_shrunk_to_the_longest_side_and_never_enlarged():
    assert quality.shrink(torch.rand(1, 3, 50, 200), 100).shape == (1, 3, 25, 100)
    assert quality.shrink(torch.rand(1, 3, 50, 60), 100).shape == (1, 3, 50, 60)


@pytest.mark.slow
def test_the_whole_bench_runs_on_the_sample(tmp_path):
    figures = quality.bench(None, side=384, draws=1, target=tmp_path)
    assert set(figures["families"]) == set(quality.FAMILY_NAMES)
    assert figures["families"]["trial"]["guided"]["psnr_gain"] > 0
    assert figures["clean"]["seam"] < 1
    assert np.isfinite(figures["retrieval"]["trial"])
    assert {"figures.json", "grid.png", "invariance.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "trial" in quality.table(figures)

"""What the benchmarks compute, on pictures small enough to check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.cli.benchmarks import blend, context, invariance, quality, token_grid
from personal_restore.cli.benchmarks.quality import Row
from personal_restore.lib import samples
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.embedded import weights


def row(damaged: float, blind: float, guided: float) -> Row:
    scores = {"damaged": damaged, "blind": blind, "guided": guided, "true pair": guided, "wrong pair": blind - 1}
    return Row("photo", "trial", {method: (value, value / 100) for method, value in scores.items()})


def test_gains_are_over_the_damaged_photograph_and_over_the_blind_restoration():
    rows = [row(20, 22, 23), row(24, 25, 24.5)]
    means = quality.quality_summary(rows)
    assert means["blind"] == {"psnr": 23.5, "ssim": 0.235, "psnr_gain": 1.5, "ssim_gain": 0.015, "psnr_gain_error": 0.5}
    tokens = quality.oracle(rows)
    assert tokens["true pair"] == {"gain": 0.25, "helped": 0.5}
    assert tokens["wrong pair"] == {"gain": -1.0, "helped": 0.0}


def test_lpips_is_reported_where_its_network_is_at_hand():
    rows = [Row("photo", "trial", {"damaged": (20, 0.5, 0.4)}), Row("other", "trial", {"damaged": (22, 0.7, 0.2)})]
    assert quality.quality_summary(rows)["damaged"]["lpips"] == 0.3
    assert "lpips" not in quality.quality_summary([row(20, 22, 23)])["damaged"]


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
        list(samples.load_photographs(tmp_path, 100))


def test_photographs_are_shrunk_to_the_longest_side_and_never_enlarged():
    assert samples.shrink(torch.rand(1, 3, 50, 200), 100).shape == (1, 3, 25, 100)
    assert samples.shrink(torch.rand(1, 3, 50, 60), 100).shape == (1, 3, 50, 60)


@pytest.mark.slow
def test_the_whole_bench_runs_on_the_sample(tmp_path):
    figures = quality.bench(None, side=384, draws=1, target=tmp_path)
    assert set(figures["families"]) == set(quality.FAMILY_NAMES)
    assert figures["families"]["trial"]["guided"]["psnr_gain"] > 0
    assert figures["clean"]["seam"] < 1
    assert np.isfinite(figures["retrieval"]["trial"])
    assert {"figures.json", "grid.png", "invariance.png"} <= {path.name for path in tmp_path.iterdir()}
    assert "trial" in quality.table(figures)


def test_figure_s1_without_context_the_seam_is_dark_and_with_it_nothing_changes(tmp_path):
    """The published band: .423 for a flat scene of .5, 6 px wide."""
    figures = context.bench(tmp_path)
    flat = figures["flat"]
    assert flat["off"]["darkest"] == pytest.approx(0.423 - 0.5, abs=0.001) and flat["off"]["band"] == 6
    assert all(flat[name]["largest error"] < 1e-6 for name in ("target", "lq", "reflect"))
    portrait = figures["portrait"]
    assert portrait["target"]["largest error"] == 0 < portrait["lq"]["largest error"] < portrait["off"]["largest error"]
    assert (tmp_path / "context.png").is_file() and "off" in context.table(figures)


def test_blending_holds_two_full_size_pictures_and_costs_what_the_faces_cost():
    small, large = (blend.measure_blend(height, width) for height, width in ((800, 1000), (1600, 2000)))
    assert small["held"] == large["held"] == 2
    assert large["rest"] < 2 * small["rest"]  # loosely: other load disturbs; the benchmark shows it exactly


def test_a_copy_too_many_is_counted():
    photo = torch.rand(3, 100, 100)
    with blend.FullSize(photo.numel()) as held:
        photo.mul_(1)
        view = photo[:, :50]
        kept = [photo.clone(), photo + view.sum()]
    assert held.most == len(kept) == 2


def test_the_finer_grid_of_tokens_has_the_places_of_the_shipped_one_and_those_between():
    extractor = weights.load_embedded(weights.EXTRACTOR)[0]
    pair = torch.rand(1, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        coarse, fine = extractor.fadex(pair), token_grid.finer(extractor).fadex(pair)
        embedded = extractor.mapnet.embed(coarse), token_grid.finer(extractor).mapnet.embed(fine)
    assert coarse.shape[-2:] == (4, 4) and fine.shape[-2:] == (8, 8)
    assert [one.shape[-1] for one in embedded] == [2, 4], "tokens of their own for all of the 4x4"
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
    torch.testing.assert_close(embedded[1][..., ::2, ::2], embedded[0])


def test_the_worth_of_a_finer_grid_is_measured_for_every_size_of_face():
    figures = token_grid.bench(None, 192, 1)
    assert len(figures["gains"]) == len(token_grid.SIDES) * 6
    assert figures["gains"]["96 px, true pair, as it is"]["mean"] > 0
    assert "16 px, own pair, finer over as it is" in token_grid.table(figures)

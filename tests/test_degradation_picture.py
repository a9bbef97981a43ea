"""The gauge and the sheet that compares with the truth."""

from __future__ import annotations

import json

import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.picture import ESTIMATED, PAPER, TRACK, TRUE, damage_sheet, gauge
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes.degradation import CompareWithTruth

HARMLESS = {"blur_sigma": 0.0, "noise_sigma": 0.0, "jpeg_quality": 100.0, "downscale": 1.0}
WORST = {"blur_sigma": 9.0, "noise_sigma": 90.0, "jpeg_quality": 1.0, "downscale": 8.0}


def area(picture: torch.Tensor, colour: tuple[int, int, int]) -> int:
    return int(((picture[0] * 255).round() == torch.tensor(colour).view(3, 1, 1)).all(0).sum())


def test_worse_damage_fills_more_of_the_bars_and_never_leaves_them():
    none, some, most = (gauge(v) for v in (HARMLESS, {**HARMLESS, "noise_sigma": 15.0}, WORST))
    assert none.shape == (1, 3, 184, 420)
    assert area(none, ESTIMATED) < area(some, ESTIMATED) < area(most, ESTIMATED)
    assert area(most, TRACK) == 0


def test_the_truth_is_marked_only_where_it_is_known():
    assert area(gauge(HARMLESS), TRUE) == 0 < area(gauge(None, HARMLESS), TRUE)


def test_the_gauge_of_a_small_picture_is_not_cut_off():
    assert damage_sheet([("truth", torch.rand(1, 3, 64, 64))], gauge(HARMLESS)).shape[-1] >= 420


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (1, 1)])
def test_the_sheet_holds_every_picture_unchanged(size):
    truth, damaged = torch.rand(1, 3, *size).mul(255).round() / 255, torch.zeros(1, 3, *size)
    made = damage_sheet([("damaged", damaged), ("restored", truth), ("truth", truth)], gauge(HARMLESS))
    windows = made[0].unfold(1, size[0], 1).unfold(2, size[1], 1)
    found = (windows - truth[0, :, None, None]).abs().amax((0, 3, 4)) < 1e-3
    assert found.sum() >= 2
    assert area(made, PAPER) > 0


def test_the_node_gives_figures_and_both_damages(astronaut):
    truth = astronaut[..., 100:164, 160:224]
    recipe = FAMILIES["trial"](7)
    images = [x.permute(0, 2, 3, 1) for x in (truth, recipe.apply(truth))]
    out = CompareWithTruth.execute(images[0], images[1], images[0], degradation=recipe)
    figures = json.loads(out.result[1] if hasattr(out, "result") else out.args[1])
    assert figures["quality"]["restored"] == {"psnr": 100.0, "ssim": 1.0}
    assert figures["quality"]["damaged"]["psnr"] < 30
    assert figures["true_damage"] == recipe.summary() and figures["estimated_damage"] is None


def test_pictures_of_another_size_are_refused_by_name():
    images = [torch.rand(1, side, 20, 3) for side in (20, 20, 40)]
    with pytest.raises(UserError, match="restored is 20x40 px, but truth is 20x20"):
        CompareWithTruth.execute(*images)

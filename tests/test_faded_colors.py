"""Faded colors come back, and photographs that have not faded stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation import aging
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.samples import shrink
from personal_restore.models.old_photo import colors
from personal_restore.models.old_photo.colors import estimate_fading, undo_fading
from personal_restore.nodes.faded_colors import FadedColors
from personal_restore.training.old_photo.colors import fit

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "photos"
DYES = {"cyan": 0.45, "magenta": 0.8, "yellow": 0.6}


def stored(picture: torch.Tensor) -> torch.Tensor:
    return (picture * 255).round() / 255


def test_faded_dyes_and_yellowed_paper_are_undone(astronaut):
    truth = shrink(astronaut, 256)[0]
    faded = stored(aging.dye_fading(truth[None], **DYES, yellowing=0.7)[0])
    undone = undo_fading(faded, estimate_fading(faded))
    assert psnr(undone, truth) > psnr(faded, truth) + 3


def test_the_fading_that_was_drawn_is_undone_exactly_but_for_rounding(astronaut):
    truth = shrink(astronaut, 128)[0].clamp(min=0.05)
    faded = aging.dye_fading(truth[None], **DYES, yellowing=1.0)[0]
    true = replace(
        estimate_fading(truth), left=(0.45, 0.8, 0.6), base=(0.02, 0.06, 0.22), veil=np.zeros((6, 6), np.float32)
    )
    assert psnr(undo_fading(faded, true), truth) > 60


def test_a_half_strength_lies_between_and_none_changes_nothing(astronaut):
    truth = shrink(astronaut, 256)[0]
    faded = stored(aging.dye_fading(truth[None], **DYES, yellowing=0.7)[0])
    fading = estimate_fading(faded)
    half, whole = (undo_fading(faded, fading, strength) for strength in (0.5, 1.0))
    assert undo_fading(faded, fading, 0.0) is faded
    assert 0 < (half - faded).abs().mean() < (whole - faded).abs().mean()


@pytest.mark.parametrize("warmth", [0.0, 0.8])
def test_a_gray_or_sepia_print_gets_contrast_and_keeps_its_tone(astronaut, warmth):
    print_ = aging.monochrome(shrink(astronaut, 256), strength=1.0, warmth=warmth).clamp(min=0.05)
    faded = stored(aging.dye_fading(print_, cyan=0.5, magenta=0.5, yellow=0.5, yellowing=0.0)[0])
    fading = estimate_fading(faded)
    undone, gray = undo_fading(faded, fading), undo_fading(faded, fading, neutral=True)
    assert fading.monochrome
    # Measured: 0.22 became 0.13; the print's own black was 0.05.
    assert undone.min() < 0.75 * faded.min() and psnr(undone, print_[0]) > psnr(faded, print_[0]) + 1
    assert colors.is_monochrome(undone.permute(1, 2, 0).numpy())
    torch.testing.assert_close(gray[0], gray[2])
    # Sepia stays warm and gray stays gray, wherever nothing is clipped.
    middle = (undone.amax(0) < 0.95) & (undone.amin(0) > 0.05)
    torch.testing.assert_close((undone[0] / undone[2])[middle], (faded[0] / faded[2])[middle], rtol=0.02, atol=0.02)


def test_what_is_equally_bright_stays_so_and_the_order_of_tones_is_kept():
    ramp = torch.linspace(0.02, 1, 200).expand(3, 40, 200).contiguous()
    fading = replace(
        estimate_fading(ramp), left=(0.5, 0.7, 1.0), base=(0.0, 0.1, 0.2), veil=np.zeros((6, 6), np.float32)
    )
    fading = replace(fading, monochrome=False)
    out = undo_fading(ramp, fading)
    assert (out[..., 1:] >= out[..., :-1]).all() and torch.equal(out[:, 0], out[:, 39])


def test_undamaged_photographs_change_hardly():
    files = [
        PHOTOS / name
        for name in ("kodak/15.png", "human/stock-emotions-a-1.jpg", "pulid/lecun.jpg", "codeformer/00.jpg")
    ]
    if not files[0].exists():
        pytest.skip("the photographs are not here")
    # Of 73 undamaged photographs most stay bit for bit the same, see docs/old_photographs.md.
    pictures = [shrink(read_picture(path)[None], 256)[0] for path in files]
    same = [torch.equal(undo_fading(one, estimate_fading(one)), one) for one in pictures]
    assert sum(same) >= 3


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 5), (40, 300)])
def test_any_size_is_kept_and_the_range_is_0_to_1(size):
    for picture in (torch.rand(3, *size), torch.zeros(3, *size), torch.ones(3, *size)):
        out = undo_fading(picture, estimate_fading(picture))
        assert out.shape == picture.shape and out.isfinite().all() and out.min() >= 0 and out.max() <= 1


def test_the_node_treats_every_photograph_by_itself_and_tells_what_it_found(astronaut):
    truth = shrink(astronaut, 160)
    faded = aging.dye_fading(truth, **DYES, yellowing=0.7)
    batch = torch.cat([truth, faded]).movedim(1, -1)
    out, report = FadedColors.execute(batch, 1.0, False).args
    alone = FadedColors.execute(batch[1:], 1.0, False).args[0]
    assert torch.equal(out[1:], alone) and "Photograph 2: contrast left" in report
    assert torch.equal(FadedColors.execute(batch, 0.0, False).args[0], batch)


def test_a_regression_finds_the_line_that_was_drawn():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(500, 4))
    truth = features @ rng.normal(size=(4, 2)) + 3
    learned = fit([(features, truth)], ridge=1e-3)
    np.testing.assert_allclose(learned(features.astype(np.float32)), truth, atol=1e-3)


def test_a_strongly_toned_print_with_uneven_toning_keeps_its_tone(astronaut):
    """As real ones: the tone varies over the print by more than a gray print's colors differ."""
    print_ = aging.monochrome(shrink(astronaut, 256), strength=1.0, warmth=1.0)[0]
    uneven = print_ * torch.linspace(0.92, 1.08, 256).view(1, 1, -1) ** torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    picture = stored((uneven * torch.tensor([1.0, 0.85, 0.55]).view(3, 1, 1)).clamp(0, 1))
    undone = undo_fading(picture, estimate_fading(picture))
    # The blue veil of a "corrected" sepia print is what would be seen.
    assert (undone[0] >= undone[2]).all()

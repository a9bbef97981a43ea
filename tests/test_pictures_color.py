"""Wavelet and AdaIN colour fixes."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.pictures.color import adain_fix, color_fix, wavelet_fix
from personal_restore.lib.vocabulary import UserError


def test_golden_color_fixes(golden):
    tensors, description = golden("color_fix")
    tolerance = description["tolerance"]["float_atol"]
    checked = 0
    for name, expected in tensors.items():
        case, kind = name.split(".", 1)
        if kind in ("wavelet", "adain"):
            pair = [tensors.get(f"{case}.{role}") for role in ("content", "style")]
            if pair[0] is None:
                pair = [tensors[f"{case}.{role}_u8"] / 255 for role in ("content", "style")]
            assert (color_fix(*pair, kind) - expected).abs().max() <= tolerance, name
        elif kind.startswith("pil_"):
            method, sample = kind.removeprefix("pil_").split("_u8.")
            number = slice(int(sample), int(sample) + 1)
            pair = [tensors[f"{case}.{role}_u8"][number] for role in ("content", "style")]
            # The public code's ToPILImage truncates.
            fixed = (color_fix(*(picture / 255 for picture in pair), method).clamp(0, 1) * 255).byte()
            difference = (fixed[0].permute(1, 2, 0).int() - expected.int()).abs()
            assert difference.max() <= 1 and (difference > 0).float().mean() <= 0.001, name
        else:
            continue
        checked += 1
    assert checked


def test_wavelet_fix_of_a_picture_by_itself_changes_nothing(astronaut):
    assert torch.equal(wavelet_fix(astronaut, astronaut), astronaut)


def test_wavelet_fix_removes_a_colour_cast(astronaut):
    cast = torch.tensor([0.2, -0.1, 0.05]).view(1, 3, 1, 1)
    assert (wavelet_fix(astronaut + cast, astronaut) - astronaut).abs().max() < 1e-5


def test_wavelet_fix_keeps_fine_detail_and_takes_coarse_colour(astronaut):
    style = torch.full_like(astronaut, 0.5)
    fixed = wavelet_fix(astronaut, style)
    assert fixed.mean().item() == pytest.approx(0.5, abs=0.02)

    def fine(x):
        return x[..., 1:] - x[..., :-1]

    assert torch.corrcoef(torch.stack((fine(fixed).flatten(), fine(astronaut).flatten())))[0, 1] > 0.98


def test_adain_fix_matches_mean_and_spread_whatever_the_size(astronaut):
    style = astronaut[..., 100:163, 200:331] * 0.5 + 0.3
    fixed = adain_fix(astronaut, style)
    for dim in ("mean", "std"):
        got, wanted = (getattr(x, dim)(dim=(-2, -1)) for x in (fixed, style))
        assert (got - wanted).abs().max() < 1e-3


@pytest.mark.parametrize("method", ["wavelet", "adain"])
def test_a_single_pixel_and_a_flat_picture_stay_finite(method):
    for size in ((1, 1), (1, 9), (40, 3)):
        assert color_fix(torch.full((1, 3, *size), 0.4), torch.rand(1, 3, *size), method).isfinite().all()


def test_wavelet_fix_of_unlike_sizes_says_what_to_do():
    with pytest.raises(UserError, match="20x10.*30x10.*adain"):
        wavelet_fix(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 30))


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="'sepia'.*wavelet, adain"):
        color_fix(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), "sepia")

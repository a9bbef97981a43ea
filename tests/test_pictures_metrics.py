"""PSNR and SSIM."""

from __future__ import annotations

import math
import re

import pytest
import torch
from personal_restore.lib.pictures.metrics import psnr, ssim
from personal_restore.lib.vocabulary import UserError
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def test_golden_metrics(golden):
    tensors, description = golden("metrics")
    tolerance = description["tolerance"]
    allowed = {"psnr": tolerance["psnr_abs_dB"], "ssim": tolerance["ssim_abs"]}
    allowed_pt = {name: float(re.search(rf"{name} ([0-9.e-]+)", tolerance["pt"])[1]) for name in allowed}
    measures = {"psnr": psnr, "ssim": ssim}
    checked = 0
    for result in description["results"]:
        image, truth = (
            tensors[f"{result['pair']}.{name}"].permute(2, 0, 1).double() / 255 for name in ("img_rgb", "img2_rgb")
        )
        swapped = [x.flip(0) for x in (image, truth)]
        for prefix, numbers, tolerances, epsilon in (("", result, allowed, 0), ("pt.", result["pt"], allowed_pt, 1e-8)):
            for key, expected in numbers.items():
                found = re.fullmatch(r"(swapped_channel_order_)?(psnr|ssim)_(?:(rgb|y)_crop(\d+)|identical)", key)
                if not found:
                    continue
                order, name, space, crop = found.groups()
                pair = [image, image] if space is None else swapped if order else [image, truth]
                options = {"epsilon": epsilon} if name == "psnr" else {}
                got = measures[name](*pair, crop=int(crop or 0), luma=space == "y", **options)
                same = got == math.inf if expected == "inf" else abs(got - expected) <= tolerances[name]
                assert same, (result["pair"], prefix + key, got, expected)
                checked += 1
    assert checked


def test_both_agree_with_scikit_image(astronaut):
    noisy = (astronaut[0] + 0.1 * torch.randn(3, 512, 512, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    pair = noisy.double().numpy(), astronaut[0].double().numpy()
    as_published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(*pair, channel_axis=0, data_range=1, **as_published)
    assert ssim(noisy, astronaut[0]) == pytest.approx(expected, abs=1e-12)
    assert psnr(noisy, astronaut[0]) == pytest.approx(peak_signal_noise_ratio(*pair, data_range=1), abs=1e-12)


def test_a_batch_scores_the_mean_of_its_pictures():
    image, truth = torch.rand(2, 3, 3, 20, 31)
    for measure in (psnr, ssim):
        assert measure(image, truth) == pytest.approx(sum(map(measure, image, truth)) / 3)


def test_equal_pictures_are_infinitely_good_unless_an_epsilon_bounds_them():
    image = torch.rand(3, 16, 16)
    assert psnr(image, image) == math.inf
    assert psnr(image, image, epsilon=1e-8) == pytest.approx(80)
    assert ssim(image, image) == pytest.approx(1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (10, 10), (11, 4)], ids=str)
def test_small_pictures_are_measured_too(size):
    image, truth = torch.rand(2, 3, *size)
    assert math.isfinite(psnr(image, truth))
    assert -1 <= ssim(image, truth) < ssim(truth, truth) == pytest.approx(1)


def test_what_cannot_be_compared_is_a_clear_error():
    with pytest.raises(UserError, match=r"\[3, 8, 9\] and \[3, 8, 8\]"):
        psnr(torch.rand(3, 8, 9), torch.rand(3, 8, 8))
    with pytest.raises(UserError, match="crop of 4 px leaves nothing of 9x8"):
        ssim(torch.rand(3, 8, 9), torch.rand(3, 8, 9), crop=4)

"""Published families of degradations: what they draw, how often, and how strong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.pfstorer import pfstorer_heavy, pfstorer_light
from personal_restore.lib.degradation.recipe import Recipe, Step
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.training import procedural

DRAWS = 5000


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    drawn = np.stack([procedural.draw_picture(10_000 + seed, 160) for seed in range(10)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255


def share(recipes: list[Recipe], has) -> float:
    return sum(any(has(step) for step in recipe.steps) for recipe in recipes) / len(recipes)


def near(value: float, probability: float) -> bool:
    return abs(value - probability) < 4 * math.sqrt(probability * (1 - probability) / DRAWS)


def is_a(operator: str):
    return lambda step: step.operator == operator


def test_pfstorers_light_draws_have_the_published_frequencies():
    recipes = [pfstorer_light(seed) for seed in range(DRAWS)]
    assert near(share(recipes, is_a("gaussian_noise")), 0.4)
    assert near(share(recipes, is_a("resize")), 0.7)
    assert share(recipes, is_a("blur")) == share(recipes, is_a("jpeg")) == 1
    noise = [s.parameters["sigma"] for r in recipes for s in r.steps if s.operator == "gaussian_noise"]
    scales = [s.parameters["scale"] for r in recipes for s in r.steps if s.operator == "resize"]
    assert min(noise) >= 0 and 1.9 < max(noise) <= 2
    assert 0.25 <= min(scales) < 0.26 and max(scales) <= 1


def test_pfstorers_heavy_draws_have_the_published_frequencies():
    recipes = [pfstorer_heavy(seed) for seed in range(DRAWS)]
    for operator, probability in (("sensor_noise", 0.5), ("motion_blur", 0.05), ("median_blur", 0.1), ("sinc", 0.8)):
        assert near(share(recipes, is_a(operator)), probability), operator
    twice = sum(sum(step.operator == "jpeg" for step in recipe.steps) == 2 for recipe in recipes) / DRAWS
    assert near(twice, 0.9)


def test_every_tenth_kernel_of_the_second_order_pipeline_rings_and_the_last_filter_mostly_does():
    recipes = [FAMILIES["realesrgan"](seed) for seed in range(DRAWS)]
    first = sum(recipe.steps[0].operator == "sinc" for recipe in recipes) / DRAWS
    last = sum("sinc" in (recipe.steps[-1].operator, recipe.steps[-2].operator) for recipe in recipes) / DRAWS
    assert near(first, 0.1)
    assert near(last, 0.8)


@pytest.mark.parametrize(("family", "factor"), [("s3diff", 1), ("s3diff_x2", 2), ("s3diff_x4", 4)])
def test_the_second_order_pipeline_ends_at_the_size_of_the_small_picture(family, factor):
    for seed in range(50):
        resizes = [s for s in FAMILIES[family](seed).steps if s.operator == "resize"]
        assert resizes[-1].parameters["scale"] == 1 / factor


@pytest.mark.parametrize(
    ("family", "blur", "downscale", "noise", "quality"),
    [
        ("codeformer", (1, 15), (4, 30), (0, 20), (30, 80)),
        ("diffbir", (0.1, 12), (1, 12), (0, 15), (30, 100)),
        ("dual_pivot", (0.1, 10), (0.8, 8), (0, 20), (60, 100)),
        ("faceme", (0.2, 10), (1, 16), (0, 15), (30, 100)),
    ],
)
def test_face_families_stay_in_their_published_ranges(family, blur, downscale, noise, quality):
    for seed in range(300):
        steps = {step.operator: step.parameters for step in FAMILIES[family](seed).steps}
        assert list(steps) == ["blur", "resize", "gaussian_noise", "jpeg"]
        assert blur[0] <= steps["blur"]["sigma_x"] <= blur[1] and steps["blur"]["size"] == 41
        assert downscale[0] <= 1 / steps["resize"]["scale"] <= downscale[1]
        assert noise[0] <= steps["gaussian_noise"]["sigma"] <= noise[1]
        assert quality[0] <= steps["jpeg"]["quality"] <= quality[1]


def test_heavy_damage_is_worse_than_light_damage(pictures):
    light, heavy = (
        np.mean([psnr(draw(seed).apply(pictures), pictures) for seed in range(12)])
        for draw in (pfstorer_light, pfstorer_heavy)
    )
    assert light > heavy + 0.5


@pytest.mark.parametrize(
    "step",
    [
        lambda value: Step("resize", {"scale": 1 / (1 + value), "mode": "area"}),
        lambda value: Step("gaussian_noise", {"sigma": 4 * value, "gray": False}),
    ],
)
def test_more_of_one_damage_is_worse(pictures, step):
    scores = [
        psnr(Recipe((step(value), Step("jpeg", {"quality": 90}))).apply(pictures), pictures) for value in range(5)
    ]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 5


@pytest.mark.parametrize(
    "step",
    [
        Step("blur", {"size": 41, "sigma_x": 0.1, "sigma_y": 0.1, "angle": 0.0}),
        Step("resize", {"scale": 0.1, "mode": "bicubic"}),
        Step("jpeg", {"quality": 30}),
        Step("diff_jpeg", {"quality": 100}),
        Step("varying_blur", {"size": 21, "centre": 0.1, "corner": 6.0}),
        Step("sensor_noise", {"red": 2.4, "blue": 1.9, "shot": 0.012, "read": 1e-3}),
        Step("poisson_noise", {"scale": 3.0, "gray": True}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 33), (31, 17)])
def test_extreme_parameters_keep_size_and_range(step, size):
    for value in (0.0, 1.0, None):
        picture = torch.rand(1, 3, *size) if value is None else torch.full((1, 3, *size), value)
        out = Recipe((step,)).apply(picture)
        assert out.shape == picture.shape and out.isfinite().all() and out.min() >= 0 and out.max() <= 1


def high_frequencies(pictures: torch.Tensor) -> float:
    spectrum = torch.fft.rfft2(pictures.mean(1)).abs() ** 2
    return float(spectrum[:, 40:-40, 40:].mean())


def test_the_four_presets_are_as_the_paper_describes_them(pictures):
    damaged = {name: FAMILIES[name](0).apply(pictures) for name in ("d1", "d2", "d3", "d4")}
    for name, out in damaged.items():
        assert torch.equal(out, FAMILIES[name](123).apply(pictures))
    assert psnr(damaged["d3"], pictures) > 35
    energy = {name: high_frequencies(out) for name, out in damaged.items()}
    assert min(energy, key=energy.get) == "d1"


def test_a_lens_blurs_the_corners_more_than_the_middle():
    grating = (torch.arange(200) % 4 < 2).float().expand(1, 3, 200, 200)
    out = Recipe((Step("varying_blur", {"size": 21, "centre": 0.3, "corner": 2.0}),)).apply(grating)

    def contrast(part):
        return float(part.std())

    middle, edge, corner = out[..., 90:110, 90:110], out[..., 90:110, :20], out[..., :20, :20]
    assert contrast(middle) > contrast(edge) + 0.05 > contrast(corner) + 0.1


def test_a_camera_keeps_colours_and_adds_noise():
    flat = torch.tensor([0.6, 0.4, 0.2]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    out = Recipe((Step("sensor_noise", {"red": 2.1, "blue": 1.7, "shot": 1e-3, "read": 1e-5}),)).apply(flat)
    torch.testing.assert_close(out.mean((2, 3)), flat.mean((2, 3)), atol=0.01, rtol=0)
    assert 0.005 < out.std((2, 3)).mean() < 0.1

"""Operators and recipes of degradation."""

from __future__ import annotations

import json

import pytest
import torch
from personal_restore.lib.degradation import operators
from personal_restore.lib.degradation.estimate import describe_damage
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.recipe import Recipe, Step
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import UserError


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recipe_through_json_gives_the_same_bytes(family, astronaut):
    recipe = FAMILIES[family](11)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert torch.equal(again.apply(astronaut), recipe.apply(astronaut))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7), (64, 65)])
def test_any_size_is_kept_and_the_range_is_0_to_1(family, size):
    picture = torch.rand(2, 3, *size)
    for seed in range(8):
        out = FAMILIES[family](seed).apply(picture)
        assert out.shape == picture.shape
        assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1


def test_two_pictures_under_one_recipe_see_the_same_kernel_scale_and_quality(astronaut):
    noiseless = Recipe(tuple(step for step in FAMILIES["trial"](3).steps if "noise" not in step.operator), 3)
    together = noiseless.apply(torch.cat([astronaut, astronaut.flip(2)]))
    assert torch.equal(together[:1], noiseless.apply(astronaut))
    assert torch.equal(together[1:], noiseless.apply(astronaut.flip(2)))


def test_seeds_differ_and_repeat(astronaut):
    draw = FAMILIES["trial"]
    assert draw(1) == draw(1) and draw(1) != draw(2)


def test_everyday_damage_lies_in_the_published_ranges():
    summaries = [FAMILIES["trial"](seed).summary() for seed in range(2000)]
    for name, low, high in [
        ("blur_sigma", 0.14, 3.5),
        ("noise_sigma", 0, 30),
        ("jpeg_quality", 30, 95),
        ("downscale", 1, 4),
    ]:
        values = [summary[name] for summary in summaries]
        assert low <= min(values) and max(values) <= high
    share = sum(summary["noise_sigma"] > 0 for summary in summaries) / 2000
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 2000) ** 0.5


def test_light_damage_is_lighter_than_everyday_damage_and_that_than_real_esrgans(astronaut):
    mean = {
        family: sum(psnr(FAMILIES[family](seed).apply(astronaut), astronaut) for seed in range(6)) / 6
        for family in ("light", "trial", "realesrgan")
    }
    assert mean["light"] > 30 > mean["trial"] > mean["realesrgan"]


def test_kernels_sum_to_one_and_keep_constants():
    flat = torch.full((1, 3, 40, 40), 0.3)
    for kernel in (
        operators.gaussian_kernel(21, 2, 1, 0.7),
        operators.gaussian_kernel(9, 3, 3, beta=0.5),
        operators.gaussian_kernel(13, 1, 2, 0.3, beta=1.5, plateau=True),
        operators.sinc_kernel(15, 1.2),
    ):
        assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(operators.filter2d(flat, kernel), flat, atol=1e-5, rtol=0)


def test_an_isotropic_blur_has_the_sigma_it_says():
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    out = operators.blur(point, size=21, sigma_x=2.0, sigma_y=2.0)[0, 0]
    offset = torch.arange(41.0) - 20
    assert (out.sum(0) * offset**2).sum().sqrt().item() == pytest.approx(2.0, abs=0.02)


def test_noise_has_the_sigma_it_says_and_grey_noise_is_grey():
    flat = torch.full((1, 3, 200, 200), 0.5)
    generator = torch.Generator().manual_seed(0)
    noise = operators.gaussian_noise(flat, sigma=10, gray=True, generator=generator) - flat
    assert (noise.std() * 255).item() == pytest.approx(10, rel=0.03)
    assert torch.equal(noise[:, 0], noise[:, 1])


def test_the_summary_adds_blurs_in_squares_at_the_scale_where_they_act():
    blur = Step("blur", {"size": 9, "sigma_x": 1.0, "sigma_y": 1.0, "angle": 0.0})
    half = Step("resize", {"scale": 0.5, "mode": "area"})
    summary = Recipe((blur, half, blur, Step("jpeg", {"quality": 40}), Step("jpeg", {"quality": 80}))).summary()
    assert summary == {"blur_sigma": pytest.approx(5**0.5), "noise_sigma": 0.0, "jpeg_quality": 40.0, "downscale": 2.0}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": [{"sigma": 1}]}', '{"steps": [{"operator": "erase"}]}'])
def test_what_is_no_recipe_is_a_clear_error(text):
    with pytest.raises(UserError, match="degradation recipe"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    "step",
    [
        {"operator": "blur", "size": 9},
        {"operator": "blur", "size": 9, "sigma_x": 0, "sigma_y": 0},
        {"operator": "resize", "mode": "area"},
        {"operator": "resize", "scale": 0.5, "mode": "magic"},
        {"operator": "median_blur", "size": 4},
        {"operator": "jpeg", "quality": 0},
        {"operator": "gaussian_noise", "sigma": "much", "gray": False},
    ],
)
def test_a_step_that_cannot_be_meant_is_named(step):
    with pytest.raises(UserError, match=f"step 1 .{step['operator']}"):
        Recipe.from_json(json.dumps({"steps": [{"operator": "jpeg", "quality": 90}, step]})).apply(
            torch.rand(1, 3, 16, 16)
        )


def test_recipes_are_plain_json():
    data = json.loads(FAMILIES["s3diff"](5).to_json())
    assert data["name"] == "s3diff" and all("operator" in step for step in data["steps"])


def test_damage_is_described_in_plain_words():
    words = describe_damage({"blur_sigma": 2.6, "noise_sigma": 1.0, "jpeg_quality": 95.0, "downscale": 1.0})
    assert words == "strong blur (sigma about 2.6 px)"
    assert (
        describe_damage({"blur_sigma": 0.1, "noise_sigma": 0.0, "jpeg_quality": 97.0, "downscale": 1.0})
        == "hardly any damage"
    )


@pytest.mark.parametrize(
    "recipe",
    [
        '{"seed": 1e80, "steps": []}',
        '{"seed": Infinity, "steps": []}',
        '{"seed": NaN, "steps": []}',
        '{"seed": -1, "steps": []}',
        '{"steps": ' + "[" * 50_000,
        '{"steps": []' + " " * 200_000 + "}",
        json.dumps({"steps": [{"operator": "jpeg", "quality": 50}] * 101}),
        '{"steps": [{"operator": "blur", "size": 15001, "sigma_x": 1, "sigma_y": 1}]}',
        '{"steps": [{"operator": "blur", "size": 21, "sigma_x": NaN, "sigma_y": 1}]}',
        '{"steps": [{"operator": "blur", "size": "big", "sigma_x": 1, "sigma_y": 1}]}',
        '{"steps": [{"operator": "resize", "scale": 40, "mode": "bicubic"}]}',
        '{"steps": [{"operator": "resize", "scale": 0, "mode": "bicubic"}]}',
        '{"steps": [{"operator": "gaussian_noise", "sigma": Infinity, "gray": true}]}',
        '{"steps": [{"operator": "unsharp_mask", "radius": 100000}]}',
        '{"steps": [{"operator": "' + "x" * 5000 + '"}]}',
    ],
)
def test_a_recipe_without_bounds_is_refused_with_words_before_it_is_applied(recipe):
    with pytest.raises(UserError, match="degradation recipe") as error:
        Recipe.from_json(recipe)
    assert len(str(error.value)) < 600


def test_enlarging_steps_together_do_not_fill_the_memory():
    steps = [{"operator": "resize", "scale": 4, "mode": "bicubic"}]
    with pytest.raises(UserError, match="step 0.*too large"):
        Recipe.from_json(json.dumps({"steps": steps})).apply(torch.zeros(1, 1, 1, 1).expand(1, 3, 2100, 2100))


def test_every_recipe_that_a_family_draws_is_within_the_bounds():
    for name, draw in FAMILIES.items():
        for seed in range(40):
            recipe = draw(seed)
            assert Recipe.from_json(recipe.to_json()) == recipe, name

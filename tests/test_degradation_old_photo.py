"""Drawn damage of old photographs: every kind changes what it should, where it says, and repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation import aging
from personal_restore.lib.degradation.layers import LAYERS
from personal_restore.lib.degradation.old_photo import draw_old_photo, local_damage
from personal_restore.lib.degradation.recipe import OPERATORS, Recipe, Step

SIDE = 192
LOCAL: dict[str, dict[str, float]] = {
    "scratches": {
        **{"count": 6, "length": 0.5, "thickness": 0.01, "angle": 0.5, "spread": 0.2, "bend": 0.2, "breaks": 0.2},
        **{"tone": 1.0, "opacity": 1.0, "halo": 0.0, "warmth": 0.0},
    },
    "folds": {
        **{"count": 2, "thickness": 0.02, "lost": 1.0, "branches": 2, "shade": 0.0, "tone": 1.0, "opacity": 1.0},
        "warmth": 0.0,
    },
    "dust": {"count": 40, "thickness": 0.012, "fibers": 0.2, "tone": 1.0, "opacity": 1.0, "warmth": 0.0},
    "fingerprints": {"count": 2, "length": 0.5, "period": 6.0, "tone": 1.0, "opacity": 0.5},
    "stains": {"count": 3, "length": 0.4, "opacity": 0.0, "rim": 1.0, "warmth": 1.0},
    "flaking": {"share": 0.02, "length": 0.03, "tone": 1.0, "opacity": 1.0, "warmth": 0.0},
    "torn": {
        **{"corners": 1, "length": 0.3, "margin": 0.01, "rounding": 0.05, "edge": 0.01, "tone": 0.0, "warmth": 0.0}
    },
}
GLOBAL: dict[str, dict[str, float]] = {
    "dye_fading": {"cyan": 0.4, "magenta": 0.8, "yellow": 0.7, "yellowing": 0.5},
    "uneven_fading": {"seed": 1, "strength": 0.5, "tone": 0.9, "warmth": 0.5},
    "monochrome": {"strength": 1.0, "warmth": 0.7},
    "vignette": {"strength": 0.5, "reach": 0.3},
    "film_grain": {"seed": 1, "sigma": 6.0, "clump": 1.5},
    "paper_texture": {"seed": 1, "strength": 0.5, "period": 4.0, "weave": 0.5},
    "halftone": {"period": 4.0, "angle": 0.4, "inks": 3, "strength": 0.5},
    "moire": {"seed": 1, "period": 9.0, "angle": 0.4, "strength": 0.5},
}


def step(kind: str, seed: int = 3, **other: float) -> Step:
    return Step(kind, {"seed": seed, **LOCAL[kind], **other})


def test_every_kind_of_local_damage_is_tried_here():
    assert set(LOCAL) == set(LAYERS) and set(GLOBAL) < set(OPERATORS)


@pytest.mark.parametrize("kind", LOCAL)
def test_local_damage_changes_the_picture_where_it_says_and_nowhere_else(kind):
    gray = torch.full((1, 3, SIDE, SIDE), 0.5)
    covered = local_damage((step(kind),), SIDE, SIDE)
    changed = (Recipe((step(kind),)).apply(gray) - gray).abs().amax((0, 1)).numpy()
    assert covered.shape == (SIDE, SIDE) and covered.dtype == np.float32
    assert covered.min() >= 0 and covered.max() <= 1
    assert 0.002 < (covered > 0.3).mean() < 0.6
    assert changed[covered == 0].max() < 1e-6
    assert changed[covered > 0.3].mean() > 0.1


@pytest.mark.parametrize("kind", LOCAL)
def test_another_seed_draws_other_damage_and_the_same_seed_the_same(kind):
    first, again, other = (local_damage((step(kind, seed),), SIDE, SIDE) for seed in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("kind", LOCAL)
def test_damage_is_as_large_in_a_picture_of_twice_the_size(kind):
    shares = [
        np.mean([local_damage((step(kind, seed),), side, side).mean() for seed in range(8)]) for side in (128, 256)
    ]
    assert shares[0] == pytest.approx(shares[1], rel=0.35)


@pytest.mark.parametrize("kind", GLOBAL)
def test_global_damage_changes_the_picture_and_counts_as_no_local_damage(kind, astronaut):
    steps = (Step(kind, GLOBAL[kind]),)
    assert local_damage(steps, 64, 80).max() == 0
    assert (Recipe(steps).apply(astronaut) - astronaut).abs().mean() > 0.005


def test_local_damage_of_a_picture_that_is_scaled_before_lies_where_it_shows():
    steps = (Step("resize", {"scale": 0.5, "mode": "area"}), step("folds"))
    gray = torch.full((1, 3, SIDE, SIDE), 0.3)
    changed = (Recipe(steps).apply(gray) - gray).abs().amax((0, 1)).numpy()
    covered = local_damage(Recipe(steps), SIDE, SIDE)
    assert np.corrcoef(changed.ravel(), covered.ravel())[0, 1] > 0.95


def test_a_heavier_photograph_is_more_damaged():
    shares = [
        np.mean(
            [(local_damage(draw_old_photo(np.random.default_rng(i), heavy, 64, 64), 64, 64)).mean() for i in range(24)]
        )
        for heavy in (0.0, 0.5, 1.0)
    ]
    assert shares[0] < 0.6 * shares[1] < 0.6 * shares[2]


def test_the_same_generator_draws_the_same_steps():
    one, two = (draw_old_photo(np.random.default_rng(5), 0.7, 256, 256) for _ in range(2))
    assert one == two


def test_faded_cyan_dye_leaves_a_red_cast_and_sepia_has_no_color_of_its_own():
    gray = torch.full((1, 3, 4, 4), 0.25)
    red, green, blue = aging.dye_fading(gray, cyan=0.5, magenta=1.0, yellow=1.0, yellowing=0.0)[0, :, 0, 0].tolist()
    assert red == pytest.approx(0.5, abs=0.01) and green == blue == pytest.approx(0.25, abs=0.01)
    colored = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    sepia = aging.monochrome(colored, strength=1.0, warmth=1.0)
    same_light = aging.monochrome(
        (colored * aging.LUMA).sum(1, keepdim=True).expand(1, 3, 8, 8), strength=1.0, warmth=1.0
    )
    torch.testing.assert_close(sepia, same_light, atol=1e-5, rtol=0)
    assert (sepia[:, 0] >= sepia[:, 1]).all() and (sepia[:, 1] >= sepia[:, 2]).all()

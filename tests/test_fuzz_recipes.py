"""Recipes of damage that nobody would draw: applied to a finite picture in 0..1, or refused with words."""

from __future__ import annotations

import json

import torch
from hypothesis import example
from hypothesis import strategies as st
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.picture import gauge
from personal_restore.lib.degradation.recipe import BOUNDS, OPERATORS, Recipe
from personal_restore.tests.fuzzing import NUMBERS, TEXTS, VALUES, changed, fuzzed, refused_with_words

PICTURE = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
DRAWN = st.builds(
    lambda family, seed: json.loads(FAMILIES[family](seed).to_json()),
    st.sampled_from(list(FAMILIES)),
    st.integers(0, 99),
)
VALUE = st.one_of(st.floats(0, 4), st.integers(0, 9), NUMBERS, VALUES)
NAMES = st.sampled_from([*BOUNDS, "grey", "gray", "mode", "isotropic", "seed", "generator", "image", "self"])
STEPS = st.builds(
    lambda operator, rest: {**rest, "operator": operator},
    st.sampled_from(list(OPERATORS)),
    st.dictionaries(NAMES, VALUE, max_size=5),
)
RECIPES = st.one_of(
    changed(DRAWN),
    changed(DRAWN, VALUE),
    st.fixed_dictionaries({"steps": st.lists(STEPS, max_size=3)}, optional={"seed": NUMBERS, "name": TEXTS}),
    VALUES,
)


FLAT = {"operator": "blur", "size": 15, "sigma_x": 1.2, "sigma_y": 0.0, "angle": 0.4, "beta": 1.5, "plateau": True}


@example(recipe={"steps": [FLAT]})
@example(recipe={"steps": [FLAT | {"sigma_x": 0}]})
@example(recipe={"steps": [FLAT | {"plateau": False, "angle": 0}]})
@fuzzed("recipes", 150, recipe=RECIPES)
def test_a_recipe_is_applied_or_refused(recipe):
    with refused_with_words():
        drawn = Recipe.from_json(json.dumps(recipe))
        damaged = drawn.apply(PICTURE)
        assert damaged.shape == PICTURE.shape and torch.isfinite(damaged).all()
        assert damaged.min() >= 0 and damaged.max() <= 1
        gauge(None, drawn.summary())
        assert Recipe.from_json(drawn.to_json()) == drawn


@fuzzed(
    "texts of recipes",
    60,
    text=st.one_of(
        TEXTS, DRAWN.map(json.dumps).flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end]))
    ),
)
def test_a_text_that_is_no_recipe_is_refused(text):
    with refused_with_words():
        Recipe.from_json(text)

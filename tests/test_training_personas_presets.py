"""The published settings of every method, stage by stage."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes.personas import TrainPersona
from personal_restore.tests.tiny_base import BASE
from personal_restore.training.personas import presets
from personal_restore.training.personas.make import make_persona
from personal_restore.training.personas.methods import METHODS, Material, Settings
from personal_restore.training.personas.presets import PRESETS, settings_of_stages
from personal_restore.training.personas.prior import has_prior
from personal_restore.training.personas.run import _Watch


def published(method: str, preset: str = "published") -> list[Settings]:
    return settings_of_stages(Settings(method, preset=preset, seed=7, noun="woman"))


def test_the_published_settings_are_those_of_the_papers_and_their_code():
    """Dual-Pivot Tuning: 2500 steps at 1e-6 with prior preservation, then 800 at 5e-5 on 150 tensors; gen2res: 5000, or 3000 on a
    generative album, batch 4, 1e-5; PFStorer: 500 steps, lambda_Gen .1, gates that learn."""
    pivot, model = published("dual_pivot")
    assert (pivot.steps, pivot.learning_rate, pivot.rank, pivot.prior_weight, pivot.low_memory) == (
        2500,
        1e-6,
        0,
        1.0,
        True,
    )
    assert (model.steps, model.learning_rate, model.batch, model.first) == (800, 5e-5, 1, 150)
    (album,), (generative,) = published("album"), published("album", "published, generative album")
    assert (album.steps, generative.steps) == (5000, 3000)
    assert all((one.batch, one.learning_rate, one.rank) == (4, 1e-5, 0) for one in (album, generative))
    (adapter,) = published("adapter")
    assert (adapter.steps, adapter.generation_weight, adapter.gate, adapter.damage) == (
        500,
        0.1,
        None,
        "pfstorer_heavy",
    )
    assert adapter.intact == 0.03
    (fixed,), (context,) = (
        published("adapter", "published, fixed gates"),
        published("textual_pivot", "published, in context"),
    )
    assert fixed == replace(adapter, preset=fixed.preset, gate=1.0)
    assert context == replace(
        published("textual_pivot")[0], preset=context.preset, in_context=True, damage="dual_pivot"
    )
    assert [one.in_context for one in published("dual_pivot", "published, in context")] == [True, False]
    assert all(one.seed == 7 and one.noun == "woman" for one in (pivot, model, album, generative, adapter))


def test_every_method_has_every_preset_that_the_node_offers_and_own_changes_nothing():
    (offered,) = (one.options["options"] for one in TrainPersona.define_schema().inputs if one.id == "preset")
    assert tuple(offered) == PRESETS
    for method in METHODS:
        own = Settings(method, steps=3)
        assert settings_of_stages(own) == [own] * len(METHODS[method])
        assert len(published(method)) == len(published(method, "quick")) == len(METHODS[method])
        assert all(one.damage in FAMILIES for preset in ("published", "quick") for one in published(method, preset))
    with pytest.raises(UserError, match="is for the method album, not adapter"):
        published("adapter", "published, generative album")
    with pytest.raises(UserError, match="there is no preset 'best'"):
        published("album", "best")


def test_the_prior_is_made_where_the_preset_asks_for_it():
    own = Settings("dual_pivot", prior_weight=0.0)
    assert not has_prior(own) and has_prior(replace(own, preset="published"))
    assert not has_prior(replace(own, preset="quick", prior_weight=1.0)) and not has_prior(
        Settings("album", preset="published")
    )


def test_stages_of_unequal_length_are_trained_counted_and_written_down(net, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PER_STAGE, "textual_pivot", presets.TEXTUAL_PIVOT | {"steps": 2, "prior_weight": 0.0})
    monkeypatch.setitem(
        presets.PER_STAGE, "model_pivot", presets.MODEL_PIVOT | {"steps": 1, "first": 3, "damage": "mild"}
    )
    settings, told = Settings("dual_pivot", preset="published"), []
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    watch = _Watch(tmp_path, settings)

    def report(step, total, losses):
        told.append((step, total))
        watch.report(step, total, losses)

    persona = make_persona(net, BASE, Material(pictures), settings, report=report)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sum(name.startswith("control.") for name in persona.tensors) == 3, (
        "the first tensors of the ControlNet, whole"
    )
    assert not any("lora" in name for name in persona.tensors)
    assert [one["steps"] for one in persona.provenance["stages"]] == [2, 1] and persona.provenance["steps"] == "3 of 3"
    lines = [
        len((tmp_path / stage / "log.jsonl").read_text().splitlines()) for stage in ("textual_pivot", "model_pivot")
    ]
    assert lines == [2, 1]

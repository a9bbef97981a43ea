"""Settings of the published methods, stage by stage, beside those that are quick on the small base.

Where paper and released code differ, or the paper is silent, the value is the code's: Dual-Pivot Tuning's README (stage A is plain
DreamBooth with prior preservation, stage B tunes the first 150 tensors of the ControlNet), gen2res's training script, and, for
PFStorer's optimizer, that of ViCo, on which it is built.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...lib.vocabulary import UserError
from .methods import METHODS, Settings

OWN, QUICK, PUBLISHED = "own", "quick", "published"
GENERATIVE, IN_CONTEXT, FIXED_GATES = (
    "published, generative album",
    "published, in context",
    "published, fixed gates",
)
PRESETS = (OWN, QUICK, PUBLISHED, GENERATIVE, IN_CONTEXT, FIXED_GATES)
# Batch 1 with two accumulated gradients has the gradient of batch 2.
TEXTUAL_PIVOT = {
    "steps": 2500,
    "batch": 2,
    "rank": 0,
    "learning_rate": 1e-6,
    "prior_weight": 1.0,
    "in_context": False,
    "low_memory": True,
}
MODEL_PIVOT = {"steps": 800, "batch": 1, "rank": 0, "first": 150, "learning_rate": 5e-5, "damage": "dual_pivot"}
PERSONAL_ALBUM = {"steps": 5000, "batch": 4, "rank": 0, "learning_rate": 1e-5}
ADAPTER = {
    "steps": 500,
    "batch": 4,
    "learning_rate": 1e-5,
    "damage": "pfstorer_heavy",
    "generation_weight": 0.1,
    "gate": None,
    "intact": 0.03,
}
PER_STAGE: dict[str, dict[str, Any]] = {
    "textual_pivot": TEXTUAL_PIVOT,
    "model_pivot": MODEL_PIVOT,
    "album": PERSONAL_ALBUM,
    "adapter": ADAPTER,
}
# What else was published: the method it is for, and what differs. The textual pivot as in Dual-Pivot Tuning's figures, where the control
# is connected; PFStorer without its gates, which is ViCo ("Base + ViCo" of its table 2).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    GENERATIVE: ("album", {"steps": 3000}),
    IN_CONTEXT: ("textual_pivot", {"in_context": True, "damage": "dual_pivot"}),
    FIXED_GATES: ("adapter", {"gate": 1.0}),
}
ON_THE_SMALL_BASE = {"steps": 300, "batch": 2, "rank": 16, "learning_rate": 1e-3, "prior_weight": 0.0}


def settings_of_stages(settings: Settings) -> list[Settings]:
    """The settings of each stage of the method, after the preset. Raises UserError for a preset that the method does not have."""
    stages = [build.__name__ for build in METHODS[settings.method]]
    if settings.preset == OWN:
        return [settings for _ in stages]
    if settings.preset == QUICK:
        return [replace(settings, **ON_THE_SMALL_BASE) for _ in stages]
    if settings.preset not in PRESETS:
        raise UserError(f"Train Persona: there is no preset {settings.preset!r}. Choose one of {', '.join(PRESETS)}.")
    only, changes = VARIANTS.get(settings.preset, (settings.method, {}))
    if only not in (settings.method, *stages):
        raise UserError(
            f"Train Persona: {settings.preset!r} is for the method {only}, not {settings.method}. Choose {PUBLISHED!r}."
        )
    return [replace(settings, **PER_STAGE[stage] | (changes if stage == only else {})) for stage in stages]


def steps_in_all(settings: Settings) -> int:
    """Of all stages together."""
    return sum(one.steps for one in settings_of_stages(settings))

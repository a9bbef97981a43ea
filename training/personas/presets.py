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

OWN, QUICK, PUBLISHED, GENERATIVE = "own", "quick", "published", "published, generative album"
PRESETS = (OWN, QUICK, PUBLISHED, GENERATIVE)
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
    "damage": "pfstorer",
    "generation_weight": 0.1,
    "gate": None,
}
PER_STAGE: dict[str, dict[str, Any]] = {
    "textual_pivot": TEXTUAL_PIVOT,
    "model_pivot": MODEL_PIVOT,
    "album": PERSONAL_ALBUM,
    "adapter": ADAPTER,
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
    if settings.preset == GENERATIVE:
        if settings.method != "album":
            raise UserError(
                f"Train Persona: {GENERATIVE!r} is for the method album, not {settings.method}. Choose {PUBLISHED!r}."
            )
        return [replace(settings, **PERSONAL_ALBUM | {"steps": 3000})]
    return [replace(settings, **PER_STAGE[stage]) for stage in stages]


def steps_in_all(settings: Settings) -> int:
    """Of all stages together."""
    return sum(one.steps for one in settings_of_stages(settings))

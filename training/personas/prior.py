"""What the prior of the textual pivot holds on to: pictures of the class that the base makes itself (DreamBooth, Dual-Pivot Tuning)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from ...lib.storage.tensors import Unreadable, opened, write_tensors
from ...lib.vocabulary import Conditions
from ...models.shared.diffusion_restorer import DiffusionRestorer, class_pictures
from .methods import Settings

COUNT, SAMPLES = 8, 50


def has_prior(settings: Settings) -> bool:
    return settings.prior_weight > 0 and settings.method in ("dual_pivot", "textual_pivot")


def prior(restorer: DiffusionRestorer, noun: str, folder: Path, conditions: Conditions) -> torch.Tensor:
    """Pictures ``[8, 3, S, S]`` in 0..1 of a noun, kept in the folder of unfinished trainings: another machine, or another number
    of threads, would not draw quite the same, and a training goes on only with what it was begun with.
    """
    path, made_of = folder / "prior.safetensors", {"base": restorer.base, "noun": noun}
    with (
        suppress(Unreadable),
        opened(path) as file,
    ):  # none are there yet, or they cannot be read
        if file.metadata == made_of:
            return file.get("pictures")
    pictures = class_pictures(restorer, f"a photo of a {noun}", COUNT, SAMPLES, conditions)
    write_tensors(path, {"pictures": pictures}, made_of)
    return pictures

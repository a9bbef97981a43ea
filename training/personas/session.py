"""One training that somebody watches: the cost beforehand, a bar with pictures, and what was learned when it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...lib.storage.personas import delete_persona, save_persona
from ...lib.storage.whole import exclusive
from ...lib.vocabulary import Conditions, Persona
from ...models.shared.diffusion_restorer import DiffusionRestorer
from .estimate import estimate_cost
from .make import make_persona
from .methods import Material, Settings, check_parts
from .preview import Watch
from .prior import has_prior, prior

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Album:
    """name, noun: of the person; pictures, others: ``[N, 3, S, S]`` in 0..1, the person's and other people's or None."""

    name: str
    noun: str
    pictures: torch.Tensor
    others: torch.Tensor | None = None


def watched(
    restorer: DiffusionRestorer,
    album: Album,
    settings: Settings,
    folder: Path,
    update: Callable[..., None],
    preview_every: int = 0,
) -> Persona:
    """Trains a persona or resumes, as `make_persona`, with its checkpoints in ``folder/training``.

    update(done, total, picture): the host's bar, which may raise to stop; then the persona so far is saved in the
    folder. preview_every: steps between pictures, 0 for none.
    """
    with exclusive(
        folder / "training", "Train Persona: another training is running in this models folder. Wait for it."
    ):
        persona = _watched(restorer, album, settings, folder, update, preview_every)
    delete_persona(folder, _unfinished(album.name))  # of a training that was stopped
    return persona


def _watched(
    restorer: DiffusionRestorer,
    album: Album,
    settings: Settings,
    folder: Path,
    update: Callable[..., None],
    preview_every: int,
) -> Persona:
    check_parts(restorer.load(), settings.method)
    unfinished = folder / "training"
    kept = prior(restorer, album.noun, unfinished, Conditions(progress=update)) if has_prior(settings) else None
    material = Material(album.pictures, kept, album.others)
    cost = estimate_cost(restorer.load(), material, settings)
    log.info("Train Persona: %s for %s", cost, album.name)
    watch = Watch(restorer, album.pictures, settings, f"{album.name}: {cost}", update)
    if preview_every:
        watch.start()

    def report(step: int, total: int, losses: Mapping[str, float]) -> None:
        if step == 1 or step % max(total // 20, 1) == 0:
            log.info("Train Persona %d/%d: %s", step, total, ", ".join(f"{n} {v:.4f}" for n, v in losses.items()))
        watch.report(step, total, losses)

    def rescue(learnt: Persona) -> None:
        path = save_persona(learnt, folder, _unfinished(album.name))
        log.info("Train Persona was stopped. The persona so far is saved as %s", path.name)

    net, base = restorer.load(), restorer.base
    return make_persona(
        net, base, material, settings, album.name, report, unfinished, rescue, watch.show, preview_every
    )


def _unfinished(name: str) -> str:
    return f"{plain_file_name(name)} unfinished"


def plain_file_name(name: str) -> str:
    """A person's name, made safe for use as a file name."""
    return "".join(letter if letter.isalnum() or letter in " _-" else "_" for letter in name).strip() or "persona"

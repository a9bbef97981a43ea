"""Train Persona without a graph: the same trainer on Accelerate, with a bar, a log and a curve of every stage.

python run.py persona --photos FOLDER --name NAME
torchrun --nproc_per_node 2 run.py persona --photos FOLDER --name NAME

With several processes, each draws its own batches and the gradients are averaged; with one, the persona equals the
node's, bit for bit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.contrib.logging import logging_redirect_tqdm

from ...lib.degradation.families import FAMILIES
from ...lib.faces.embed import Embedder
from ...lib.faces.library import load_library
from ...lib.storage.personas import delete_persona, persona_path, save_persona
from ...lib.storage.whole import exclusive
from ...lib.vocabulary import Conditions, Person, Persona, UserError
from ...models.shared.diffusion_restorer import DiffusionRestorer
from ..loop import Journal
from ..stages import changed
from .estimate import estimate_cost
from .make import make_persona
from .methods import METHODS, Material, Settings, check_parts
from .presets import PRESETS, settings_of_stages
from .prior import has_prior, prior

log = logging.getLogger(__name__)

SMALL = Settings(prior_weight=0.0)  # the base that ships with the pack knows no people to preserve
PUBLISHED = Settings(learning_rate=1e-4)  # of a LoRA on Stable Diffusion
LINES = 100  # of the log, per stage


def read_config(settings: Settings, path: Path) -> Settings:
    """The settings with the overrides of a JSON file, such as ``{"steps": 800, "low_memory": true}``. Raises UserError."""
    try:
        settings = changed(settings, json.loads(path.read_text(encoding="utf-8")))
        _check(settings)
        return settings
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a training configuration ({error}).") from error


def _check(settings: Settings) -> None:
    for name, usual in vars(Settings()).items():
        value, number = getattr(settings, name), usual is None or isinstance(usual, float)
        kinds = (int, float) if number else (type(usual),)
        if value is not usual and (type(value) not in kinds or value is None):
            raise ValueError(f"{name} is {value!r}, not {'a number' if number else f'like {usual!r}'}")
    least = {
        "steps": 1,
        "batch": 1,
        "rank": 0,
        "seed": 0,
        "first": 0,
        "control": 0,
        "prior_weight": 0,
        "generation_weight": 0,
    }
    for name, bound in least.items():
        if getattr(settings, name) < bound:
            raise ValueError(f"{name} must be at least {bound}")
    if settings.learning_rate <= 0 or settings.control > 1:
        raise ValueError("learning_rate must be above 0, and control at most 1")
    if settings.preset not in PRESETS:
        raise ValueError(f"there is no preset {settings.preset!r}; choose one of {', '.join(PRESETS)}")
    if settings.damage not in FAMILIES:
        raise ValueError(f"there is no damage {settings.damage!r}; choose one of {', '.join(FAMILIES)}")


def gather(
    photos: Path,
    others: Path | None,
    classes: Path | None,
    settings: Settings,
    embedder: Embedder,
) -> tuple[str, Material]:
    """The person's name, taken from the folder, and the training material: aligned faces from albums, as for a library.

    photos: pictures of one person; others: of other people; classes: for prior preservation. Unusable pictures are
    listed in warnings; raises UserError if none are left.
    """
    people = _people(photos, "--photos", embedder)
    if len(people) > 1:
        raise UserError(
            f"--photos {photos}: the folder contains {', '.join(one.name for one in people)}. Provide the folder of "
            "one person, and other people's folders with --others."
        )
    for option, given, used in (
        ("--others", others, settings.method in ("dual_pivot", "model_pivot")),
        ("--class-pictures", classes, has_prior(settings)),
    ):
        if given and not used:
            log.warning(
                "%s has no effect on %s with a prior_weight of %g", option, settings.method, settings.prior_weight
            )
    kept = _crops(_people(classes, "--class-pictures", embedder)) if classes else None
    strangers = _crops(_people(others, "--others", embedder)) if others else None
    return people[0].name, Material(_crops(people), kept, strangers)


def _people(folder: Path, option: str, embedder: Embedder) -> tuple[Person, ...]:
    library = load_library(folder, embedder)
    for note in library.notes if library.people else library.notes[:-1]:  # the last one is about restoring
        log.warning(note)
    if not library.people:
        raise UserError(f"{option} {folder}: no picture in the folder has a usable face.")
    return library.people


def _crops(people: tuple[Person, ...]) -> torch.Tensor:
    return torch.stack([reference.crop for person in people for reference in person.references])


def launched(device: torch.device) -> PartialState:
    """The processes started by a launcher, or the only one, on this kind of device. Only the main process logs."""
    processes = PartialState(cpu=device.type == "cpu")
    if not processes.is_main_process:
        logging.getLogger().setLevel(logging.WARNING)
    return processes


def run_training(
    restorer: DiffusionRestorer,
    gathered: Callable[[], tuple[str, Material]],
    settings: Settings,
    name: str,
    folder: Path,
    processes: PartialState,
) -> Path:
    """Trains or resumes, and writes ``folder/name.safetensors``. An empty name stands for the album's.

    gathered: returns name and material; called only in the main process, so that all train on the same. Checkpoints are
    in ``folder/training/name``, where curves and logs remain. If training is stopped, the persona so far is also saved
    as ``name unfinished``. Raises UserError like `make_persona`.
    """
    if settings.method not in METHODS:
        raise UserError(f"--method: there is no method {settings.method!r}. Choose one of {', '.join(METHODS)}.")
    check_parts(restorer.load(), settings.method)
    if name.strip():
        persona_path(folder, name.strip())  # raises before any long computation
    shared = [gathered() if processes.is_main_process else None]
    if processes.is_main_process and has_prior(settings) and shared[0][1].class_pictures is None:
        found, material = shared[0]
        log.info("Generating pictures of a %s with the base, for prior preservation", settings.noun)
        made = prior(restorer, settings.noun, _unfinished(folder, name.strip() or found), Conditions())
        shared = [(found, replace(material, class_pictures=made))]
    ((found, material),) = broadcast_object_list(shared)
    name = name.strip() or found
    path, state = persona_path(folder, name), _unfinished(folder, name)
    if not processes.is_main_process:
        make_persona(restorer.load(), restorer.base, material, settings, name, folder=state, processes=processes)
        return path
    log.info("%s: %d pictures, %s", name, len(material.pictures), estimate_cost(restorer.load(), material, settings))
    watch = _Watch(state, settings)

    def rescue(unfinished: Persona) -> None:
        log.info(
            "Stopped. The persona so far is in %s", save_persona(unfinished, path.parent, f"{path.stem} unfinished")
        )

    busy = f"Another process is training {path.stem!r}. Wait for it, or choose another name."
    with exclusive(state, busy), logging_redirect_tqdm():
        try:
            make_persona(
                restorer.load(),
                restorer.base,
                material,
                settings,
                name,
                watch.report,
                state,
                rescue,
                finished=partial(_finish, path),
                processes=processes,
            )
        finally:
            watch.close()
    return path


def _finish(path: Path, persona: Persona) -> None:
    """Saves it, and removes what a run that was stopped has left."""
    save_persona(persona, path.parent, path.stem)
    delete_persona(path.parent, f"{path.stem} unfinished")


def _unfinished(folder: Path, name: str) -> Path:
    path = persona_path(folder, name)
    return path.parent / "training" / path.stem


class _Watch:
    """A journal for every stage, each in a folder of its name, as the stages of the embedded weights have theirs."""

    def __init__(self, folder: Path, settings: Settings):
        self.stages = [folder / build.__name__ for build in METHODS[settings.method]]
        self.steps = [own.steps for own in settings_of_stages(settings)]
        self.journal: Journal | None = None

    def report(self, step: int, total: int, losses: Mapping[str, float]) -> None:
        stage = next(number for number in range(len(self.steps)) if step <= sum(self.steps[: number + 1]))
        done, steps = step - sum(self.steps[:stage]), self.steps[stage]
        if self.journal is None:
            self.journal = Journal(self.stages[stage], steps, done - 1, max(steps // LINES, 1))
        self.journal.note(done, losses)
        if done == steps:
            self.close()

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self.journal = None

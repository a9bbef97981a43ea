"""Train Persona without a graph: the same trainer on Accelerate, with a bar, a log and a curve of every stage.

python run.py persona --photos FOLDER --name NAME
torchrun --nproc_per_node 2 run.py persona --photos FOLDER --name NAME

With several processes each draws batches of its own and the gradients are averaged; with one the persona is the node's, bit for bit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.contrib.logging import logging_redirect_tqdm

from ..degradation.families import FAMILIES
from ..faces.embed import Embedder
from ..faces.library import load_library
from ..personas.estimate import estimate
from ..personas.file import persona_path, save_persona
from ..personas.make import make_persona
from ..personas.methods import METHODS, Material, Settings
from ..restorers.diffusion import DiffusionRestorer, class_pictures
from ..vocabulary import Conditions, Person, Persona, UserError
from .loop import Journal
from .stages import changed

log = logging.getLogger(__name__)

SMALL = Settings(prior_weight=0.0)  # the base that ships knows no people whose looks could be preserved
PUBLISHED = Settings(learning_rate=1e-4)  # of a LoRA on Stable Diffusion
CLASS_PICTURES = 8
LINES = 100  # of the log, per stage


def read_config(settings: Settings, path: Path) -> Settings:
    """The settings with what a JSON file changes, such as ``{"steps": 800, "low_memory": true}``. Raises UserError."""
    try:
        settings = changed(settings, json.loads(path.read_text(encoding="utf-8")))
        if min(settings.steps, settings.batch) < 1:
            raise ValueError("steps and batch are at least 1")
        if settings.damage not in FAMILIES:
            raise ValueError(f"there is no damage {settings.damage!r}, but {', '.join(FAMILIES)}")
        return settings
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name}: not a training configuration ({error}).") from error


def gather(
    photos: Path,
    others: Path | None,
    classes: Path | None,
    restorer: DiffusionRestorer,
    settings: Settings,
    embedder: Embedder,
) -> tuple[str, Material]:
    """The person's name as the folder has it, and what is learnt from: the aligned faces of albums, found as for a library.

    photos: pictures of one person; others, classes: of other people, and of whom the prior is to stay. Without classes the base
    makes them itself. What cannot be used is named in a warning; raises UserError where nothing is left.
    """
    people = _people(photos, "--photos", embedder)
    if len(people) > 1:
        raise UserError(
            f"--photos {photos}: it holds {', '.join(one.name for one in people)}. Give the folder of one person, and those "
            "of others as --others."
        )
    prior = None
    if settings.prior_weight and settings.method in ("dual_pivot", "textual_pivot"):
        if classes:
            prior = _crops(_people(classes, "--class-pictures", embedder))
        else:
            log.info("Making %d pictures of a %s, which the prior is to stay", CLASS_PICTURES, settings.noun)
            prior = class_pictures(restorer, f"a photo of a {settings.noun}", CLASS_PICTURES, Conditions())
    strangers = _crops(_people(others, "--others", embedder)) if others else None
    return people[0].name, Material(_crops(people), prior, strangers)


def _people(folder: Path, option: str, embedder: Embedder) -> tuple[Person, ...]:
    library = load_library(folder, embedder)
    for note in library.notes if library.people else library.notes[:-1]:  # the last one speaks of restoring
        log.warning(note)
    if not library.people:
        raise UserError(f"{option} {folder}: there is no picture in it with a face that can be used.")
    return library.people


def _crops(people: tuple[Person, ...]) -> torch.Tensor:
    return torch.stack([reference.crop for person in people for reference in person.references])


def launched() -> PartialState:
    """The processes that a launcher has started, or the only one. All but the main one keep quiet."""
    processes = PartialState(cpu=not torch.cuda.is_available())
    if not processes.is_main_process:
        logging.getLogger().setLevel(logging.WARNING)
    return processes


def run(
    restorer: DiffusionRestorer,
    gathered: Callable[[], tuple[str, Material]],
    settings: Settings,
    name: str,
    folder: Path,
    processes: PartialState,
) -> Path:
    """Trains, or resumes, and writes ``folder/name.safetensors``, name being the album's where it is empty.

    gathered: name and material; asked in the main process only, so that all learn from the same. What is not finished is in
    ``folder/training/name``, where curves and logs stay; stopped, what was learnt is saved as ``name unfinished``, too.
    """
    shared = [gathered() if processes.is_main_process else None]
    ((found, material),) = broadcast_object_list(shared)
    name = name.strip() or found
    path = persona_path(folder, name)
    state = path.parent / "training" / path.stem
    if not processes.is_main_process:
        make_persona(restorer.load(), restorer.base, material, settings, name, folder=state, processes=processes)
        return path
    log.info("%s: %d pictures, %s", name, len(material.pictures), estimate(restorer.load(), material, settings))
    watch = _Watch(state, settings)

    def rescue(unfinished: Persona) -> None:
        log.info("Stopped; what was learnt is in %s", save_persona(unfinished, path.parent, f"{path.stem} unfinished"))

    with logging_redirect_tqdm():
        try:
            persona = make_persona(
                restorer.load(),
                restorer.base,
                material,
                settings,
                name,
                watch.report,
                state,
                rescue,
                processes=processes,
            )
        finally:
            watch.close()
    return save_persona(persona, path.parent, path.stem)


class _Watch:
    """A journal for every stage, each in a folder of its name, as the stages of the embedded weights have theirs."""

    def __init__(self, folder: Path, settings: Settings):
        self.stages = [folder / build.__name__ for build in METHODS[settings.method]]
        self.steps = settings.steps
        self.journal: Journal | None = None

    def report(self, step: int, total: int, losses: Mapping[str, float]) -> None:
        stage, done = divmod(step - 1, self.steps)
        if self.journal is None:
            self.journal = Journal(self.stages[stage], self.steps, done, max(self.steps // LINES, 1))
        self.journal.note(done + 1, losses)
        if done + 1 == self.steps:
            self.close()

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self.journal = None

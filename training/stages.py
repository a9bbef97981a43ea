"""The five stages that make the embedded weights, in order: blind, reading, fadex, projector, guided; then `export_weights`.

python run.py train all --out runs/embedded
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..lib.storage.fingerprint import weights_fingerprint
from ..lib.storage.resume import settle_folder
from ..lib.storage.tensors import read_tensors, write_tensors
from ..lib.vocabulary import Place, UserError
from ..models.embedded import weights as embedded
from ..models.embedded.one_step import OneStepNet
from .data import DataConfig, Groups, bank
from .fadex import MomentumContrast
from .loop import Schedule, train_loop
from .projector import Draws, ProjectorLoss, features
from .randomness import seeded
from .restorer import BlindLoss, ContrastLoss, GuidedLoss, ReadingLoss

log = logging.getLogger(__name__)
STAGES = ("blind", "reading", "fadex", "projector", "guided")


@dataclass(frozen=True)
class Config:
    """Network sizes, data and the work of every stage. A batch counts groups of two pictures; operators: that the projector's
    are drawn from; halved: the share of the guided steps, at the start, whose crops have half the side."""

    restorer: dict = field(default_factory=lambda: {"channels": [48, 96, 192], "blocks": [1, 2, 4], "token_width": 192})
    extractor: dict = field(default_factory=lambda: {"widths": [16, 48, 128], "embedding": 256, "spectrum": True})
    data: DataConfig = DataConfig()
    blind: Schedule = Schedule(steps=2500, batch=8, learning_rate=7e-4, seed=1)
    reading: Schedule = Schedule(steps=600, batch=32, learning_rate=2e-3, seed=2)
    fadex: Schedule = Schedule(steps=1500, batch=32, learning_rate=1e-3, seed=3)
    projector: Schedule = Schedule(steps=3000, batch=1024, learning_rate=2e-3, seed=6)
    operators: int = 16000
    guided: Schedule = Schedule(steps=4000, batch=8, learning_rate=5e-4, seed=4)
    halved: float = 0.9
    bound: Schedule = Schedule(steps=500, batch=8, learning_rate=3e-4, seed=5)


def read_config(path: Path) -> Config:
    """The defaults with the overrides of a JSON file, such as ``{"guided": {"steps": 9000}, "restorer": {"blocks": [2, 3, 6]}}``.

    Raises UserError if it is not a JSON object, and for unknown names.
    """
    try:
        changes = json.loads(path.read_text(encoding="utf-8"))
        return changed(Config(), changes)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a training configuration ({error}).") from error


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """A dataclass or dictionary with some values replaced, at any depth."""
    known = dict(config) if isinstance(config, dict) else {f.name: getattr(config, f.name) for f in fields(config)}
    if unknown := changes.keys() - known.keys():
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    new = {name: changed(known[name], value) if isinstance(value, dict) else value for name, value in changes.items()}
    return {**config, **new} if isinstance(config, dict) else replace(config, **new)


def read_weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The result of an earlier stage. Raises UserError if it has not run."""
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(
            f"{path}: there are no weights yet. Train the stages in order ({', '.join(STAGES)}), or train all."
        )
    return read_tensors(path)


def run_stage(stage: str, folder: Path, config: Config, place: Place) -> None:
    """Runs or resumes one stage, based on the results of the earlier stages in ``folder``."""
    pictures = bank(folder.parent, config.data)
    schedule: Schedule = getattr(config, stage)
    # A different seed per stage, so that a later stage does not see the same crops in the same order.
    data = replace(config.data, seed=config.data.seed + schedule.seed)
    restorer, extractor = OneStepNet(**config.restorer), embedded.Extractor(**config.extractor)
    for module, name in ((restorer, "restorer"), (extractor, "extractor")):
        if stage != "blind" or (folder / f"{name}.safetensors").is_file():
            module.load_state_dict(read_weights(folder, name))
    restorer.to(place.device, memory_format=torch.channels_last)
    extractor.to(place.device, memory_format=torch.channels_last)
    drawn: Callable[[int], Dataset] = partial(Groups, pictures, data)
    with seeded(schedule.seed):
        match stage:
            case "blind":
                task: nn.Module = BlindLoss(restorer)
            case "reading":
                task = ReadingLoss(extractor.gauge, extractor.fadex, restorer)
            case "fadex":
                contrast = MomentumContrast(extractor.fadex, config.extractor["widths"][-1])
                task = ContrastLoss(contrast, extractor.gauge, restorer)
            case "projector":
                seen = extractor.fadex.E, extractor.fadex.spectrum
                parts = [weights_fingerprint(part) for part in seen if part is not None]
                made_of = {"fadex": parts, "operators": config.operators, "data": asdict(data)}
                settle_folder(
                    folder / stage,
                    made_of,
                    str(folder / stage),
                    "Delete it, or choose another --out.",
                )
                found = features(folder / stage / "features.npy", drawn(config.operators), extractor.fadex)
                task = ProjectorLoss(extractor.fadex.mlp, torch.from_numpy(found.std((0, 1)))).to(place.device)
                drawn = partial(Draws, found, schedule.seed)
            case "guided":
                task = GuidedLoss(restorer, extractor.mapnet, extractor.fadex)
                drawn = partial(Groups, pictures, data, halved=round(config.halved * schedule.steps) * schedule.batch)
    learnt = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, schedule.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    train_loop(
        folder / stage,
        task,
        optimizer,
        drawn,
        lambda module, batch: module(batch),
        schedule,
        place,
    )
    for module, name in ((restorer, "restorer"), (extractor, "extractor")):
        write_tensors(folder / f"{name}.safetensors", module.state_dict())


def export_weights(folder: Path, config: Config, target: Path) -> None:
    """Writes the float16 files that the pack ships, with configuration and provenance in their metadata."""
    provenance = {
        "trained_by": "python run.py train all",
        "config": asdict(config),
        "data": "procedural pictures, no photograph",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "accelerate", "numpy")},
        "licence": "Apache-2.0",
    }
    for kind, name, settings in (
        ("one_step", "restorer", config.restorer),
        ("extractor", "extractor", config.extractor),
    ):
        module = embedded.MODELS[kind](**settings)
        module.load_state_dict(read_weights(folder, name))
        embedded.save(target / f"{name}.safetensors", kind, module, settings, provenance)
        log.info("wrote %s", target / f"{name}.safetensors")

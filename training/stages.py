"""The five stages that make the embedded weights, in order: blind, fadex, guided, polish, gauge; then ``export``.

python run.py train all --out runs/embedded
"""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..models import embedded
from ..models.one_step import OneStepNet
from .data import DataConfig, Groups, bank
from .fadex import MomentumContrast
from .loop import Schedule, train
from .restorer import BlindLoss, ContrastLoss, GaugeLoss, GuidedLoss

log = logging.getLogger(__name__)
STAGES = ("blind", "fadex", "guided", "polish", "gauge")


@dataclass(frozen=True)
class Config:
    """Network sizes, data and the work of every stage. A batch counts groups of two pictures."""

    restorer: dict = field(default_factory=lambda: {"channels": [48, 96, 192], "blocks": [1, 2, 4], "token_width": 192})
    extractor: dict = field(default_factory=lambda: {"widths": [32, 64, 128], "embedding": 256})
    data: DataConfig = DataConfig()
    # The polish sees more of the gentle damage that most photographs have: without it they come out too smooth.
    gentle: tuple[tuple[str, float], ...] = (("trial", 0.5), ("s3diff", 0.1), ("mild", 0.25), ("light", 0.15))
    blind: Schedule = Schedule(steps=1750, batch=8, learning_rate=1e-3, seed=1)
    fadex: Schedule = Schedule(steps=700, batch=32, learning_rate=3e-2, seed=2)
    guided: Schedule = Schedule(steps=2200, batch=8, learning_rate=5e-4, seed=3)
    polish: Schedule = Schedule(steps=650, batch=8, learning_rate=4e-4, seed=5)
    gauge: Schedule = Schedule(steps=700, batch=32, learning_rate=5e-3, seed=4)


def run(stage: str, folder: Path, config: Config) -> None:
    """One stage, from what the earlier ones left in ``folder``; resumes where it was stopped."""
    pictures = bank(folder.parent, config.data)
    schedule: Schedule = getattr(config, stage)
    # Another seed per stage: a later stage does not see the same crops in the same order.
    data = replace(config.data, seed=config.data.seed + schedule.seed)
    if stage == "polish":
        data = replace(data, mixture=config.gentle)
    restorer, extractor = OneStepNet(**config.restorer), embedded.Extractor(**config.extractor)
    for module, name in ((restorer, "restorer"), (extractor, "extractor")):
        if (folder / f"{name}.safetensors").is_file():
            module.load_state_dict(load_file(folder / f"{name}.safetensors"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    restorer.to(device, memory_format=torch.channels_last)
    extractor.to(device)
    torch.manual_seed(schedule.seed)
    match stage:
        case "blind":
            task: nn.Module = BlindLoss(restorer)
        case "fadex":
            contrast = MomentumContrast(extractor.fadex, config.extractor["widths"][-1])
            task = ContrastLoss(contrast, restorer)
        case "guided" | "polish":
            task = GuidedLoss(restorer, extractor.mapnet, extractor.fadex)
        case "gauge":
            task = GaugeLoss(extractor.gauge, extractor.fadex, restorer)
    learnt = [p for p in task.parameters() if p.requires_grad]
    if stage == "fadex":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            learnt, schedule.learning_rate, momentum=0.9, weight_decay=1e-4
        )
    else:
        optimizer = torch.optim.AdamW(learnt, schedule.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    train(
        folder / stage,
        task,
        optimizer,
        lambda n: Groups(pictures, data, n),
        lambda module, batch: module(batch),
        schedule,
    )
    for module, name in ((restorer, "restorer"), (extractor, "extractor")):
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / f"{name}.safetensors")


def export(folder: Path, config: Config, target: Path) -> None:
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
        module.load_state_dict(load_file(folder / f"{name}.safetensors"))
        embedded.save(target / f"{name}.safetensors", kind, module, settings, provenance)
        log.info("wrote %s", target / f"{name}.safetensors")

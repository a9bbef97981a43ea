"""Stage I of Face2Scene at its published size: FaDeX, from face pairs of a built dataset (section 4.1, "Training FaDeX").

python run.py train fadex-faces --dataset FOLDER --out runs/fadex

The dataset must have been built with ``operators``, so that there are pairs of different photographs under one degradation. Two recipes:
``published`` is the paper's (equation 1 alone, SGD at 3e-2, batch 20, 200 epochs, a momentum encoder and a queue, 256 channels), ``ours``
is that of the weights that ship (the mean over positives, AdamW, a shorter queue, four readable numbers and the pair's spectra beside).
Departures from the paper: gradients are clipped, as in all our trainings, and the rate falls as a cosine, as in MoCo.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from ..lib.degradation.recipe import Recipe
from ..lib.pictures.files import read_picture
from ..lib.pictures.opening import opened_picture
from ..lib.vocabulary import Place, UserError
from ..models.embedded import weights as embedded
from ..models.embedded.gauge import DamageGauge
from .dataset import read_manifest
from .fadex import MomentumContrast, PublishedContrast
from .loop import Schedule, train_loop
from .randomness import seeded
from .stages import changed

FOLDER = "fadex"  # below models/personal_restore
PUBLISHED, OURS = "published", "ours"
EPOCHS = 200


@dataclass(frozen=True)
class Config:
    """recipe: of the two above; extractor: sizes; window: side of the part of a pair that is seen, in pixels. A batch counts pairs."""

    recipe: str = PUBLISHED
    extractor: dict[str, Any] = field(
        default_factory=lambda: {"widths": [64, 128, 256], "embedding": 512, "token_width": 1024, "stride": 2}
    )
    window: int = 64
    schedule: Schedule = Schedule(steps=0, batch=20, learning_rate=3e-2, warmup=0)


OWN_RECIPE = Config(
    OURS,
    {"widths": [16, 48, 128], "embedding": 256, "token_width": 1024, "spectrum": True},
    schedule=Schedule(steps=0, batch=32, learning_rate=1e-3),
)


def read_config(path: Path) -> Config:
    """The published recipe with the overrides of a JSON file, such as ``{"window": 96}``; steps 0 is 200 epochs. Raises UserError."""
    try:
        return changed(Config(), json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a training configuration ({error}).") from error


class OperatorPairs(Dataset):
    """Item i: two face pairs of different photographs under one operator: ``pair`` ``[2, 6, S, S]``, ``label``, and the operator's true
    ``scalars`` ``[4]``. Endless by construction: the index is the seed.

    Pairs that are smaller than the window are left out. Raises UserError where no two are left under any operator.
    """

    def __init__(self, folder: Path, window: int, seed: int, length: int):
        self.folder, self.window, self.seed, self.length = folder, window, seed, length
        found: dict[int, list[tuple[str, Path, list[float]]]] = defaultdict(list)
        for line in read_manifest(folder):
            for number, version in enumerate([] if line["refused"] else line["versions"]):
                path = folder / line["folder"] / f"face_{number}.png"
                with opened_picture(path) as file:
                    width, height = file.image.size
                if "operator" in version and min(width // 2, height) >= window:
                    summary = Recipe.from_json(json.dumps(version["recipe"])).summary()
                    found[version["operator"]].append((line["folder"], path, DamageGauge.targets(summary)))
        self.operators = {
            label: pairs for label, pairs in sorted(found.items()) if len({folder for folder, *_ in pairs}) > 1
        }
        self.labels = list(self.operators)
        if not self.labels:
            raise UserError(
                f"{folder.name}: there are no two faces of at least {window} px from different photographs under the same degradation. "
                "Build the dataset with operators, fewer of them than there are photographs, or with more photographs."
            )

    @property
    def count(self) -> int:
        """Pairs in an epoch."""
        return sum(map(len, self.operators.values()))

    def of_length(self, length: int) -> OperatorPairs:
        """The same pairs, of which every file was looked at once, for so many items."""
        other = copy.copy(self)
        other.length = length
        return other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        label = self.labels[rng.integers(len(self.labels))]
        pairs = self.operators[label]
        one = pairs[rng.integers(len(pairs))]
        others = [other for other in pairs if other[0] != one[0]]
        chosen = one, others[rng.integers(len(others))]
        return {
            "pair": torch.stack([self._window(path, rng) for _, path, _ in chosen]),
            "label": torch.tensor(label),
            "scalars": torch.tensor(one[2]),
        }

    def _window(self, path: Path, rng: np.random.Generator) -> torch.Tensor:
        pair = torch.cat(read_picture(path).chunk(2, -1))
        top, left = rng.integers(0, np.array(pair.shape[-2:]) - self.window + 1)
        return pair[:, top : top + self.window, left : left + self.window]


class FacesLoss(nn.Module):
    """The contrastive loss of a recipe. What the gauge learns goes into FaDeX only under ours."""

    def __init__(self, extractor: embedded.Extractor, recipe: str):
        super().__init__()
        width = extractor.fadex.mlp[0].in_features
        self.extractor, self.recipe = extractor, recipe
        kind = PublishedContrast if recipe == PUBLISHED else MomentumContrast
        self.contrast = kind(extractor.fadex, width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """FaDeX and gauge, whose gradients are clipped separately."""
        return [{"params": list(part.parameters())} for part in (self.extractor.fadex, self.extractor.gauge)]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first, second = batch["pair"].unbind(1)
        if self.recipe == PUBLISHED:
            pairs, labels, scalars = torch.cat([first, second]), batch["label"].repeat(2), batch["scalars"].repeat(2, 1)
            features = self.extractor.fadex(pairs)
            contrast, read = self.contrast(features, pairs, labels), features.detach()
        else:
            features, scalars = self.extractor.fadex(first), batch["scalars"]
            contrast, read = self.contrast(features, second, batch["label"]), features
        gauge = (self.extractor.gauge(read.float()) - scalars).abs().mean(0).sum()
        return {"loss": contrast + gauge, "contrast": contrast.detach(), "gauge": gauge.detach()}


def with_epochs(config: Config, folder: Path, epochs: int) -> Config:
    """The configuration whose steps are so many epochs of the dataset in ``folder``. Raises UserError as `OperatorPairs`."""
    count = OperatorPairs(folder, config.window, config.schedule.seed, 0).count
    return replace(config, schedule=replace(config.schedule, steps=math.ceil(epochs * count / config.schedule.batch)))


def train_fadex(
    folder: Path,
    config: Config,
    dataset: Path,
    place: Place,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Trains or resumes in ``folder``, and writes the extractor there. Its MapNet is untrained: `train_face2scene` trains it."""
    schedule = config.schedule
    with seeded(schedule.seed):
        task = FacesLoss(embedded.Extractor(**config.extractor), config.recipe).to(place.device)
    groups = task.parameter_groups()
    if config.recipe == PUBLISHED:
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            groups, schedule.learning_rate, momentum=0.9, weight_decay=1e-4
        )
    else:
        optimizer = torch.optim.AdamW(groups, schedule.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    # An item of the published recipe holds two of the batch's pairs; ours counts items.
    items = max(schedule.batch // 2, 1) if config.recipe == PUBLISHED else schedule.batch
    pairs = OperatorPairs(dataset, config.window, schedule.seed, 0)
    given = replace(schedule, batch=items)
    task = train_loop(
        folder, task, optimizer, pairs.of_length, lambda module, batch: module(batch), given, place, report
    )
    provenance = {
        "trained_by": "Train FaDeX",
        "config": asdict(config),
        "data": f"{pairs.count} face pairs under {len(pairs.labels)} degradations",
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "accelerate")},
    }
    target = folder / "fadex.safetensors"
    embedded.save(target, "extractor", task.extractor, config.extractor, provenance)
    return target

"""The papers' learned measures by pyiqa, with weights from the catalog alone: nothing is downloaded and no file's code is run.

pyiqa would fetch each network and what it is built on by itself, and read them as pickles. So a network is built empty here, and
filled with what our own reader finds in the files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ...lib.extras import require
from ...lib.measure import Metric
from ...lib.storage.tensors import Unreadable, read_pickled
from ...lib.vocabulary import UserError
from .catalogue import entry

WHO = "Measure"


@dataclass(frozen=True)
class Published:
    """A measure: its name in pyiqa, its files in the catalog (its own first), whether it needs the truth, and which way is better."""

    pyiqa: str
    files: tuple[str, ...]
    reference: bool
    better: str
    options: dict[str, Any]


LEARNED = {
    "lpips": Published("lpips", ("lpips-alex", "alexnet"), True, "lower", {"pretrained": False}),
    "dists": Published("dists", ("dists", "vgg16"), True, "lower", {"pretrained": False}),
    "niqe": Published("niqe", ("niqe",), False, "lower", {}),
    "musiq": Published("musiq", ("musiq",), False, "higher", {"pretrained": False}),
    "maniqa": Published("maniqa", ("maniqa",), False, "higher", {"pretrained": False}),
    "topiq": Published("topiq_nr", ("topiq",), False, "higher", {"pretrained": False, "backbone_pretrain": False}),
}
# Those of the papers that pyiqa cannot compute from files that are read without running code, or not from single pictures.
IMPOSSIBLE = {
    "clipiqa": "pyiqa builds it on a CLIP that is a program (TorchScript) and not a file of weights.",
    "liqe": "pyiqa builds it on a CLIP that is a program (TorchScript) and not a file of weights.",
    "fid": "It compares two large sets of pictures, and says nothing about single ones.",
}


def learned_metrics(folders: Callable[[str], list[Path]], device: torch.device) -> dict[str, Metric]:
    """One for each measure, which loads when it is first used, or says why it cannot.

    folders(kind): where files of a kind are looked for.
    """
    made = {name: Metric(_loader(one, folders, device), one.reference, one.better) for name, one in LEARNED.items()}
    for name, why in IMPOSSIBLE.items():
        made[name] = Metric(_refusal(why), name == "fid", "lower" if name == "fid" else "higher")
    return made


def _refusal(why: str) -> Callable[[], Any]:
    def load() -> Any:
        raise UserError(why)

    return load


def _loader(one: Published, folders: Callable[[str], list[Path]], device: torch.device) -> Callable[[], Any]:
    def load() -> Callable[..., float]:
        require(WHO, "metrics")
        paths = _found(one.files, folders)
        net = built(one, paths).to(device)

        def score(*pictures: torch.Tensor) -> float:
            with torch.inference_mode():
                return float(net(*(picture[None].to(device) for picture in pictures)))

        return score

    return load


def _found(names: Sequence[str], folders: Callable[[str], list[Path]]) -> list[Path]:
    """The files of these entries. Raises UserError that names those that are missing, shorter than `find_all`: a table has many."""
    found, missing = [], []
    for weights in map(entry, names):
        paths = [path for folder in folders(weights.folder) if (path := folder / weights.place).is_file()]
        found += paths[:1]
        missing += [] if paths else [f"{weights.name} (license: {weights.licence})"]
    if missing:
        raise UserError(
            f"Weights are missing: {', '.join(missing)}. The node Download Weights says where they come from and belong."
        )
    return found


def built(one: Published, paths: Sequence[Path]) -> torch.nn.Module:
    """pyiqa's network with the weights of these files. Raises UserError with the file's name if they are another network's."""
    import pyiqa

    if one.pyiqa == "niqe":  # a table of numbers in MATLAB's format, which holds no code
        return pyiqa.create_metric("niqe", device="cpu", pretrained_model_path=str(paths[0]))
    own = _read(paths[0])
    with _without_downloads(one.pyiqa, paths[1:]):
        metric = pyiqa.create_metric(one.pyiqa, device="cpu", **one.options)
    own = own.get("params", own)
    own = {name.removeprefix("module."): value for name, value in own.items()}
    net = metric.net
    partial = len(paths) > 1  # the rest is the network behind it
    unknown = own.keys() - net.state_dict().keys()
    missing = set() if partial else net.state_dict().keys() - own.keys()
    if unknown or missing:
        wrong = ", ".join(sorted(unknown | missing)[:3])
        raise UserError(
            f"{paths[0].name} does not fit pyiqa's {one.pyiqa} ({wrong}). Download it again, or update pyiqa."
        )
    net.load_state_dict(own, strict=not partial)
    return metric.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_pickled(path)
    except Unreadable as error:
        raise UserError(f"{path.name} cannot be read ({error}). Download it again.") from error


@contextmanager
def _without_downloads(name: str, behind: Sequence[Path]) -> Iterator[None]:
    """While pyiqa builds: the networks behind its own come from our files, or empty where its own file has them, too."""
    import timm
    import torchvision

    def filled(make: Callable[..., torch.nn.Module]) -> Callable[..., torch.nn.Module]:
        def build(weights: Any = None) -> torch.nn.Module:
            net = make(weights=None)
            net.load_state_dict(_read(behind[0]))
            return net

        return build

    models = torchvision.models
    changed = {
        "lpips": {"models": SimpleNamespace(alexnet=filled(models.alexnet))},
        "dists": {"models": SimpleNamespace(vgg16=filled(models.vgg16))},
        "maniqa": {
            "timm": SimpleNamespace(create_model=lambda name, pretrained: timm.create_model(name, pretrained=False))
        },
    }.get(name, {})
    module = importlib.import_module(f"pyiqa.archs.{name}_arch") if changed else None
    before = {key: getattr(module, key) for key in changed}
    try:
        for key, value in changed.items():
            setattr(module, key, value)
        yield
    finally:
        for key, value in before.items():
            setattr(module, key, value)

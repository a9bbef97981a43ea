"""The finder and the filler with the weights that ship with the pack, each loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from ..shared.own_weights import load_own, save_own
from ..shared.precision import embedded_precision
from .filler import Filler
from .finder import Finder

FOLDER = Path(__file__).parents[1] / "embedded"
FINDER, FILLER = FOLDER / "old_finder.safetensors", FOLDER / "old_filler.safetensors"
KINDS = {"old_finder": Finder, "old_filler": Filler}
Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def finder(keep: Keep) -> Callable[[], Finder]:
    """keep(module) hands a module to whoever manages memory and gives back a loader."""
    return keep(load(FINDER).to(embedded_precision()))


@cache
def filler(keep: Keep) -> Callable[[], Filler]:
    return keep(load(FILLER).to(embedded_precision()))


def save_network(network: Finder | Filler, provenance: dict, path: Path) -> None:
    kind = next(name for name, made in KINDS.items() if isinstance(network, made))
    save_own(path, kind, network, provenance)


def load(path: Path) -> Any:
    """The finder or the filler, as `load_own`."""
    return load_own(path, KINDS, "a network for old photographs")

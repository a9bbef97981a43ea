"""The album restorer with the weights that ship with the pack, loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from ..shared.own_weights import load_own, save_own
from ..shared.precision import embedded_precision
from .gate import Gate
from .restorer import AlbumRestorer

WEIGHTS = Path(__file__).parents[1] / "embedded" / "album_gate.safetensors"
KIND = "album_gate"
Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def restorer(keep: Keep) -> AlbumRestorer:
    """keep(module) hands a module to whoever manages memory and gives back a loader."""
    return AlbumRestorer(keep(load_gate().to(embedded_precision())))


def save_gate(gate: Gate, provenance: dict, path: Path = WEIGHTS) -> None:
    save_own(path, KIND, gate, provenance)


def load_gate(path: Path = WEIGHTS) -> Gate:
    """As `load_own`."""
    return load_own(path, {KIND: Gate}, "the album gate")

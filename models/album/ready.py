"""The album restorer with the weights that ship with the pack, loaded once."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import UserError
from ..shared.precision import embedded_precision
from .gate import Gate
from .restorer import AlbumRestorer

WEIGHTS = Path(__file__).parents[1] / "embedded" / "album_gate.safetensors"
Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def restorer(keep: Keep) -> AlbumRestorer:
    """keep(module) hands a module to whoever manages memory and gives back a loader."""
    return AlbumRestorer(keep(load_gate().to(embedded_precision())))


def save_gate(gate: Gate, provenance: dict, path: Path = WEIGHTS) -> None:
    """Writes float16 weights with where they come from."""
    tensors = {name: value.half() for name, value in gate.state_dict().items()}
    write_tensors(path, tensors, {"kind": "album_gate", "provenance": json.dumps(provenance)})


def load_gate(path: Path = WEIGHTS) -> Gate:
    """The gate in evaluation mode, float32, channels last. Raises UserError with the path."""
    gate = Gate()
    try:
        with opened_tensors(path) as file:
            gate.load_state_dict(file.tensors())
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{path.name}: not the album gate of this pack ({error}). It belongs in models/embedded/ of the pack; install the pack again."
        ) from error
    return gate.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)

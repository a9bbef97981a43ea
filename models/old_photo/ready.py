"""The finder and the filler with the weights that ship with the pack, each loaded once."""

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
from .filler import Filler
from .finder import Finder

FOLDER = Path(__file__).parents[1] / "embedded"
FINDER, FILLER = FOLDER / "old_finder.safetensors", FOLDER / "old_filler.safetensors"
KINDS = {"old_finder": Finder, "old_filler": Filler}
Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def finder(keep: Keep) -> Callable[[], Finder]:
    """keep(module) hands a module to whoever manages memory and gives back a loader."""
    return keep(load(FINDER))


@cache
def filler(keep: Keep) -> Callable[[], Filler]:
    return keep(load(FILLER))


def save_network(network: Finder | Filler, provenance: dict, path: Path) -> None:
    """Writes float16 weights with where they come from."""
    kind = next(name for name, made in KINDS.items() if isinstance(network, made))
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    write_tensors(path, tensors, {"kind": kind, "provenance": json.dumps(provenance)})


def load(path: Path) -> Any:
    """The finder or filler in evaluation mode, float32, channels last. Raises UserError with the path."""
    try:
        with opened_tensors(path) as file:
            network = KINDS[file.metadata["kind"]]()
            network.load_state_dict(file.tensors())
    except (LookupError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path.name}: not a network of this pack for old photographs ({error}). It belongs in models/embedded/ of the pack; "
            "install the pack again."
        ) from error
    return network.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)

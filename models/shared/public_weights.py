"""Reads weights that others published as a flat dictionary of tensors, without running any code, and fills networks with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ...lib.storage.tensors import Unreadable, read_pickled, read_tensors
from ...lib.vocabulary import UserError
from .fit import check_fit, named_tensors

Network = TypeVar("Network", bound=nn.Module)


def load_public(network: Network, path: Path, what: str) -> Network:
    """The network with the weights of ``path`` in float32, for inference: evaluation mode, frozen.

    what: the published file in words, for the message. Raises UserError, naming file and tensor, for a missing or damaged
    file, for one that holds more than tensors, and for the weights of another network.
    """
    return frozen_with(network, read_public(path, what), path.name, advice(what))


def read_public(path: Path, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a flat dictionary that torch.save wrote. Raises UserError as `load_public`."""
    return named_tensors(read_file(path, what), path.name, advice(what))


def read_file(path: Path, what: str) -> Any:
    """What a .safetensors or a torch.save file holds: tensors, numbers, text, and lists and dictionaries of them."""
    if not path.is_file():
        raise UserError(f"{path.name} is not in {path.parent.name}/. {advice(what)}")
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        return read_pickled(path)
    except Unreadable as error:  # whose text names the whole path
        raise UserError(f"{path.name} is damaged or contains more than plain weights. {advice(what)}") from error


def frozen_with(network: Network, tensors: dict[str, torch.Tensor], where: str, advice: str) -> Network:
    """The network with these tensors in float32, frozen and in evaluation mode. Raises UserError if they do not fit."""
    check_fit(network.state_dict(), tensors, where, advice)
    network.load_state_dict(tensors)
    return network.float().eval().requires_grad_(False)


def advice(what: str) -> str:
    return f"Put {what} in its place."

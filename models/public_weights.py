"""Fills a network with weights that others published as a flat dictionary of tensors (torch.save), without running any code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ..vocabulary import UserError
from .fit import check_fit

Network = TypeVar("Network", bound=nn.Module)


def load_public(network: Network, path: Path, what: str) -> Network:
    """The network with the weights of ``path`` in float32, for inference: evaluation mode, frozen.

    what: the published file in words, for the message. Raises UserError, naming file and tensor, for a missing or damaged
    file, for one that holds more than tensors, and for the weights of another network.
    """
    advice = f"Put {what} in its place."
    if not path.is_file():
        raise UserError(f"{path.name} is not in {path.parent.name}/. {advice}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        # The library's own message names the whole path and offers to run the file's code.
        raise UserError(f"{path.name} is damaged or holds more than plain weights. {advice}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError(f"{path.name} is not a flat dictionary of tensors. {advice}")
    check_fit(network.state_dict(), weights, path.name, advice)
    network.load_state_dict(weights)
    return network.float().eval().requires_grad_(False)

"""Networks of our own that need no configuration, in one .safetensors each: kind and provenance are its metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import UserError


def save_own(path: Path, kind: str, network: nn.Module, provenance: dict[str, Any]) -> None:
    """Writes float16 weights with where they come from."""
    tensors = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    write_tensors(path, tensors, {"kind": kind, "provenance": json.dumps(provenance)})


def load_own(path: Path, kinds: Mapping[str, Callable[[], nn.Module]], what: str) -> Any:
    """The network in evaluation mode, float32, channels last. kinds: what makes it, by the file's kind; what: it is, for the message.

    Raises UserError with the path.
    """
    try:
        with opened_tensors(path) as file:
            network = kinds[file.metadata["kind"]]()
            network.load_state_dict(file.tensors())
    except (LookupError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path.name}: not {what} of this pack ({error}). It belongs in models/embedded/ of the pack; install the pack again."
        ) from error
    return network.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)

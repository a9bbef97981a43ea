"""What tells one network, or one file, from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn


def weights_fingerprint(net: nn.Module) -> str:
    """`tensors_fingerprint` of all weights, by name."""
    return tensors_fingerprint(net.state_dict())


def tensors_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """The first 12 digits of the SHA-256 of names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

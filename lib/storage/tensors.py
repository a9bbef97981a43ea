"""Tensors with texts beside them, as .safetensors files; and files of torch.save, of which no code is run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.torch_version import TorchVersion

from ..vocabulary import UserError
from .fingerprint import file_sha256
from .whole import whole

Tensors = dict[str, torch.Tensor]

# Versions below which a prepared file of torch.save does harm even if it is read with weights_only.
HOLES = ("2.6", "runs code", "CVE-2025-32434"), ("2.10", "overwrites memory", "CVE-2026-24747")


class Unreadable(ValueError):
    """The file is missing, damaged, or of another kind."""


class MoreThanWeights(Unreadable):
    """A file of torch.save holds what only its own code could make, or is damaged."""


class OpenTensors:
    """metadata: the texts; names: of the tensors."""

    def __init__(self, file: Any):
        self._file = file
        self.metadata: dict[str, str] = file.metadata() or {}
        self.names: frozenset[str] = frozenset(file.keys())

    def get(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def tensors(self, prefix: str | tuple[str, ...] = "") -> Tensors:
        """Those whose names start with the prefix, or one of them, in the order of the file."""
        return {name: self.get(name) for name in self._file.keys() if name.startswith(prefix)}  # noqa: SIM118 (not a dict)


@contextmanager
def opened_tensors(path: Path) -> Iterator[OpenTensors]:
    """A .safetensors file, of which only what is asked for is read. Raises Unreadable."""
    try:
        with safe_open(path, "pt") as file:
            yield OpenTensors(file)
    except (OSError, SafetensorError) as error:
        raise Unreadable(str(error)) from error


def read_tensors(path: Path) -> Tensors:
    """All tensors of a .safetensors file. Raises Unreadable."""
    with opened_tensors(path) as file:
        return file.tensors()


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
    private: bool = False,
) -> None:
    """A .safetensors file, whole or not at all; its folder is made. private: for the owner only, as biometric data must be.

    Raises OSError where it cannot be written.
    """
    try:
        with whole(path, private) as partial:
            # Copies where they are needed: the format knows no device and no tensor that is not contiguous.
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(plain, partial, dict(metadata) if metadata else None)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def check_reader(path: Path, known: str = "") -> None:
    """Raises UserError where this version of torch does not protect from what may be in a file of torch.save.

    known: the sha256 of a file that does no harm, which may be read by any version.
    """
    holes = [(does, name) for version, does, name in HOLES if torch.__version__ < TorchVersion(version)]
    if not holes or (known and path.is_file() and file_sha256(path) == known):
        return
    harm, names = (" and ".join(words) for words in zip(*holes, strict=True))
    raise UserError(
        f"{path.name} is a file of torch.save, and PyTorch {torch.__version__} has a known hole through which such a file "
        f"{harm} ({names}). Update PyTorch to {HOLES[-1][0]} or newer, or use the file as .safetensors."
    )


def read_pickled(path: Path, classes: Iterable[type] = (), mapped: bool = False, known: str = "") -> Any:
    """What a file of torch.save holds: tensors, numbers, text, and lists and dictionaries of them; anything else is refused.

    classes: harmless ones that it may name, too; mapped: tensors stay on the disk until they are needed; known: see `check_reader`.
    Raises Unreadable, or MoreThanWeights with the first line of the reason: the rest offers to run the file's code. Raises
    UserError where this version of torch does not protect from such files.
    """
    check_reader(path, known)
    try:
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except OSError as error:
        raise Unreadable(str(error)) from error
    except Exception as error:  # the reader raises anything on a damaged file
        raise MoreThanWeights(str(error).partition("\n")[0] or type(error).__name__) from error

"""Stand-ins for what ComfyUI provides at run time: the device, the folders, and the progress bar of the running node."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..storage.inputs import existing

PACK = Path(__file__).resolve().parents[2]

# As ComfyUI sets it for every device: without, attention in half precision rounds otherwise, and a training ends with other weights.
if hasattr(torch.backends.cuda, "allow_fp16_bf16_reduction_math_sdp"):  # since torch 2.5
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)


@dataclass
class Folders:
    """Where a graph may read and write. ``allowed`` are the files and folders named on the command line."""

    input: Path = Path("input")
    output: Path = Path("output")
    allowed: list[Path] = field(default_factory=list)
    _temp: tempfile.TemporaryDirectory | None = None

    @property
    def temp(self) -> Path:
        """Created on first use, removed when the program ends."""
        if self._temp is None:
            self._temp = tempfile.TemporaryDirectory(prefix="personal_restore_")
        return Path(self._temp.name)

    def clear_temp(self) -> None:
        """Removes the previews so far."""
        if self._temp is not None:
            self._temp.cleanup()
            self._temp = None


folders = Folders()


def allow_folder(path: str | Path) -> Path:
    """Opens a folder (or one file) to the graphs that run from now on; returns it as an absolute path."""
    found = Path(path).resolve()
    folders.allowed.append(found)
    return found


def resolve_input(path: str | Path) -> Path:
    """The file or folder that a workflow names, as `bridge.resolve_input` says; what was named on the command line is open too."""
    own = {"input": folders.input, "output": folders.output, "temp": folders.temp}
    return existing(path, own, folders.allowed, " or name it on the command line.")


def models_folder(kind: str = "personal_restore") -> Path:
    """In the models folder of the ComfyUI in which this pack is installed; otherwise ``PR_MODELS_DIR`` or
    ``~/.personal_restore``, with a subfolder for each other kind."""
    own = Path(os.environ.get("PR_MODELS_DIR") or Path.home() / ".personal_restore")
    if PACK.parent.name == "custom_nodes" and "PR_MODELS_DIR" not in os.environ:
        return PACK.parent.parent / "models" / kind
    return own if kind == "personal_restore" else own / kind


def device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


_report: Callable[[int, int], None] | None = None


def progress(done: int, total: int, picture: torch.Tensor | None = None) -> None:
    """Reports the progress of the running node. Pictures are ignored."""
    if _report:
        _report(done, total)


@contextmanager
def reporting(report: Callable[[int, int], None]) -> Iterator[None]:
    """Inside the context, ``report(done, total)`` receives the progress."""
    global _report
    before, _report = _report, report
    try:
        yield
    finally:
        _report = before

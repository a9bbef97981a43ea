"""Trainings that make a model with a name: where it goes, and how an unfinished one is resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..lib.bridge import io, resolve_input
from ..lib.storage.resume import SETTINGS, settle_folder
from ..lib.storage.whole import exclusive, put

SAVE_EVERY = 100  # steps: at most this many are lost when training stops


def opened_folder(name: str) -> Path:
    """A folder inside the input folder. Raises UserError where it, or what a link in it leads to, is not allowed."""
    source = resolve_input(name)
    for path in source.rglob("*"):
        if path.is_symlink():
            resolve_input(path)
    return source


def train_named(node: str, target: Path, settings: dict[str, Any], make: Callable[[Path], Path]) -> None:
    """Trains or resumes in the folder ``training/NAME`` beside ``target``, and puts the model that ``make(folder)`` writes into its place.

    settings: all that the result depends on. Raises UserError, which begins with the node's name, if the unfinished training was
    started with others, or if another process is training under this name.
    """
    with exclusive(
        target, f"{node}: another process is training {target.stem!r}. Wait for it, or choose another name."
    ):
        folder = target.parent / "training" / target.stem
        if not ((folder / SETTINGS).is_file() and any(folder.rglob("state-*"))):
            shutil.rmtree(folder, ignore_errors=True)  # there is no checkpoint to resume from
        settle_folder(
            folder,
            settings,
            f"{node}: the unfinished training {target.stem!r}",
            f"Restore the old settings, choose another name, or delete the folder training/{target.stem} next to your trained models.",
        )
        with torch.inference_mode(False), torch.enable_grad():  # ComfyUI executes under inference mode
            made = make(folder)
        put(made, target)
        shutil.rmtree(folder)  # the next training run with this name starts from scratch


def report_output() -> io.Output:
    return io.String.Output(
        display_name="report", tooltip="The location of the trained model, and what it was trained on."
    )

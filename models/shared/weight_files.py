"""The files offered in dropdowns of weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...lib.bridge import weight_folders
from ...lib.vocabulary import UserError
from .catalogue import entry, find_all

NONE = "none found"


def weight_files(*kinds: str, suffixes: Iterable[str]) -> dict[str, Path]:
    """Files by name relative to the folders of these kinds; if two have the same name, the first one wins."""
    endings, found = tuple(suffixes), {}
    for folder in (folder for kind in kinds for folder in weight_folders(kind)):
        for inside, _, names in os.walk(folder, followlinks=True):  # models are often linked from another disk
            for path in (Path(inside) / name for name in sorted(names) if name.lower().endswith(endings)):
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def own_files(suffixes: Iterable[str]) -> dict[str, Path]:
    """Files directly in models/personal_restore; its subfolders contain personas and trained models."""
    found = weight_files("personal_restore", suffixes=suffixes)
    return {name: path for name, path in found.items() if "/" not in name}


def checkpoints() -> dict[str, Path]:
    """Checkpoints as a single .safetensors file, by name relative to the checkpoints folders."""
    return weight_files("checkpoints", suffixes=(".safetensors",))


def catalogued(*names: str) -> list[Path]:
    """Published files by their names in the catalog. Raises UserError that names everything that is missing."""
    return find_all(names, weight_folders)


def checkpoint_and(
    node: str, checkpoint: str, base: str, *others: str, known: Mapping[str, Path] | None = None
) -> list[Path]:
    """The chosen checkpoint, then other weights by their names in the catalog.

    base: the catalog's name of the checkpoint to report if none is found; known: the available choices, by default
    `checkpoints`. Raises UserError that begins with the node and lists everything that is missing, and where it
    belongs.
    """
    known = checkpoints() if known is None else known
    if checkpoint not in (*known, NONE, entry(base).file):
        raise UserError(f"{node}: there is no checkpoint {checkpoint!r}. Known: {', '.join(known) or NONE}.")
    there = [known[checkpoint]] if checkpoint in known else []
    try:
        return there + catalogued(*others if there else (base, *others))
    except UserError as error:
        raise UserError(f"{node}: {error}") from error

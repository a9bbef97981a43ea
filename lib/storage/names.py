"""Paths of files that the user names: libraries, personas and trained models, each kind in its own folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..vocabulary import UserError

SUFFIX = ".safetensors"
LONGEST = 255  # bytes of a file name, nearly everywhere


def stored_path(folder: Path, name: str, kind: str) -> Path:
    """``folder/name.safetensors``, whether it exists or not. kind: for the message, for example "library".

    Raises UserError for a name that is empty or leads out of the folder, by separators or a link.
    """
    stem, base = name.strip().removesuffix(SUFFIX).strip(), Path(folder).expanduser().resolve()
    try:
        path = (base / f"{stem}{SUFFIX}").resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{name!r} cannot be the name of a {kind}. Use letters, digits and spaces.") from error
    if not stem or stem[0] == "." or any(mark in stem for mark in '/\\:*?"<>|') or path.parent != base:
        raise UserError(
            f"{name!r} cannot be the name of a {kind}: the file would be hidden or outside its folder. Use a plain "
            "name, for example 'family'."
        )
    if len(os.fsencode(path.name)) > LONGEST:
        raise UserError(f"{name[:50]!r}... is too long to be the name of a {kind}. Use a shorter one.")
    return path


def holding(folders: Sequence[Path], name: str, kind: str) -> Path:
    """The first of the folders that has ``name.safetensors``, otherwise the first one. Raises UserError as `stored_path`."""
    return next((folder for folder in folders if stored_path(folder, name, kind).is_file()), folders[0])


def names_in(folders: Sequence[Path]) -> list[str]:
    """What can be loaded from the folders by `holding`, without the extension, in alphabetical order."""
    found = {path.stem for folder in folders for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")}
    return sorted(found, key=str.casefold)


def shown_folder(folder: Path) -> str:
    """A folder for messages, which may be sent to somebody else: from the user's own folder on, or else its last two parts."""
    try:
        return f"~/{folder.resolve().relative_to(Path.home().resolve()).as_posix()}"
    except (OSError, RuntimeError, ValueError):
        return "/".join(folder.parts[-2:])

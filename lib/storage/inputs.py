"""Files that a workflow names, of which only those in some folders may be read, and only those in one written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath

from ..vocabulary import UserError

KINDS = "input", "output", "temp"


def existing(path: str | Path, folders: Mapping[str, Path], also: Iterable[Path] = (), or_else: str = ".") -> Path:
    """The existing file or folder that a workflow names, as an absolute path without links.

    ``path`` is relative to the folder called "input", or to that of a trailing ``[input]``, ``[output]`` or ``[temp]``. What lies
    neither in the folders nor in those of ``also`` is refused with a `UserError`, and so is what does not exist. or_else: ends the
    sentence that says where to put it. The messages name no folder by its path, because they are sent to whoever asked.
    """
    name, kind = str(path), "input"
    for one in KINDS:
        if name.endswith(f" [{one}]"):
            name, kind = name.removesuffix(f" [{one}]"), one
            break
    base, allowed = folders[kind], (*folders.values(), *also)
    try:
        # A share is asked for its files, and told who asks, by merely looking: so it is not even looked at.
        inside = not _on_a_share(base / name) or _spelled_inside(base / name, allowed)
        found = (base / name).resolve() if inside else base
        inside = inside and any(found.is_relative_to(folder.resolve()) for folder in allowed)
        exists = inside and found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{_short(path)} cannot be read as a path. Check the spelling.") from error
    if not inside:
        raise UserError(
            f"{_short(path)} lies outside the folders that a workflow may read. Put it into the input folder{or_else}"
        )
    if not exists:
        raise UserError(f"There is no {_short(name)} in the {kind} folder. Check the spelling, or put the file there.")
    return found


def writable(path: str, folder: Path) -> Path:
    """The file or folder below ``folder`` that a workflow names to write to, which need not exist, without links.

    Raises UserError for the folder itself and for what lies elsewhere. It is not looked at (a share would learn who asks).
    """
    base = folder.resolve()
    try:
        found = (base / path).resolve() if _spelled_inside(base / path, [base]) else base
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{_short(path)} cannot be written as a path. Check the spelling.") from error
    if found == base or not found.is_relative_to(base):
        raise UserError(f"{_short(path)} is not inside the folder for results. Use a plain name, such as 'restored'.")
    return found


def _on_a_share(path: Path) -> bool:
    return PureWindowsPath(str(path)).drive.startswith("\\\\")


def _spelled_inside(path: Path, folders: Iterable[Path]) -> bool:
    """Whether the path, as it is written and without a look at the disk, is below one of the folders."""
    plain = Path(os.path.normpath(path))
    return any(plain.is_relative_to(os.path.normpath(Path.cwd() / folder)) for folder in folders)


def _short(path: str | Path) -> str:
    """For messages: of an absolute path the last part, and of a long text its beginning."""
    text = str(path)
    if any(kind(text).is_absolute() for kind in (Path, PureWindowsPath)) or text.startswith(("~", "file:")):
        text = PureWindowsPath(text).name
    return repr(text if len(text) <= 200 else f"{text[:200]}...")

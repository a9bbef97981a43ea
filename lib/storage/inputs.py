"""Files that a workflow names, of which only those in some folders may be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..vocabulary import UserError


def existing(path: str | Path, folders: Mapping[str, Path], also: Iterable[Path] = (), or_else: str = ".") -> Path:
    """The existing file or folder that a workflow names, as an absolute path without links.

    ``path`` is relative to the folder called "input", or to that of a trailing ``[input]``, ``[output]`` or ``[temp]``. What lies
    neither in the folders nor in those of ``also`` is refused with a `UserError`, and so is what does not exist. or_else: ends the
    sentence that says where to put it.
    """
    named = re.fullmatch(r"(.*) \[(input|output|temp)\]", str(path), re.DOTALL)
    base, name = (folders[named[2]], named[1]) if named else (folders["input"], str(path))
    try:
        found = (base / name).resolve()
        inside = any(found.is_relative_to(folder.resolve()) for folder in (*folders.values(), *also))
        exists = inside and found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{str(path)!r} cannot be read as a path: {error}.") from error
    if not inside:
        raise UserError(
            f"{str(path)!r} lies outside the folders that a workflow may read. Put it into {folders['input']}{or_else}"
        )
    if not exists:
        raise UserError(f"There is no {name!r} in {base}. Check the spelling, or put the file there.")
    return found

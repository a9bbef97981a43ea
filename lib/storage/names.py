"""Where something that the user names is kept: libraries, personas, trained models, each kind in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from ..vocabulary import UserError

SUFFIX = ".safetensors"


def stored(folder: Path, name: str, kind: str) -> Path:
    """``folder/name.safetensors``, whether it exists or not. kind: "library", say, for the message.

    Raises UserError for a name that is empty or leads out of the folder, by separators or a link.
    """
    stem, base = name.strip().removesuffix(SUFFIX).strip(), Path(folder).expanduser().resolve()
    try:
        path = (base / f"{stem}{SUFFIX}").resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{name!r} is no name for a {kind}. Use letters, digits and spaces.") from error
    if not stem or stem[0] == "." or any(mark in stem for mark in '/\\:*?"<>|') or path.parent != base:
        raise UserError(
            f"{name!r} is no name for a {kind}: it would be hidden or lie outside its folder. Give a plain name, such as 'family'."
        )
    return path

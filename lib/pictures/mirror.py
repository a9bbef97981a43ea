"""A folder of folders of photographs, and where in another folder the result of each of them belongs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from .files import SUFFIXES, is_picture

LONGEST = 240  # bytes of a result's name: 255 are allowed nearly everywhere, and other files add an ending to it


def photographs(folder: Path, leave_out: Callable[[Path], bool] = lambda folder: False) -> Iterator[str]:
    """The pictures in a folder and in the folders below it, as paths relative to it with forward slashes, in no order.

    Hidden folders, links to folders (which may form a circle) and folders that ``leave_out`` says are passed over. Nothing is
    held in memory but one open folder per level. Raises OSError for a folder that cannot be read.
    """
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and not leave_out(path):
                        pending.append(path)
                elif is_picture(path):
                    yield path.relative_to(folder).as_posix()


def mirrored(photograph: str) -> str:
    """Where the result of a photograph belongs: the same folder, and the same name with ``.png`` after it unless it ends so.

    No two photographs get the same: ``a.jpg`` becomes ``a.jpg.png``, and a photograph of that name ``a.jpg.png.png``. A name that
    would be too long is shortened, and ends in a part of its SHA-256.
    """
    path = PurePosixPath(photograph)
    kept = path.suffix.lower() == ".png" and PurePosixPath(path.stem).suffix.lower() not in SUFFIXES
    name = path.name if kept else f"{path.name}.png"
    if len(os.fsencode(name)) > LONGEST:
        digest, stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16], path.name
        while len(os.fsencode(stem)) > LONGEST - len(digest) - 5:
            stem = stem[:-1]
        name = f"{stem}~{digest}.png"
    return path.with_name(name).as_posix()

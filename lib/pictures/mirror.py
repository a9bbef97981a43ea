"""A folder of folders of photographs, and where in another folder the result of each of them belongs."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from ..vocabulary import UserError
from .files import SUFFIXES, is_picture

T = TypeVar("T")
LONGEST = 240  # bytes of a result's name: 255 are allowed nearly everywhere, and other files add an ending to it


@dataclass(frozen=True)
class Pending:
    """names: the photographs of a folder that have no result yet, sorted; total: how many there are in all."""

    names: list[str]
    total: int


def pending(folder: Path, results: Path) -> Pending:
    """What is left to do in a folder whose results belong, by their `mirrored` names, in another one, which need not exist.

    Results that lie inside the folder are passed over. Raises UserError if the folder is that of the results or lies in it, because
    a PNG would then be its own result, and if a folder cannot be read.
    """
    made = results.is_dir()
    if made and any(one.samefile(results) for one in (folder, *folder.parents)):
        raise UserError(
            "The photographs themselves lie in the folder for the results. Choose another folder for these."
        )
    try:
        names = sorted(photographs(folder, lambda one: made and one.samefile(results)))
    except OSError as error:
        name = Path(error.filename or folder).name
        raise UserError(f"{name!r} cannot be read ({error.strerror}). Check its permissions.") from error
    return Pending([name for name in names if not (results / mirrored(name)).exists()], len(names))


@dataclass(frozen=True)
class Turn(Generic[T]):
    """What is next. read: names with what was read of them; unread: why others could not be read; left: how many photographs come after
    these; total: how many there are in all."""

    read: dict[str, T]
    unread: dict[str, UserError]
    left: int
    total: int


class Remaining:
    """What is left of a folder, turn after turn. The folder is walked again only when everything that was found has had its turn, so
    that a large one is not walked once for each of its photographs. What is added or lost meanwhile is seen then."""

    def __init__(self) -> None:
        self._of: tuple[Path, Path] | None = None
        self._left: deque[str] = deque()
        self._total = 0

    def turn(self, folder: Path, results: Path, count: int, read: Callable[[str], T]) -> Turn[T]:
        """The next ``count`` photographs without a result. Those for which ``read`` raises UserError are passed over until the folder is
        walked again. Raises UserError as `pending` does."""
        if walk := self._of != (folder, results) or not self._left:
            found = pending(folder, results)
            self._of, self._left, self._total = (folder, results), deque(found.names), found.total
        done: dict[str, T] = {}
        unread: dict[str, UserError] = {}
        while self._left and len(done) < count:
            name = self._left.popleft()
            if not (results / mirrored(name)).exists():
                try:
                    done[name] = read(name)
                except UserError as error:
                    unread[name] = error
        if not done and not walk:
            return self.turn(folder, results, count, read)
        turn = Turn(done, unread, len(self._left), self._total)
        self._left.extendleft(reversed(done))  # until they have a result
        return turn


def photographs(
    folder: Path,
    leave_out: Callable[[Path], bool] = lambda folder: False,
    others: Callable[[Path], None] = lambda file: None,
) -> Iterator[str]:
    """The pictures in a folder and in the folders below it, as paths relative to it with forward slashes, in no order.

    Hidden folders, links to folders (which may form a circle) and folders that ``leave_out`` says are passed over. ``others`` is
    told of every file that is no picture. Nothing is held in memory but one open folder per level. Raises OSError for a folder that
    cannot be read.
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
                else:
                    others(path)


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

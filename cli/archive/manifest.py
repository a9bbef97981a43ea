"""The manifest of an output folder: one JSON line per photograph, and an index of it that does not live in memory."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ...lib.storage.whole import whole

NAME, FAILED = "manifest.jsonl", "failed.jsonl"
BEGINS = b'{"photograph":'


@dataclass(frozen=True)
class Origin:
    """What, beside the photograph, a result was made from: the first 16 digits of SHA-256 each."""

    graph: str
    weights: str
    album: str


@dataclass(frozen=True)
class Entry:
    """What happened to one photograph.

    photograph: its path below the input folder; size, modified (in ns) and content (16 digits of SHA-256): of its file, before it was
    read. result: its path below the output folder, empty if it failed; reason: why it failed, else empty. before, after: width
    and height of the pictures; faces, damage, notes: the report's, boxes in pixels of ``before``; seconds: it took; finished: when.
    """

    photograph: str
    size: int
    modified: int
    content: str
    origin: Origin
    result: str = ""
    reason: str = ""
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    faces: list[dict[str, Any]] = field(default_factory=list)
    damage: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    finished: str = ""

    @property
    def line(self) -> bytes:
        """ASCII: a name in another encoding survives as escapes."""
        # Not asdict, which copies every number of every face: half of what a photograph costs beside its restoration.
        return json.dumps(vars(self) | {"origin": vars(self.origin)}).encode() + b"\n"


NAMES = {one.name for one in fields(Entry)}


def parsed(line: bytes) -> Entry | None:
    """The entry of a line; None for one that was cut off, or is of another program."""
    try:
        values = json.loads(line)
        entry = Entry(**{name: value for name, value in values.items() if name in NAMES})
        if not _sane(entry):
            return None
        pairs = {name: tuple(getattr(entry, name)) for name in ("before", "after", "notes")}
        return replace(entry, origin=Origin(**values["origin"]), **pairs)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None


def _sane(entry: Entry) -> bool:
    texts = entry.photograph, entry.content, entry.result, entry.reason
    faces = isinstance(entry.faces, list) and all(isinstance(face, dict) for face in entry.faces)
    return faces and all(isinstance(one, str) for one in texts) and isinstance(entry.modified, int)


def is_output(folder: Path) -> bool:
    """Whether a folder was written by `restore` for a folder, by its manifest."""
    try:
        with (folder / NAME).open("rb") as file:
            return file.read(len(BEGINS)) in (b"", BEGINS)
    except OSError:
        return False


class Manifest:
    """The manifest in ``out``, open for more. Its memory does not grow with the number of photographs: which line is whose is kept
    in a temporary database on disk, beside the list of photographs of this run.

    A line is written when everything that it names is on disk, and the last one of a photograph counts.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / NAME
        self._file = self._path.open("a+b")
        self._searched = False
        self._database = sqlite3.connect(
            "", isolation_level=None
        )  # SQLite's name for a file that goes when it is closed
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE lines (photograph BLOB PRIMARY KEY, start INTEGER) WITHOUT ROWID")
        self._database.execute("CREATE TABLE found (photograph BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE pending (photograph BLOB PRIMARY KEY) WITHOUT ROWID")
        self._index()

    def _index(self) -> None:
        self._file.seek(0)
        start, last = 0, b"\n"
        for last in self._file:
            entry = parsed(last)
            if entry is not None:
                self._remember(entry.photograph, start)
            start += len(last)
        if not last.endswith(b"\n"):  # the last run was killed here
            self._file.write(b"\n")
        self._file.flush()

    def _remember(self, photograph: str, start: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (os.fsencode(photograph), start))

    def add(self, entry: Entry) -> None:
        """Writes a line; a process that is killed afterwards does not take it along."""
        self._file.seek(0, io.SEEK_END)
        self._remember(entry.photograph, self._file.tell())
        self._file.write(entry.line)
        self._file.flush()

    def get(self, photograph: str) -> Entry | None:
        row = self._database.execute(
            "SELECT start FROM lines WHERE photograph = ?", (os.fsencode(photograph),)
        ).fetchone()
        return self._at(row[0]) if row else None

    def __iter__(self) -> Iterator[Entry]:
        """The photographs' last lines, sorted by their paths' bytes, without failures of photographs that are no longer there."""
        for (start,) in self._database.execute("SELECT start FROM lines ORDER BY photograph"):
            entry = self._at(start)
            if entry is not None and (not entry.reason or self._is_there(entry.photograph)):
                yield entry

    def _at(self, start: int) -> Entry | None:
        self._file.seek(start)
        return parsed(self._file.readline())

    def find(self, photographs: Iterable[str]) -> None:
        """Takes in which photographs there are."""
        rows = ((os.fsencode(one),) for one in photographs)
        self._database.executemany("INSERT INTO found VALUES (?)", rows)
        self._searched = True

    def found(self) -> Iterator[str]:
        """The photographs there are, sorted."""
        for (name,) in self._database.execute("SELECT photograph FROM found ORDER BY photograph"):
            yield os.fsdecode(name)

    def plan(self, pending: Iterable[str]) -> int:
        """Takes in which of them are to be restored, and counts them."""
        rows = ((os.fsencode(one),) for one in pending)
        return self._database.executemany("INSERT INTO pending VALUES (?)", rows).rowcount

    def pending(self) -> Iterator[str]:
        for (name,) in self._database.execute("SELECT photograph FROM pending ORDER BY photograph"):
            yield os.fsdecode(name)

    def close(self, workshop: Path) -> None:
        """Writes the manifest anew, a line per photograph and sorted, and the list of failures.

        Until the new files are complete, the old ones stand.
        """
        out = self._path.parent
        with whole(out / NAME, workshop=workshop) as new, whole(out / FAILED, workshop=workshop) as failed:
            with new.open("wb") as lines, failed.open("wb") as failures:
                for entry in self:
                    lines.write(entry.line)
                    if entry.reason:
                        failure = {"photograph": entry.photograph, "reason": entry.reason}
                        failures.write(json.dumps(failure).encode() + b"\n")
            self._file.close()
        self._database.close()

    def _is_there(self, photograph: str) -> bool:
        """Also where it is not known, because the folder could not be read to its end."""
        if not self._searched:
            return True
        row = self._database.execute("SELECT 1 FROM found WHERE photograph = ?", (os.fsencode(photograph),)).fetchone()
        return row is not None

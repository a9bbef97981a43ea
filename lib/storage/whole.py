"""Files and folders that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..vocabulary import UserError

LEFT_BEHIND = 3600  # seconds after which nobody writes to a partial file any more
PROBE = bytes(1 << 16)


@contextmanager
def whole(path: Path, private: bool = False, new: bool = False, workshop: Path | None = None) -> Iterator[Path]:
    """Where to write what is to be ``path``: beside it, until the block ends without an error. A crash leaves either
    the old file or the new one, never a partial file, and so do two writers at once. The folder is made.

    private: only the owner may read the file, from its first byte on. new: raises FileExistsError instead of replacing a file.
    workshop: a folder of the same file system to write in instead, for many files: nobody then looks through the file's own folder
    for what a killed writer left, and whoever owns the workshop empties it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in () if workshop else remains(path):
        _remove_if_left(old)
    partial = (workshop or path.parent) / f"{_mark(path)}{secrets.token_hex(8)}.part"
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
    mode = partial.stat().st_mode & 0o777
    try:
        yield partial
        os.chmod(partial, mode)  # which a library that renames files of its own may have changed
        _flush(partial)
        if new:
            _place(partial, path)
        else:
            partial.replace(path)
        _flush(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str, new: bool = False) -> None:
    """UTF-8; a name in another encoding is written with escapes."""
    with whole(path, new=new) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def put(finished: Path, path: Path) -> None:
    """A file or a folder that is finished reaches the disk, then takes its name; a file of that name gives way."""
    for one in (*(finished.rglob("*") if finished.is_dir() else ()), finished):
        _flush(one)
    finished.replace(path)
    _flush(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that is to be ``path``, until the block ends without an error. A crash leaves either the old folder,
    the new one or none, never a partial one. Call it inside `alone`: partial folders of that name are removed.
    """
    partial = path.with_name(f"{_mark(path)}folder.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        put(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def remains(path: Path) -> list[Path]:
    """Partial files of ``path`` that somebody writes or has left behind, also those of earlier versions."""
    found = list(path.parent.glob(f"{_mark(path)}*.part")) if path.parent.is_dir() else []
    old = path.with_name(f"{path.name}.part")
    return found + ([old] if len(os.fsencode(old.name)) < 256 and old.is_file() else [])


def remove_whole(path: Path) -> None:
    """Removes a file and every partial one of it. Call it inside `exclusive`, so that nobody is writing. Raises OSError."""
    for one in (path, *remains(path)):
        one.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path, busy: str = "") -> Iterator[None]:
    """Inside the block no other thread or process on this machine is inside one for the same path.

    busy: what to say, in a UserError, instead of waiting for the other one. The lock goes when its process ends, however it ends.
    """
    folder = Path(tempfile.gettempdir()) / f"personal_restore_locks_{getattr(os, 'getuid', str)()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(folder / hashlib.sha256(os.fsencode(path.resolve())).hexdigest(), timeout=0 if busy else -1)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(busy) from error
    try:
        yield
    finally:
        lock.release()


def check_room(folder: Path, size: int, what: str) -> None:
    """Makes the folder. Raises UserError where it is no folder, cannot be written, or has less than ``size`` bytes free.

    what: the user's name for the folder. Cheap enough to be asked before every long computation.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(PROBE)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{what}: nothing can be written there ({reason}). Choose another folder.") from error
    if free < size:
        raise UserError(
            f"{what}: {size / 1e6:.0f} MB are needed, and {free / 1e6:.0f} MB are free. Make room, or choose another folder."
        )


def _mark(path: Path) -> str:
    """How the names of its partial files begin: hidden, short whatever the name is, and without the name."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _remove_if_left(partial: Path) -> None:
    try:
        if time.time() - partial.stat().st_mtime > LEFT_BEHIND:
            partial.unlink()
    except OSError:
        pass  # its writer has just finished, or it belongs to somebody else


def _place(partial: Path, path: Path) -> None:
    """Gives the file its name unless that is taken."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(str(path)) from None
        partial.replace(path)
    else:
        partial.unlink()


def _flush(path: Path) -> None:
    """What was written reaches the disk; a folder where the system knows that, which Windows does not."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

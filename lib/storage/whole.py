"""Files and folders that are there whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is to be ``path``: beside it, until the block ends without an error. A crash leaves either
    the old file or the new one, never a partial file. The folder is made."""
    partial = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def put(finished: Path, path: Path) -> None:
    """A file or a folder that is finished takes its name; a file of that name gives way."""
    finished.replace(path)

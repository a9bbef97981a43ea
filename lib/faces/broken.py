"""What is installed but broken: a library or a file of weights that fails costs its feature and one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from ..pictures.tiles import memory_for

log = logging.getLogger(__name__)
T = TypeVar("T")

# By name: the state of the files, and what went wrong.
_failed: dict[str, tuple[tuple[tuple[int, int], ...], str]] = {}


def attempt(name: str, load: Callable[[], T], *files: Path) -> T | None:
    """What ``load`` gives, or None if it fails, which is logged once and not tried again until one of the files changes.

    Only a lack of memory is passed on: it says nothing about what is loaded.
    """
    state = tuple(map(_state, files))
    if name in _failed and _failed[name][0] == state:
        return None
    try:
        with memory_for(name):
            value = load()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a broken library or file raises whatever it stumbles over
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        for file in files:
            reason = reason.replace(str(file), file.name)
        log.warning("%s is installed but broken, and is not used (%s).", name, reason)
        _failed[name] = state, reason
        return None
    _failed.pop(name, None)
    return value


def _state(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def reasons() -> dict[str, str]:
    """What was found to be broken so far, and why."""
    return {name: reason for name, (_, reason) in _failed.items()}


def why(name: str) -> str:
    """The end of a sentence about something that is not available: empty unless it is broken."""
    return f" It is installed, but broken ({_failed[name][1]})." if name in _failed else ""

"""Restorers from files, loaded once: another setting finds the weights already there, another file does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any, TypeVar

from ...lib.bridge import keep

Made = TypeVar("Made")

KEPT = 2  # as many as a workflow usually has: one restorer for faces and one for the scene

# Seconds that an unloaded network lives on: the host is still going through its list of networks, which shrinks by any that dies.
LEAVING = 1.0

_kept: dict[tuple, Any] = {}  # in the order in which they were last used


def file_stamp(path: Path) -> tuple:
    """A file, or a folder of files, with everything that tells that it was changed: modification times and sizes."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    return path, *((one, status.st_mtime_ns, status.st_size) for one in files for status in [one.stat()])


def kept(build: Callable[..., Made], *given: Any) -> Made:
    """What ``build(keep, *given)`` makes of files and of whatever else touches the weights; None may be given too.

    It is built again if a file was changed, and after the host has unloaded the network. keep is `bridge.keep`; build
    calls it with its network. Several restorers may share what this returns, so do not change it.
    """
    key = build, *(file_stamp(one) if isinstance(one, Path) else one for one in given)
    if key in _kept:
        made = _kept.pop(key)
    else:
        while len(_kept) >= KEPT:  # beforehand, so that no more than these are ever in memory
            del _kept[next(iter(_kept))]
        made = build(partial(keep, unloaded=partial(_leave, key)), *given)
    _kept[key] = made
    return made


def _leave(key: tuple) -> None:
    """Forgets what the host has unloaded, and lets it go a little later."""
    timer = Timer(LEAVING, id, [_kept.pop(key, None)])  # the timer holds it
    timer.daemon = True
    timer.start()

"""Folders of long runs, which can be resumed only with the settings that they were started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..vocabulary import UserError
from .whole import write_whole

SETTINGS = "settings.json"


def settle_folder(folder: Path, settings: dict[str, Any], where: str, advice: str) -> None:
    """Creates the folder and stores the settings in it as JSON. where: the user's name for it; advice: what to do.

    Raises UserError if it was started with different settings, because the result would mix both.
    """
    path, settings = folder / SETTINGS, json.loads(json.dumps(settings))
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: its {path.name} belongs to something else ({error}). {advice}") from error
        if differ := _differing(before, settings):
            raise UserError(f"{where} was started with different values of {', '.join(differ)}. {advice}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2) + "\n")


def _differing(before: Any, now: Any, name: str = "") -> list[str]:
    """Names of the values that differ; nested names are joined by dots."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            one for key in keys for one in _differing(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [name]

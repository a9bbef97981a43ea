"""A folder in which a long run is taken up again: only with the settings that it was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..vocabulary import UserError
from .whole import write_whole

SETTINGS = "settings.json"


def settle(folder: Path, settings: dict[str, Any], where: str, advice: str) -> None:
    """Keeps the settings, as JSON has them, in the folder, which is made. where: how the user named it; advice: what to do.

    Raises UserError where it was begun with others: half of the result would be one thing, half another.
    """
    path, settings = folder / SETTINGS, json.loads(json.dumps(settings))
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{where}: {path.name} in it is of something else ({error}). {advice}") from error
        if differ := _differing(before, settings):
            raise UserError(f"{where}: was begun with another {', '.join(differ)}. {advice}")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2) + "\n")


def _differing(before: Any, now: Any, name: str = "") -> list[str]:
    """Names of the values that differ, those within others with dots."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            one for key in keys for one in _differing(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [name]

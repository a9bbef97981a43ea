"""A folder in which a long run is taken up again: only with the settings that it was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..vocabulary import UserError

SETTINGS = "settings.json"


def settle(folder: Path, settings: dict[str, Any], where: str) -> None:
    """Keeps the settings, JSON's values, in the folder, which is made. where: how the user named it, for the message.

    Raises UserError where it was begun with others: half of the result would be one thing, half another.
    """
    path = folder / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        differ = sorted(name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name))
        if differ:
            raise UserError(
                f"{where}: was begun with another {', '.join(differ)}. Choose another one, or delete {folder}."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(settings, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Never half of it."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)

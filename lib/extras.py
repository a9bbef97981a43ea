"""Packages that only some nodes need: the extras in pyproject.toml, and what to say when one is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path

from .vocabulary import UserError

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
# Where a package is imported under another name than the one it is installed by.
IMPORTED_AS = {"dlib-bin": "dlib"}


def require(who: str, *extras: str) -> None:
    """Raises UserError if a package of these extras is not installed. who: the node or command that needs them."""
    missing = [name for extra in extras for name in packages(extra) if importlib.util.find_spec(imported(name)) is None]
    if missing:
        names = ", ".join(_name(one) for one in dict.fromkeys(missing))
        verb = "which is" if len(set(missing)) == 1 else "which are"
        raise UserError(f"{who} needs {names}, {verb} not installed. Run: {command(*extras)}")


def command(*extras: str) -> str:
    """The command that installs extras into the Python environment in use."""
    if not PROJECT.is_file():
        return f'pip install "personal-restore[{",".join(extras)}]"'
    wanted = dict.fromkeys(one for extra in extras for one in packages(extra))
    return " ".join(["pip install", *(f'"{one}"' for one in wanted)])


def packages(extra: str) -> list[str]:
    """The requirements of an extra, such as ``ultralytics>=8.4``. Those of an installed pack are in its metadata."""
    if PROJECT.is_file():
        listed: dict[str, list[str]] = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
        return listed[extra]
    lines = importlib.metadata.requires("personal-restore") or []
    mark = re.compile(rf";\s*extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    return [line.split(";")[0].strip() for line in lines if mark.search(line)]


def imported(requirement: str) -> str:
    """The module of a requirement."""
    name = _name(requirement)
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~\[; ]", requirement, maxsplit=1)[0]

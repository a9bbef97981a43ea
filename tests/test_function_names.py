"""A public function's name says what it does in the whole project, and not only in its module."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The same concept wherever it occurs.
SHARED = {
    "add": "puts a command into the command line",
    "main": "runs a program",
    "bench": "runs a benchmark",
    "table": "a benchmark's figures for people to read",
    "read_config": "a training's defaults with the overrides of a JSON file",
    "restorer": "makes a restorer of weights that ship with the pack",
    "restorer_from": "makes a published system's restorer from its files",
    **dict.fromkeys(("device", "models_folder", "progress", "resolve_input"), "what the bridge asks its host"),
}


def public_functions(source: str) -> Iterator[str]:
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node.name


def collisions(modules: Mapping[str, str]) -> dict[str, list[str]]:
    """The names of more than one function, with the modules that have one. modules: sources by name."""
    where = defaultdict(list)
    for module, source in modules.items():
        for name in public_functions(source):
            where[name].append(module)
    return {name: found for name, found in where.items() if len(found) > 1}


def project() -> dict[str, str]:
    rooms = ("lib", "models", "training", "nodes", "cli")
    paths = [ROOT / "run.py", *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def test_no_two_public_functions_of_different_meaning_share_a_name():
    found = {name: modules for name, modules in collisions(project()).items() if name not in SHARED}
    assert not found, "rename them, or declare one concept in SHARED"


def test_what_is_declared_as_shared_is_shared():
    assert collisions(project()).keys() >= SHARED.keys()


def test_a_collision_is_seen():
    modules = {
        "a.py": "def load(): ...\ndef _own(): ...",
        "b.py": "async def load(): ...\nclass C:\n    def load(self): ...",
    }
    assert collisions(modules) == {"load": ["a.py", "b.py"]}

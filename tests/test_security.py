"""The tests that SECURITY.md names exist, so that no line of it is held by nothing; and the pack's routes only read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_holds_a_line_exists():
    named = NAMED.findall((ROOT / ".github" / "SECURITY.md").read_text("utf-8"))
    assert len(named) > 25
    for file, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{file} has no {name}"


def test_every_line_of_a_table_names_a_test():
    for line in (ROOT / ".github" / "SECURITY.md").read_text("utf-8").splitlines():
        if line.startswith("| ") and "held by" not in line:
            assert NAMED.search(line) or "as for a shared workflow" in line, line


def test_one_module_adds_routes_and_they_only_read():
    rooms = ("lib", "models", "nodes", "training", "cli")
    sources = [ROOT / "__init__.py", *(path for room in rooms for path in (ROOT / room).rglob("*.py"))]
    added = [
        (path.name, how)
        for path in sources
        for how in re.findall(r"\broutes\.(\w+)\(|(?:add_routes|add_static|router)\b", path.read_text("utf-8"))
    ]
    assert added == [("bridge.py", "get")]

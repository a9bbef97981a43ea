"""What the documentation names is there, and the messages that it explains are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "models").rglob("*.md"),
    ]
)
MESSAGES = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "guide.md").read_text("utf-8"), re.MULTILINE)


@cache
def texts() -> tuple[str, ...]:
    """Every text in the pack's code, with … for what is filled in."""
    found = []
    for path in ROOT.rglob("*.py"):
        if not {"tests", ".venv", "build"} & set(path.relative_to(ROOT).parts):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_guide_explains_messages():
    assert len(MESSAGES) >= 8


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_guide_is_one_of_the_code(message):
    assert any(message in text for text in texts())

"""Every command that the documentation shows exists, with these words and options."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex

import pytest
from personal_restore.cli.main import _parser

from .conftest import ROOT
from .test_docs import PAGES

BY_RUN_PY = {"test", "check", "fuzz"}  # which run.py carries out itself
VALUES = {"N": "1", "F": "1.0"}  # what stands for a number; other words in capitals stand for text
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
NAMES = set(_parser()._subparsers._group_actions[0].choices)


def alternatives(line: str) -> list[list[str]]:
    """The argument lists that a line stands for: ``[--out DIR]`` is given, ``a|b`` is each of them once, ``...`` none."""
    words = shlex.split(line.replace("[", " ").replace("]", " ").replace("...", " "), comments=True)
    choices = [word.split("|") if re.fullmatch(r"[\w-]+(\|[\w-]+)+", word) else [word] for word in words]
    return [[VALUES.get(word, word) for word in chosen] for chosen in itertools.product(*choices)]


def shown() -> list[tuple[str, str, bool]]:
    """Page, what follows ``run.py``, and whether it is a whole command and not a mention within a sentence."""
    found = []
    for page in [*PAGES, ROOT / "cli" / "tools" / "help.toml"]:
        text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
        for block in FENCE.findall(text):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(name, line.split("run.py ", 1)[1], True) for line in lines if "run.py " in line]
        for code in INLINE.findall(FENCE.sub("", text)):
            if "run.py " in code:
                found.append((name, code.split("run.py ", 1)[1], False))
            elif code.split()[0] in NAMES - {"run", "demo"} and " " in code:
                found.append((name, code, False))  # "`train projector`", where it is clear whose command that is
    return list(dict.fromkeys(found))


SHOWN = shown()


class Refused(Exception):
    """What argparse would have printed before it ended the process."""


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the command line read the words, without doing anything. Raises Refused with its complaint."""

    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise Refused(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    _parser().parse_args(words)


def test_the_documentation_shows_commands():
    assert len(SHOWN) > 40
    assert {line.split()[0] for _, line, _ in SHOWN} >= {
        "demo",
        "restore",
        "train",
        "bench",
        "persona",
        "test",
        "check",
    }
    assert ("docs/CHANGELOG.md", "train projector", False) in SHOWN


@pytest.mark.parametrize(("page", "line", "whole"), SHOWN, ids=[f"{page}: {line}" for page, line, _ in SHOWN])
def test_a_command_of_the_documentation_exists(page, line, whole, monkeypatch):
    for words in alternatives(line):
        if words[0] in BY_RUN_PY:
            missing = [word for word in words[1:] if word.startswith("tests") and not (ROOT / word).exists()]
            assert not missing, page
            continue
        try:
            parsed(words, monkeypatch)
        except Refused as complaint:
            # A mention may leave out what the command needs besides.
            needs_more = re.search(r"arguments are required|expected (one|at least one) argument", str(complaint))
            assert not whole and needs_more, f"{page}: run.py {' '.join(words)}: {complaint}"
        except SystemExit as end:
            assert end.code == 0 and "--help" in words


def test_a_command_that_does_not_exist_is_seen(monkeypatch):
    for line in ("train projektor", "bench faces --photos DIR --sides 3", "restore PHOTO --seed much", "frobnicate"):
        with pytest.raises(Refused):
            parsed(alternatives(line)[0], monkeypatch)


def test_a_line_of_usage_stands_for_several_commands():
    line = "bench faces|blend [--json FILE ...] [--side N]   # measured"
    assert alternatives(line) == [["bench", "faces", "--json", "FILE", "--side", "1"],
                                  ["bench", "blend", "--json", "FILE", "--side", "1"]]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_script_of_the_documentation_exists(page):
    for script in re.findall(r"python (cli/[\w/]+\.py)", page.read_text("utf-8")):
        assert (ROOT / script).is_file()

"""``python run.py check``, and who calls it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from personal_restore.cli.tools import api, check
from personal_restore.cli.tools.generated import stale_files

from .conftest import ROOT


@pytest.mark.parametrize("caller", [".ci/run", ".pre-commit-config.yaml", ".github/workflows/check.yml"])
def test_everybody_calls_the_same_command(caller):
    assert "run.py check" in (ROOT / caller).read_text("utf-8")


def test_the_strict_rooms_exist():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert settings["strict"]
    for name in settings["packages"] + settings["modules"]:
        path = ROOT / name.removeprefix("personal_restore.").replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_generated_files_are_written_by_what_checks_them():
    named = check.commands(Path("somewhere"))
    assert {"lint", "format", "types", "imports", *check.GENERATORS} == named.keys()
    assert all(Path(command[1]).is_file() for command in check.GENERATORS.values())


def test_a_failure_is_shown_with_what_it_says(tmp_path, capsys):
    assert check.run_check("good", (sys.executable, "-c", "print('quiet')"), tmp_path)
    assert not check.run_check("bad", (sys.executable, "-c", "print('this is wrong'); raise SystemExit(1)"), tmp_path)
    shown = capsys.readouterr().out
    assert "good: ok" in shown and "quiet" not in shown and "bad: failed" in shown and "this is wrong" in shown


def test_a_stale_workflow_is_seen(tmp_path, monkeypatch):
    files, there = api.api_files(), sorted((api.WORKFLOWS / "api").glob("*.json"))
    assert not stale_files(files, there)
    first = next(iter(files))
    assert stale_files(files | {first: "{}"}, there) == [first]
    assert stale_files({path: text for path, text in files.items() if path != first}, there) == [first]

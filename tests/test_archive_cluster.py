"""A folder restored by a Ray cluster of this machine. Skipped where Ray is absent."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from .conftest import ROOT
from .test_archive import given, graph, lines, photos_folder, restored, tree  # noqa: F401

pytest.importorskip("ray", reason='Ray is not installed: pip install "ray[data]"')
pytestmark = pytest.mark.slow


def test_actors_make_what_one_process_makes_and_one_that_dies_loses_nothing(tmp_path, photos_folder, restored):  # noqa: F811
    (photos_folder / "bad.jpg").write_text("no picture")
    assert restored(photos_folder)[0] == 1
    expected = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "here")
    start = [sys.executable, str(ROOT / "run.py"), *given(tmp_path, photos_folder, "--ray", "--workers", "2")]
    process, killed = subprocess.Popen(start, env=os.environ), False
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True) if not killed else ():
            try:
                if "MapWorker" in " ".join(child.cmdline()):
                    child.kill()
                    killed = True
                    break
            except psutil.NoSuchProcess:
                continue
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert killed and process.returncode == 1 and tree(tmp_path / "out") == expected
    assert len(lines(tmp_path / "out" / "failed.jsonl")) == 1

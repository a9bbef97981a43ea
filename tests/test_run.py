"""The bootstrap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_processes_that_are_spawned_find_the_package():
    """As on Windows and macOS, where a new process knows nothing of its parent's modules."""
    code = """
import multiprocessing, runpy, sys
sys.argv = ["run.py"]
import run
run.load_package()
from personal_restore.training import procedural
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(procedural.draw_picture, (3, 32)).shape)
"""
    root = Path(__file__).parent.parent
    script = root / "run.py"
    # The child runs the main script again under another name: that has to be run.py.
    code = code.replace("if __name__", f"import __main__; __main__.__file__ = {str(script)!r}\nif __name__")
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(32, 32, 3)", done.stderr[-800:]


def test_one_test_file_can_be_run_by_itself():
    root = Path(__file__).parent.parent
    command = [sys.executable, str(root / "run.py"), "test", "tests/test_run.py", "--collect-only", "-q"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert {line.split("::")[0] for line in done.stdout.splitlines() if "::" in line} == {"tests/test_run.py"}

"""Everything that can be checked without running the tests: ``python run.py check``.

Ruff's lint and format, mypy on the rooms that pyproject.toml names, the directions of imports, and whether the generated
files (help pages, translations, the schema snapshot, subgraphs, workflows in API format) are up to date. ``--fix`` first applies what
ruff can fix, formats, and writes the generated files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "cli" / "tools"
GENERATORS = {
    name: (sys.executable, str(TOOLS / f"{name}.py")) for name in ("localise", "snapshot", "subgraphs", "api")
}


def commands(package: Path) -> dict[str, tuple[str, ...]]:
    """What is run, by name. package: a folder in which the pack is named personal_restore."""
    ruff, mypy = (sys.executable, "-m", "ruff"), (sys.executable, "-m", "mypy")
    return {
        "lint": (*ruff, "check", "."),
        "format": (*ruff, "format", "--check", "."),
        "types": (*mypy, "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(package / "cache")),
        "imports": (sys.executable, "-m", "pytest", "-q", "tests/test_import_directions.py"),
        **{name: (*command, "--check") for name, command in GENERATORS.items()},
    }


def run_check(name: str, command: tuple[str, ...], package: Path) -> bool:
    """Runs one check; prints its name and, where it fails, what it says."""
    started = time.monotonic()
    environment = os.environ | {"MYPYPATH": str(package)}
    # mypy's own package would be found twice, once under the folder's name, if it ran in the checkout.
    done = subprocess.run(
        command, cwd=package if name == "types" else ROOT, env=environment, capture_output=True, text=True
    )
    said = "" if done.returncode == 0 else f"\n{done.stdout}{done.stderr}".rstrip()
    print(f"{name}: {'failed' if done.returncode else 'ok'} ({time.monotonic() - started:.0f} s){said}", flush=True)
    return done.returncode == 0


def fix() -> None:
    """Applies what can be fixed without thinking."""
    for command in (("check", "--fix", "--quiet", "."), ("format", "--quiet", ".")):
        subprocess.run((sys.executable, "-m", "ruff", *command), cwd=ROOT)
    for command in GENERATORS.values():
        subprocess.run(command, cwd=ROOT)


def main() -> int:
    parser = argparse.ArgumentParser("run.py check", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="first fix what can be fixed automatically")
    if parser.parse_args().fix:
        fix()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        (package / "personal_restore").symlink_to(ROOT, target_is_directory=True)
        named = commands(package)
        types = named.pop("types")
        with ThreadPoolExecutor(2) as pool:  # mypy takes as long as the others together
            checked = pool.submit(run_check, "types", types, package)
            others = [run_check(name, command, package) for name, command in named.items()]
            return 0 if all([*others, checked.result()]) else 1


if __name__ == "__main__":
    sys.exit(main())

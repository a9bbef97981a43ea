"""Files that a tool writes from others, and the check that they are what it would write."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def stale_files(files: dict[Path, str], there: Iterable[Path]) -> list[Path]:
    """Those that differ from what they should contain, and those of ``there`` that should not exist."""
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    return changed + sorted(set(there) - files.keys())


def write_or_check(tool: str, description: str, files: dict[Path, str], there: Iterable[Path]) -> int:
    """The command line of such a tool, ``cli/tools/TOOL.py``: writes what is stale, or with ``--check`` names it and fails."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is stale")
    check, changed = parser.parse_args().check, stale_files(files, there)
    for path in changed:
        if check:
            print(f"{path.relative_to(ROOT)} is stale: python cli/tools/{tool}.py")
        elif path in files:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files[path], "utf-8", newline="\n")
        else:
            path.unlink()
    if not (check and changed):
        print(f"{len(files)} files are up to date")
    return int(check and bool(changed))

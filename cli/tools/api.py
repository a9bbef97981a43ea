"""Writes the bundled workflows in API format (``workflows/api``): ``python cli/tools/api.py``.

Run it after saving a workflow in ComfyUI. ``--check`` writes nothing and fails if a file is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path.insert(0, str(ROOT))
    import run

    run.load_package()
from personal_restore.lib.standin.convert import to_api  # noqa: E402
from personal_restore.lib.standin.core_nodes import CORE_NODES  # noqa: E402
from personal_restore.lib.standin.graph import kinds  # noqa: E402
from personal_restore.nodes import NODES  # noqa: E402

WORKFLOWS = ROOT / "workflows"


def api_files() -> dict[Path, str]:
    """What each file in API format should contain."""
    known = kinds((*CORE_NODES, *NODES))
    return {
        WORKFLOWS / "api" / path.name: json.dumps(to_api(json.loads(path.read_text("utf-8")), known), indent=2) + "\n"
        for path in sorted(WORKFLOWS.glob("*.json"))
    }


def stale_api_files(files: dict[Path, str]) -> list[Path]:
    """The files that differ from what they should contain, or belong to no workflow."""
    changed = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    return changed + sorted(set((WORKFLOWS / "api").glob("*.json")) - files.keys())


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the bundled workflows in API format.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is stale")
    check, files = parser.parse_args().check, api_files()
    changed = stale_api_files(files)
    for path in changed:
        if check:
            print(f"{path.relative_to(ROOT)} is stale: python cli/tools/api.py")
        elif path in files:
            path.write_text(files[path], "utf-8", newline="\n")
        else:
            path.unlink()
    if not (check and changed):
        print(f"{len(files)} files are up to date")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())

"""Writes the bundled workflows in API format (``workflows/api``): ``python cli/tools/api.py``.

Run it after saving a workflow in ComfyUI. ``--check`` writes nothing and fails if a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path.insert(0, str(ROOT))
    import run

    run.load_package()
from personal_restore.cli.tools.generated import write_or_check  # noqa: E402
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


if __name__ == "__main__":
    described = "Writes the bundled workflows in API format."
    sys.exit(write_or_check("api", described, api_files(), (WORKFLOWS / "api").glob("*.json")))

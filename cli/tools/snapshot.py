"""What saved workflows know of the nodes, kept in ``tests/schemas.json``: ``python cli/tools/snapshot.py`` renews it.

A workflow names nodes and linked inputs by id, keeps the values of widgets by position, and links outputs by position. So
everything in a released schema must stay where it is. An input may be appended last, optional and with a default; an
output may be appended last. An input may be renamed as `lib.renamed_inputs` declares. A text may become a dropdown,
whose node then takes the texts that are not in it. The snapshot is updated only if that holds. To break it intentionally before a first
release, remove the node from the file by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path.insert(0, str(ROOT))
    import run

    run.load_package()
from personal_restore.lib.renamed_inputs import RENAMED  # noqa: E402
from personal_restore.lib.standin.io import Input, Schema, WidgetInput  # noqa: E402
from personal_restore.nodes import NODES  # noqa: E402

SNAPSHOT = ROOT / "tests" / "schemas.json"


def widgets(item: Input) -> int:
    """How many values a saved workflow keeps for an input."""
    if not isinstance(item, WidgetInput) or item.options.get("forceInput"):
        return 0
    return 2 if item.options.get("control_after_generate") or item.options.get("image_upload") else 1


def describe_input(item: Input) -> dict[str, Any]:
    known = {"id": item.id, "type": item.io_type, "optional": item.optional, "widgets": widgets(item)}
    return known | {"default": item.options["default"]} if "default" in item.options else known


def described_schemas(schemas: Iterable[Schema]) -> dict[str, Any]:
    """As the snapshot has it."""
    known = {
        schema.node_id: {
            "inputs": [describe_input(item) for item in schema.inputs],
            "outputs": [{"id": item.display_name or item.io_type, "type": item.io_type} for item in schema.outputs],
        }
        for schema in sorted(schemas, key=lambda schema: schema.node_id)
    }
    return json.loads(json.dumps(known))


def breaks(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What would break in a workflow that was saved with the nodes of ``before``."""
    found = []
    for node in before:
        if node not in after:
            found.append(f"{node} is gone")
            continue
        for kind in ("inputs", "outputs"):
            old, new = before[node][kind], after[node][kind]
            if kind == "inputs":
                old = [_renamed(node, one, new) for one in old]
            ids, now = [one["id"] for one in old], [one["id"] for one in new]
            if now[: len(ids)] != ids:
                found.append(f"{node}: the {kind} {ids} must stay as they are, in this order; now they are {now}")
                continue
            for was, one in zip(old, new, strict=False):
                kept = {"STRING": ("STRING", "COMBO")}.get(was["type"], (was["type"],))
                if one["type"] not in kept or was.get("widgets") != one.get("widgets"):
                    found.append(f"{node}: {was['id']} must stay a {was['type']} with as many widgets")
                if was.get("optional") and not one["optional"]:
                    found.append(f"{node}: {was['id']} must stay optional")
            for one in new[len(old) :] if kind == "inputs" else ():
                if not one["optional"] or (one["widgets"] and "default" not in one):
                    found.append(f"{node}: {one['id']} is new and must be optional, with a default")
    return found


def _renamed(node: str, was: dict[str, Any], now: list[dict[str, Any]]) -> dict[str, Any]:
    """What an input is called now, if that is declared and done."""
    new = RENAMED.get(node, {}).get(was["id"])
    if new is None or new["name"] not in {one["id"] for one in now}:
        return was
    return was | {"id": new["name"]} | ({"type": "FLOAT"} if "thousandths" in new else {})


def main() -> int:
    parser = argparse.ArgumentParser(description="Updates the snapshot of what saved workflows know of the nodes.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where it is stale")
    check = parser.parse_args().check
    before = json.loads(SNAPSHOT.read_text("utf-8")) if SNAPSHOT.is_file() else {}
    after = described_schemas(node.define_schema() for node in NODES)
    found = breaks(before, after)
    if check and before != after:
        found = found or [f"{SNAPSHOT.relative_to(ROOT)} is stale: python cli/tools/snapshot.py"]
    elif not found:
        SNAPSHOT.write_text(json.dumps(after, indent=2) + "\n", "utf-8", newline="\n")
    print(*(found or [f"{len(after)} nodes"]), sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

"""Inputs that had another name in workflows saved earlier, declared once in ``nodes/web/renamed_inputs.json``.

ComfyUI's node replacement only concerns nodes whose class is gone, so it cannot rename an input of a node that stays.
The same table is therefore read in three places: by ComfyUI's server for prompts (`lib/bridge.py`), by the headless
runner, and by the editor when it opens a workflow (``nodes/web/js/renamed_inputs.js``).

``{node class: {old name: {"name": new name, ...}}}``. ``thousandths``: the old value counted the 1000 steps of noise
that the new one, 0..1, is a share of; ``widget`` is then its position among the values of a UI-format workflow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RENAMED: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent.parent / "nodes" / "web" / "renamed_inputs.json").read_text("utf-8")
)


def renamed_prompt(prompt: Any) -> Any:
    """A graph in API format under today's names; the given one is unchanged. Whatever is no graph comes back as it is.

    The editor sends a link to an old input beside the value of the widget that replaced it: the link counts.
    """
    if not isinstance(prompt, dict):
        return prompt
    return {id: _renamed_node(node) for id, node in prompt.items()}


def renamed_workflow(workflow: Any) -> Any:
    """The same for a graph in UI format, laid flat, which names only what is linked.

    Its other values have no names. A noise level above 1 is recognized as one in steps; a single step of noise is not.
    """
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        return workflow
    return workflow | {"nodes": [_renamed_ui_node(node) for node in workflow["nodes"]]}


def _renamed_node(node: Any) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        return node
    renamed, inputs = _table(node.get("class_type")), dict(node["inputs"])
    for old in renamed.keys() & inputs.keys():
        value, new = inputs.pop(old), renamed[old]
        if new["name"] not in inputs or isinstance(value, list):
            inputs[new["name"]] = _share(value) if "thousandths" in new else value
    return node | {"inputs": inputs}


def _renamed_ui_node(node: Any) -> Any:
    renamed = _table(node.get("type")) if isinstance(node, dict) else {}
    if not renamed:
        return node
    slots, values = node.get("inputs"), node.get("widgets_values")
    if isinstance(slots, list):
        slots = [_renamed_slot(slot, renamed) for slot in slots]
    if isinstance(values, list):
        values = list(values)
        for new in renamed.values():
            if "thousandths" in new and len(values) > (at := new["widget"]) and _number(values[at]) and values[at] > 1:
                values[at] = _share(values[at])
    return node | {"inputs": slots, "widgets_values": values}


def _renamed_slot(slot: Any, renamed: dict[str, dict[str, Any]]) -> Any:
    if not isinstance(slot, dict) or not isinstance(slot.get("name"), str) or slot["name"] not in renamed:
        return slot
    name = renamed[slot["name"]]["name"]
    return slot | {"name": name} | ({"widget": {"name": name}} if "widget" in slot else {})


def _table(kind: Any) -> dict[str, dict[str, Any]]:
    return RENAMED.get(kind, {}) if isinstance(kind, str) else {}


def _share(value: Any) -> Any:
    return value / 1000 if _number(value) else value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

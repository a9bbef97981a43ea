"""Writes ``subgraphs/*.json`` and the workflows that are built from them: ``python cli/tools/subgraphs.py``.

``subgraphs.toml`` says which part of which workflow becomes a subgraph. ComfyUI offers every file of ``subgraphs/`` as one node.
Run this after changing a workflow that a subgraph is cut out of. ``--check`` writes nothing and fails if a file is stale.
"""

from __future__ import annotations

import copy
import json
import sys
import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path.insert(0, str(ROOT))
    import run

    run.load_package()
from personal_restore.cli.tools.generated import write_or_check  # noqa: E402
from personal_restore.lib.standin.core_nodes import CORE_NODES  # noqa: E402
from personal_restore.lib.standin.graph import kinds  # noqa: E402
from personal_restore.lib.standin.io import WidgetInput  # noqa: E402
from personal_restore.lib.standin.subgraphs import INPUTS, OUTPUTS  # noqa: E402
from personal_restore.nodes import NODES  # noqa: E402

SPECIFICATION = ROOT / "cli" / "tools" / "subgraphs.toml"
CATEGORY = "personal restore"
ROW = 20  # pixels between two slots

KNOWN = kinds((*CORE_NODES, *NODES))


@dataclass(frozen=True)
class Piece:
    """A blueprint: the definition of its subgraph, and the node that uses it, linked to nothing."""

    definition: dict[str, Any]
    host: dict[str, Any]


def cut(workflow: dict[str, Any], wanted: dict[str, Any]) -> Piece:
    """The nodes that ``wanted`` names, as a subgraph with its inputs and outputs. Raises KeyError for a slot that is not there."""
    nodes = {one["id"]: copy.deepcopy(one) for one in workflow["nodes"] if one["id"] in wanted["nodes"]}
    outside = {one["id"]: one for one in workflow["nodes"]}
    links = [dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), one, strict=True))
             for one in workflow["links"] if one[3] in nodes]  # fmt: skip
    inner = [one for one in links if one["origin_id"] in nodes]
    _forget(nodes, {one["id"] for one in inner})
    inputs, slots, shown = _entries(wanted, nodes, outside, links, inner)
    outputs, given_out = _exits(wanted, nodes, inner)
    _renumber(nodes, inner, [*inputs, *outputs], workflow["last_link_id"] + 1)
    return _piece(workflow, wanted, nodes, inner, (inputs, slots, shown), (outputs, given_out))


def _entries(
    wanted: dict[str, Any],
    nodes: dict[int, dict[str, Any]],
    outside: dict[int, dict[str, Any]],
    links: list[dict[str, Any]],
    inner: list[dict[str, Any]],
) -> tuple[list, list, list]:
    """The subgraph's inputs, the same on its node, and the widgets that its node shows. Adds their links to ``inner``."""
    inputs, slots, shown = [], [], []
    for at, given in enumerate(wanted["inputs"]):
        if "from" in given:
            source = _output(outside, given["from"])
            ends = [one for one in links if (one["origin_id"], one["origin_slot"]) == source]
        else:
            ends = [
                dict(zip(("target_id", "target_slot", "type"), _slot(nodes, end), strict=True)) for end in given["to"]
            ]
            ends = [one | {"id": f"{given['name']} {number}"} for number, one in enumerate(ends)]
        ends = [one | {"origin_id": INPUTS, "origin_slot": at} for one in ends]
        for end in ends:
            nodes[end["target_id"]]["inputs"][end["target_slot"]]["link"] = end["id"]
        slot = {"name": given["name"], "type": ends[0]["type"], "link": None}
        target = nodes[ends[0]["target_id"]]["inputs"][ends[0]["target_slot"]]
        if "widget" in target:
            slot["widget"] = {"name": given["name"]}
            shown.append([str(ends[0]["target_id"]), target["widget"]["name"]])
        inner += ends
        inputs.append(_boundary(wanted, "inputs", given["name"], slot["type"], [end["id"] for end in ends]))
        slots.append(slot)
    return inputs, slots, shown


def _exits(wanted: dict[str, Any], nodes: dict[int, dict[str, Any]], inner: list[dict[str, Any]]) -> tuple[list, list]:
    """The subgraph's outputs, and the same on its node. Adds their links to ``inner``."""
    outputs, given_out = [], []
    for at, given in enumerate(wanted["outputs"]):
        id, index = _output(nodes, given["from"])
        output, link = nodes[id]["outputs"][index], f"to {given['name']}"
        output["links"] = [*output["links"], link]
        ends = {"id": link, "origin_id": id, "origin_slot": index, "target_id": OUTPUTS, "target_slot": at}
        inner.append(ends | {"type": output["type"]})
        outputs.append(_boundary(wanted, "outputs", given["name"], output["type"], [link]))
        given_out.append({"name": given["name"], "type": output["type"], "links": []})
    return outputs, given_out


def _renumber(
    nodes: dict[int, dict[str, Any]], links: list[dict[str, Any]], ends: list[dict[str, Any]], first: int
) -> None:
    """Numbers the links from ``first`` on, since a number must not occur again in the workflow around the piece."""
    numbers = {one["id"]: first + at for at, one in enumerate(links)}
    for link in links:
        link["id"] = numbers[link["id"]]
    for end in ends:
        end["linkIds"] = [numbers[link] for link in end["linkIds"]]
    for node in nodes.values():
        for slot in node.get("inputs") or ():
            slot["link"] = numbers.get(slot["link"])
        for slot in node.get("outputs") or ():
            slot["links"] = [numbers[link] for link in slot["links"]]


def _forget(nodes: dict[int, dict[str, Any]], kept: set[int]) -> None:
    """Takes the links away that lead out of the piece or into it."""
    for node in nodes.values():
        for slot in node.get("inputs") or ():
            slot["link"] = slot["link"] if slot["link"] in kept else None
        for slot in node.get("outputs") or ():
            slot["links"] = [link for link in slot["links"] or () if link in kept]


def _boundary(wanted: dict[str, Any], side: str, name: str, kind: str, links: list[int]) -> dict[str, Any]:
    return {"id": _uuid(wanted["name"], side, name), "name": name, "type": kind, "linkIds": links}


def _uuid(*names: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("personal_restore", *names))))


def _output(nodes: dict[int, dict[str, Any]], end: str) -> tuple[int, int]:
    """A node and the position of one of its outputs, by the output's name; a reroute's has none."""
    id, _, name = end.partition(".")
    outputs = [one["name"] for one in nodes[int(id)]["outputs"]]
    if name not in outputs:
        raise KeyError(f"{end}: node {id} has the outputs {', '.join(outputs)}")
    return int(id), outputs.index(name)


def _slot(nodes: dict[int, dict[str, Any]], end: str) -> tuple[int, int, str]:
    """A node of the piece, the position of one of its inputs, and its type. A widget gets an input first."""
    id, _, name = end.partition(".")
    node = nodes[int(id)]
    slots = node.setdefault("inputs", [])
    if name not in [one["name"] for one in slots]:
        known = next((one for one in KNOWN[node["type"]].schema.inputs if one.id == name), None)
        if not isinstance(known, WidgetInput):
            raise KeyError(f"{end}: {node['type']} has no widget of that name")
        slots.append({"name": name, "type": known.io_type, "widget": {"name": name}, "link": None})
    index = [one["name"] for one in slots].index(name)
    return int(id), index, slots[index]["type"]


def _piece(
    workflow: dict[str, Any],
    wanted: dict[str, Any],
    nodes: dict[int, dict[str, Any]],
    links: list[dict[str, Any]],
    taken: tuple[list, list, list],
    given: tuple[list, list],
) -> Piece:
    (inputs, slots, shown), (outputs, given_out) = taken, given
    left, top, right, bottom = _bounds(list(nodes.values()))
    groups = [one for one in workflow["groups"] if left - 60 <= one["bounding"][0] < right]
    id = _uuid(wanted["name"])
    definition = {
        "id": id,
        "version": 1,
        "state": {
            "lastGroupId": max((one["id"] for one in groups), default=0),
            "lastNodeId": max(nodes),
            "lastLinkId": max(one["id"] for one in links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": wanted["name"],
        "description": f"{wanted['description']}\n\n{wanted['zh']}",
        "category": CATEGORY,
        "inputNode": {"id": INPUTS, "bounding": [left - 260, top, 140, ROW * (len(inputs) + 2)]},
        "outputNode": {"id": OUTPUTS, "bounding": [right + 120, top, 140, ROW * (len(outputs) + 2)]},
        "inputs": [one | {"pos": [left - 140, top + ROW * (at + 1)]} for at, one in enumerate(inputs)],
        "outputs": [one | {"pos": [right + 140, top + ROW * (at + 1)]} for at, one in enumerate(outputs)],
        "widgets": [],
        "nodes": list(nodes.values()),
        "groups": groups,
        "links": links,
        "extra": {"BlueprintSearchAliases": wanted["aliases"]},
    }
    host = {
        "id": 1,
        "type": id,
        "pos": [0, 0],
        "size": [300, 60 + 30 * max(len(slots), len(given_out))],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": slots,
        "outputs": given_out,
        "title": wanted["name"],
        "properties": {"proxyWidgets": shown},
        "widgets_values": [],
    }
    return Piece(definition, host)


def _bounds(nodes: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    corners = [(*one["pos"], one["pos"][0] + one["size"][0], one["pos"][1] + one["size"][1]) for one in nodes]
    left, top, right, bottom = zip(*corners, strict=True)
    return min(left), min(top), max(right), max(bottom)


def blueprint(piece: Piece, aliases: list[str]) -> dict[str, Any]:
    """The file that ComfyUI offers as one node."""
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [piece.host],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [piece.definition]},
        "extra": {"BlueprintSearchAliases": aliases},
    }


def with_piece(
    workflow: dict[str, Any], wanted: dict[str, Any], piece: Piece, cut_out: dict[str, Any]
) -> dict[str, Any]:
    """The workflow with the piece as one node instead of its nodes, without those that ``wanted`` leaves out, laid out as it says."""
    made = copy.deepcopy(workflow)
    host = copy.deepcopy(piece.host) | {"id": made["last_node_id"] + 1}
    inside, gone = set(cut_out["nodes"]), set(cut_out["nodes"]) | set(wanted["without"])
    nodes = {one["id"]: one for one in made["nodes"] if one["id"] not in gone} | {host["id"]: host}
    sources = {_output({one["id"]: one for one in workflow["nodes"]}, one["from"]): at
               for at, one in enumerate(cut_out["inputs"]) if "from" in one}  # fmt: skip
    results = {_output({one["id"]: one for one in workflow["nodes"]}, one["from"]): at
               for at, one in enumerate(cut_out["outputs"])}  # fmt: skip
    links, fed = [], set()
    for link in made["links"]:
        id, origin, slot, target, index, kind = link
        if target in inside:
            at = sources.get((origin, slot))
            if at is None or at in fed:
                continue
            fed.add(at)
            links.append([id, origin, slot, host["id"], at, kind])
        elif origin in inside and target in nodes:
            links.append([id, host["id"], results[origin, slot], target, index, kind])
        elif {origin, target} <= nodes.keys():
            links.append(link)
    _relink(nodes, links)
    for id, place in wanted["places"].items():
        nodes[host["id"] if id == "piece" else int(id)] |= {"pos": place[:2], "size": place[2:]}
    for at, node in enumerate(nodes.values()):
        node["order"] = at
    note = next(one for one in nodes.values() if one["type"] == "MarkdownNote")
    note["widgets_values"] = [wanted["note"]]
    made |= {
        "id": _uuid("workflows", wanted["name"]),
        "last_node_id": host["id"],
        "last_link_id": piece.definition["state"]["lastLinkId"],
        "nodes": list(nodes.values()),
        "links": links,
        "groups": [],
        "extra": made["extra"] | {"linearData": _app(wanted["app"], str(host["id"])), "linearMode": False},
        "definitions": {"subgraphs": [piece.definition]},
    }
    return made


def with_blueprints(workflow: dict[str, Any], pieces: dict[str, Piece]) -> dict[str, Any]:
    """A workflow saved with blueprints on its canvas, with these as they are now. pieces: by the ids of their definitions."""
    made, last = copy.deepcopy(workflow), max(link[0] for link in workflow["links"])
    for at, saved in enumerate(made["definitions"]["subgraphs"]):
        definition = copy.deepcopy(pieces[saved["id"]].definition)
        ends = [*definition["inputs"], *definition["outputs"]]
        _renumber({one["id"]: one for one in definition["nodes"]}, definition["links"], ends, last + 1)
        last += len(definition["links"])
        definition["state"]["lastLinkId"] = last
        made["definitions"]["subgraphs"][at] = definition
    return made | {"last_link_id": last}


def _app(wanted: dict[str, Any], host: str) -> dict[str, Any]:
    """What app mode shows, as the editor saves it: widgets and output nodes in their order."""
    inputs = [[host if id == "piece" else id, name] for id, name in wanted["inputs"]]
    return {"inputs": inputs, "outputs": wanted["outputs"]}


def _relink(nodes: dict[int, dict[str, Any]], links: list[list[Any]]) -> None:
    """Writes the links into the slots of the nodes."""
    for node in nodes.values():
        for slot in node.get("inputs") or ():
            slot["link"] = None
        for slot in node.get("outputs") or ():
            slot["links"] = []
    for id, origin, slot, target, index, _ in links:
        nodes[origin]["outputs"][slot]["links"].append(id)
        nodes[target]["inputs"][index]["link"] = id


def specified() -> dict[str, Any]:
    """What ``subgraphs.toml`` asks for."""
    return tomllib.loads(SPECIFICATION.read_text("utf-8"))


def made_files() -> dict[Path, str]:
    """What each blueprint, and each workflow that is built from one or has one on its canvas, should contain."""
    wanted = specified()
    blueprints = {one["name"]: one for one in wanted["blueprint"]}
    sources = {
        one["source"]: json.loads((ROOT / "workflows" / f"{one['source']}.json").read_text("utf-8"))
        for one in blueprints.values()
    }
    pieces = {name: cut(sources[one["source"]], one) for name, one in blueprints.items()}
    files = {
        ROOT / "subgraphs" / f"{name}.json": blueprint(pieces[name], one["aliases"]) for name, one in blueprints.items()
    }
    for one in wanted.get("template", ()):
        cut_out = blueprints[one["blueprint"]]
        files[ROOT / "workflows" / f"{one['name']}.json"] = with_piece(
            sources[cut_out["source"]], one, pieces[one["blueprint"]], cut_out
        )
    known = {piece.definition["id"]: piece for piece in pieces.values()}
    for path in (ROOT / "workflows").glob("*.json"):
        if path not in files and "definitions" in (saved := json.loads(path.read_text("utf-8"))):
            files[path] = with_blueprints(saved, known)
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in files.items()}


if __name__ == "__main__":
    described = "Writes the subgraphs and the workflows that are built from them."
    sys.exit(write_or_check("subgraphs", described, made_files(), (ROOT / "subgraphs").glob("*.json")))

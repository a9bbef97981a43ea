"""Converts workflows from the UI format to the API format, like the frontend's "Export (API)"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..renamed_inputs import renamed_workflow
from . import io
from .graph import Graph, GraphError, Kinds
from .subgraphs import flattened

MUTED, BYPASSED = 2, 4
VIRTUAL = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
SEEDS = {"seed", "noise_seed"}  # whatever is called so has another widget: what becomes of it after a run


def to_api(workflow: dict[str, Any], known: Kinds) -> Graph:
    """The graph of a UI-format workflow. Subgraphs are laid flat, notes and muted nodes dropped, reroutes followed.

    Raises `GraphError` for unknown node classes, unless the file names their widgets.
    """
    _check(workflow)
    workflow = renamed_workflow(flattened(workflow))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}

    def source(link: int | None) -> list | None:
        """[node id, output] at the source of a link, following reroutes; None if the source is a node that does not
        run."""
        passed = set()
        while link in links and link not in passed:
            passed.add(link)  # reroutes may form a circle
            id, output = links[link]
            node = nodes.get(id)
            if node is None:
                return None
            if node["type"] != "Reroute":
                return None if node.get("mode") in (MUTED, BYPASSED) else [str(id), output]
            link = next((slot.get("link") for slot in node.get("inputs") or ()), None)
        return None

    graph: Graph = {}
    for node in sorted(workflow["nodes"], key=lambda node: node.get("order", 0)):
        if node["type"] in VIRTUAL or node.get("mode") in (MUTED, BYPASSED):
            continue
        values = node.get("widgets_values") or []
        if node["type"] in known:
            schema = known[node["type"]].schema
            widgets, display_name = _widgets(schema), schema.display_name
        else:
            widgets, display_name = _listed_widgets(node, len(values)), None
            if len(widgets) != len(values):
                raise GraphError(
                    [
                        f"node {node['id']} ({node['type']}) is unknown here, so the names of its widgets are not "
                        "available."
                    ]
                )
        inputs = dict(zip(widgets, values, strict=False))
        inputs = {name: value for name, value in inputs.items() if name is not None}
        if node["type"] == "ImageCompare":  # a widget without a value, which the server requires anyway
            inputs["compare_view"] = {"__value__": ["", ""]}
        if node["type"] in known:  # a widget newer than the file gets its default, as in the frontend
            inputs = _defaults(known[node["type"]].schema) | inputs
        inputs |= node.get("promoted") or {}
        for slot in node.get("inputs") or ():
            if (link := source(slot.get("link"))) is not None:
                inputs[slot["name"]] = link
        title = node.get("title") or display_name or node["type"]
        graph[str(node["id"])] = {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}
    return graph


def _check(workflow: Any) -> None:
    """Raises `GraphError` unless the file has nodes with ids, classes, and lists where lists belong, and links between them."""
    lists = isinstance(workflow, dict) and all(isinstance(workflow.get(name), list) for name in ("nodes", "links"))
    if not lists:
        raise GraphError(["it is not in the UI format, which has a list of nodes and a list of links."])
    problems = [f"entry {index} of its nodes {fault}." for index, fault in _faults(workflow["nodes"], _node_fault)]
    problems += [f"entry {index} of its links {fault}." for index, fault in _faults(workflow["links"], _link_fault)]
    definitions = workflow.get("definitions") or {}
    subgraphs = (definitions.get("subgraphs") or []) if isinstance(definitions, dict) else None
    if not isinstance(subgraphs, list):
        raise GraphError(["its definitions are not an object with a list of subgraphs."])
    problems += [f"entry {index} of its subgraphs {fault}." for index, fault in _faults(subgraphs, _subgraph_fault)]
    if problems:
        raise GraphError(problems)


def _faults(entries: list, fault: Callable[[Any], str]) -> list[tuple[int, str]]:
    return [(index, found) for index, entry in enumerate(entries) if (found := fault(entry))]


def _node_fault(node: Any) -> str:
    if not isinstance(node, dict) or type(node.get("id")) not in (int, str) or not isinstance(node.get("type"), str):
        return "is not a node with an id and a type"
    if type(node.get("order", 0)) is not int:
        return "has an order that is not a number"
    if not isinstance(node.get("widgets_values") or [], list):
        return "has widget values that are not a list"
    inputs = node.get("inputs") or []
    if not isinstance(inputs, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in inputs):
        return "has inputs without names"
    if not all(s.get("link") is None or type(s["link"]) in (int, str) for s in inputs):
        return "has an input whose link is not a number"
    return ""


def _link_fault(link: Any) -> str:
    good = isinstance(link, list) and len(link) >= 3 and all(type(part) in (int, str) for part in link[:2])
    return "" if good and type(link[2]) is int else "is not a link of the form [id, node, output, ...]"


def _subgraph_fault(subgraph: Any) -> str:
    if not isinstance(subgraph, dict) or not isinstance(subgraph.get("id"), str):
        return "is not a subgraph with an id"
    if not all(isinstance(subgraph.get(name), list) for name in ("nodes", "links")):
        return "has no list of nodes or no list of links"
    found = [f"has a node at {at} that {fault}" for at, fault in _faults(subgraph["nodes"], _node_fault)]
    found += [f"has a link at {at} that {fault}" for at, fault in _faults(subgraph["links"], _inner_link_fault)]
    return found[0] if found else ""


def _inner_link_fault(link: Any) -> str:
    ids, slots = ("id", "origin_id", "target_id"), ("origin_slot", "target_slot")
    good = isinstance(link, dict) and all(type(link.get(name)) in (int, str) for name in ids)
    if good and all(type(link.get(name)) is int and link[name] >= 0 for name in slots):
        return ""
    return "is not a link with an id, an origin and a target"


def _widgets(schema: io.Schema) -> list[str | None]:
    """The names of a node's widgets in the order of ``widgets_values``; None for values that are no input: what becomes of a seed
    after a run, and the button for uploads, which comes after the required inputs."""
    shown = [one for one in schema.inputs if isinstance(one, io.WidgetInput) and not one.options.get("forceInput")]
    names: list[str | None] = []
    for optional in (False, True):
        for item in shown:
            if bool(item.optional) == optional:
                names += [item.id, None] if item.options.get("control_after_generate") else [item.id]
        if not optional and any(item.options.get("image_upload") for item in shown):
            names.append(None)
    return names


def _listed_widgets(node: dict[str, Any], count: int) -> list[str | None]:
    """The same for a node that is unknown here: current frontends list its widgets among its inputs, but not what becomes of a
    seed after a run. count: of the values."""
    names: list[str | None] = [slot["name"] for slot in node.get("inputs") or () if "widget" in slot]
    if len(names) != count:
        names = [one for name in names for one in ((name, None) if name in SEEDS else (name,))]
    return names


def _defaults(schema: io.Schema) -> dict[str, Any]:
    """The values of a fresh node's widgets, of those that have a default."""
    shown = (item for item in schema.inputs if isinstance(item, io.WidgetInput) and not item.options.get("forceInput"))
    return {item.id: item.options["default"] for item in shown if "default" in item.options}

"""Converts workflows from the UI format to the API format, like the frontend's "Export (API)"."""

from __future__ import annotations

from typing import Any

from . import io
from .graph import Graph, GraphError, Kinds

MUTED, BYPASSED = 2, 4
VIRTUAL = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}


def to_api(workflow: dict[str, Any], known: Kinds) -> Graph:
    """The graph of a UI-format workflow without subgraphs. Notes and muted nodes are dropped, reroutes are followed.

    Raises `GraphError` for unknown node classes, unless the file names their widgets.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}

    def source(link: int | None) -> list | None:
        """[node id, output] at the source of a link, following reroutes; None if the source is a node that does not
        run."""
        if link is None or link not in links:
            return None
        id, output = links[link]
        node = nodes[id]
        if node["type"] == "Reroute":
            return source(node["inputs"][0]["link"])
        return None if node["mode"] in (MUTED, BYPASSED) else [str(id), output]

    graph: Graph = {}
    for node in sorted(workflow["nodes"], key=lambda node: node.get("order", 0)):
        if node["type"] in VIRTUAL or node["mode"] in (MUTED, BYPASSED):
            continue
        values = node.get("widgets_values") or []
        if node["type"] in known:
            schema = known[node["type"]].schema
            widgets, display_name = _widgets(schema), schema.display_name
        else:
            # Current frontends list them among the inputs, in their order.
            widgets, display_name = [s["name"] for s in node.get("inputs", ()) if "widget" in s], None
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
        for slot in node.get("inputs", ()):
            if (link := source(slot.get("link"))) is not None:
                inputs[slot["name"]] = link
        title = node.get("title") or display_name or node["type"]
        graph[str(node["id"])] = {"inputs": inputs, "class_type": node["type"], "_meta": {"title": title}}
    return graph


def _widgets(schema: io.Schema) -> list[str | None]:
    """The names of a node's widgets in the order of ``widgets_values``; None for values that are no input."""
    names: list[str | None] = []
    ordered = sorted(schema.inputs, key=lambda item: bool(item.optional))
    for item in ordered:
        if isinstance(item, io.WidgetInput) and not item.options.get("forceInput"):
            names.append(item.id)
            if item.options.get("control_after_generate") or item.options.get("image_upload"):
                names.append(None)
    return names


def _defaults(schema: io.Schema) -> dict[str, Any]:
    """The values of a fresh node's widgets, of those that have a default."""
    shown = (item for item in schema.inputs if isinstance(item, io.WidgetInput) and not item.options.get("forceInput"))
    return {item.id: item.options["default"] for item in shown if "default" in item.options}

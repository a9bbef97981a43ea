"""Graphs in UI format with subgraphs, laid flat as the editor does when it queues them.

A subgraph is defined once, under ``definitions.subgraphs``, and used by host nodes whose type is its id. Its links from
`INPUTS` come from the host's inputs, those to `OUTPUTS` lead to the host's outputs. The node 8 inside the host 35 is called
``35:8``, as in the editor's API format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .graph import GraphError

INPUTS, OUTPUTS = -10, -20
MOST_NODES = 10_000  # a definition that uses another one twice, which uses another one twice, grows without end
DEEPEST = 50

Origin = tuple[int | str, int]  # a node and its output


@dataclass
class Scope:
    """The root graph, or one use of a subgraph. ``links``: origin by link id; ``ends``: the link that leads to each output."""

    nodes: dict[int | str, dict[str, Any]]
    links: dict[int | str, Origin]
    ends: dict[int, int | str] = field(default_factory=dict)
    prefix: str = ""
    host: dict[str, Any] | None = None
    parent: Scope | None = None
    inner: dict[int | str, Scope] = field(default_factory=dict)

    def flat_id(self, id: int | str) -> int | str:
        return f"{self.prefix}{id}" if self.prefix else id

    def origin(self, link: Any) -> Origin | None:
        """Where a link of this scope comes from in the flat graph; None if nothing is there."""
        scope, passed = self, set()
        while (scope.prefix, link) not in passed:
            passed.add((scope.prefix, link))  # a subgraph's output may lead around to its own input
            if link not in scope.links:
                return None
            id, slot = scope.links[link]
            if id == INPUTS and scope.host is not None and scope.parent is not None:
                link, scope = linked(scope.host, slot), scope.parent
            elif id in scope.inner:
                scope = scope.inner[id]
                link = scope.ends.get(slot)
            else:
                return scope.flat_id(id), slot
        return None


def flattened(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with the nodes of its subgraphs instead of their hosts, whose widgets' values they carry as ``promoted``.

    Raises `GraphError` for a subgraph that contains itself, and beyond `MOST_NODES` nodes or `DEEPEST` levels.
    """
    definitions = {one["id"]: one for one in (workflow.get("definitions") or {}).get("subgraphs") or ()}
    if not definitions:
        return workflow
    root = Scope(
        {node["id"]: node for node in workflow["nodes"]}, {one[0]: (one[1], one[2]) for one in workflow["links"]}
    )
    scopes, count = [root], 0
    for scope in scopes:
        count += len(scope.nodes)
        if count > MOST_NODES:
            raise GraphError([f"its subgraphs have more than {MOST_NODES} nodes."])
        for node in scope.nodes.values():
            if node["type"] in definitions and node.get("mode", 0) == 0:
                used = _use(scope, node, definitions[node["type"]])
                scope.inner[node["id"]] = used
                scopes.append(used)
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    _lay(root, definitions, nodes, links)
    return workflow | {"nodes": nodes, "links": links}


def linked(node: dict[str, Any], slot: int) -> int | str | None:
    """The link to an input of a node, by the input's position."""
    slots = node.get("inputs") or ()
    return slots[slot].get("link") if slot < len(slots) else None


def _use(parent: Scope, host: dict[str, Any], definition: dict[str, Any]) -> Scope:
    above, levels = parent, 1
    while above.host is not None and above.parent is not None:
        if above.host["type"] == host["type"] or levels == DEEPEST:
            raise GraphError([f"the subgraph {definition.get('name')!r} contains itself, or is {DEEPEST} levels deep."])
        above, levels = above.parent, levels + 1
    return Scope(
        {node["id"]: node for node in definition["nodes"]},
        {one["id"]: (one["origin_id"], one["origin_slot"]) for one in definition["links"]},
        {one["target_slot"]: one["id"] for one in definition["links"] if one["target_id"] == OUTPUTS},
        f"{parent.prefix}{host['id']}:",
        host,
        parent,
    )


def _lay(scope: Scope, definitions: dict[str, Any], nodes: list[dict[str, Any]], links: list[list[Any]]) -> None:
    """Appends the nodes of a scope in their order, each with links of its own."""
    for node in sorted(scope.nodes.values(), key=lambda node: node.get("order", 0)):
        if node["id"] in scope.inner:
            _lay(scope.inner[node["id"]], definitions, nodes, links)
            continue
        if node["type"] in definitions:  # muted or bypassed
            continue
        slots = []
        for slot in node.get("inputs") or ():
            origin = scope.origin(slot.get("link"))
            slots.append(slot | {"link": len(links) if origin else None})
            if origin:
                links.append([len(links), *origin])
        flat = node | {"id": scope.flat_id(node["id"]), "order": len(nodes), "inputs": slots}
        nodes.append(flat | {"promoted": _promoted(scope, node)})


def _promoted(scope: Scope, node: dict[str, Any]) -> dict[str, Any]:
    """The values of those widgets that are shown on a host, from the outermost that shows them."""
    found = {}
    for slot in node.get("inputs") or ():
        within, link, value = scope, slot.get("link"), {}
        while "widget" in slot and within.host is not None and within.parent is not None and link in within.links:
            id, at = within.links[link]
            if id != INPUTS:
                break
            value = _shown(within.host, at) or value
            within, link = within.parent, linked(within.host, at)
        if value:
            found[slot["name"]] = value["value"]
    return found


def _shown(host: dict[str, Any], slot: int) -> dict[str, Any]:
    """The value that a host keeps for one of its inputs, if it keeps any."""
    slots, values = host.get("inputs") or [], host.get("widgets_values") or []
    at = sum("widget" in one for one in slots[:slot])
    there = slot < len(slots) and "widget" in slots[slot] and at < len(values)
    return {"value": values[at]} if there and values[at] is not None else {}

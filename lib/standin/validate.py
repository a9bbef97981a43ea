"""Checks a graph against the nodes' schemas before anything runs.

The rules are those of ComfyUI, except that values are not coerced: a fraction is not an INT, the text "false" is not a
BOOLEAN, and a socket without a widget needs a link.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from . import io
from .core_nodes import COMFYUI_ONLY
from .graph import Graph, GraphError, Kinds, Node, check_structure, is_link, links, node_label, suggest


def checked(graph: Graph, known: Kinds) -> Graph:
    """The nodes that lead to an output node, each after those it depends on, with values of the inputs' types.

    Raises `GraphError` that lists all problems.
    """
    check_structure(graph)
    strangers = [id for id, node in graph.items() if node["class_type"] not in known]
    problems = [_no_class(id, graph[id], known) for id in strangers]
    # An unknown node may be an output node, so its inputs are checked too.
    ends = [id for id in graph if id in strangers or known[graph[id]["class_type"]].schema.is_output_node]
    if not ends:
        names = sorted(name for name, kind in known.items() if kind.schema.is_output_node)
        problems.append(f"it has no output node, so there is nothing to run. Add one of {', '.join(names)}.")
    needs = _needs(graph, ends)
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        path = " -> ".join(node_label(id, graph[id]) for id in error.args[1])
        problems.append(f"the links form a cycle: {path}. Remove one of these links.")
        order = list(needs)
    converted = {}
    for id in order:
        if id not in strangers:
            values, found = _check_node(graph[id], graph, known)
            problems += [f"{node_label(id, graph[id])}, {problem}" for problem in found]
            converted[id] = graph[id] | {"inputs": values}
    if problems:
        raise GraphError(problems)
    return converted


def _no_class(id: str, node: Node, known: Kinds) -> str:
    name = node["class_type"]
    if name in COMFYUI_ONLY:
        return f"{node_label(id, node)} runs only in ComfyUI. Open the workflow there."
    elsewhere = "" if name.startswith("PR_") else " Nodes from other packs run only in ComfyUI."
    return f"{node_label(id, node)}: this node is unknown.{elsewhere} {suggest(name, known)}"


def _needs(graph: Graph, ends: list[str]) -> dict[str, list[str]]:
    """These nodes and all their direct and indirect dependencies, each with its own dependencies."""
    needs: dict[str, list[str]] = {}
    pending = list(reversed(ends))
    while pending:
        id = pending.pop()
        if id not in needs:
            needs[id] = [link[0] for link in links(graph[id]).values() if is_link(link) and link[0] in graph]
            pending += reversed(needs[id])
    return needs


def _check_node(node: Node, graph: Graph, known: Kinds) -> tuple[dict[str, Any], list[str]]:
    """The converted inputs, and their problems. As in ComfyUI, inputs that are not in the schema are ignored."""
    kind = known[node["class_type"]]
    own_checks = _own_checks(kind.node)
    values, problems = {}, []
    for item in kind.schema.inputs:
        where = f'input "{item.id}"'
        if item.id not in node["inputs"]:
            if not item.optional:
                problems.append(f"{where}: the required input ({item.io_type}) is missing.")
            continue
        value = node["inputs"][item.id]
        try:
            if isinstance(value, list):
                _check_link(item, value, graph, known, any_type="input_types" in own_checks)
                values[item.id] = value
            else:
                values[item.id] = _converted(item, value, checks_itself=item.id in own_checks)
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if own_checks and not problems:
        problems += _run_own_checks(kind.node, own_checks, values)
    return values, problems


def _check_link(item: io.Input, link: list, graph: Graph, known: Kinds, any_type: bool) -> None:
    """any_type: the node asks for the types of its links and judges them itself."""
    if not is_link(link):
        raise ValueError(f"{_shown(link)} is not a link. A link has the form [node id, output index].")
    source, index = link
    if source not in graph:
        raise ValueError(f"it is linked to node {source}, which does not exist.")
    kind = known.get(graph[source]["class_type"])
    if kind is None:  # already reported, and its outputs are unknown
        return
    outputs = kind.schema.outputs
    if not 0 <= index < len(outputs):
        raise ValueError(
            f"it is linked to output {index} of {node_label(source, graph[source])}, which has {len(outputs)}."
        )
    given, wanted = (set(kind.split(",")) for kind in (outputs[index].io_type, item.io_type))
    if not any_type and "*" not in given | wanted and not given & wanted:
        raise ValueError(
            f"it needs {item.io_type}, but that output of {node_label(source, graph[source])} is {outputs[index].io_type}."
        )


def _converted(item: io.Input, value: Any, checks_itself: bool) -> Any:
    """The value as the input's type. Raises ValueError with what is allowed."""
    kind, options = item.io_type, item.options
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not isinstance(item, io.WidgetInput):
        if kind == "*":
            return value
        raise ValueError(f"it has no widget and needs a link to {kind}, not {_shown(value)}.")
    if kind == "INT":
        if not number or not _finite(value) or value != int(value):
            raise ValueError(f"{_shown(value)} is not a whole number.")
        value = int(value)
    elif kind == "FLOAT":
        if not number or not _finite(value):
            raise ValueError(f"{_shown(value)} is not a number.")
        value = float(value)
    elif kind == "STRING":
        if isinstance(value, dict) or value is None or (number and not _finite(value)):
            raise ValueError(f"{_shown(value)} is not text.")
        value = str(value)
    elif kind == "BOOLEAN":
        if not isinstance(value, bool):
            raise ValueError(f"{_shown(value)} is neither true nor false.")
    elif kind == "BOUNDING_BOX":
        sides = {"x", "y", "width", "height"}
        if not isinstance(value, dict) or not sides <= value.keys():
            raise ValueError(f"{_shown(value)} is not a box. A box is an object with x, y, width and height.")
        if not all(type(value[side]) in (int, float) and _finite(value[side]) for side in sides):
            raise ValueError(f"{_shown(value)} is not a box, because its sides are not numbers.")
    if checks_itself:
        return value
    low, high, choices = options.get("min"), options.get("max"), options.get("options")
    if low is not None and value < low:
        raise ValueError(f"{_shown(value)} is below the smallest allowed value, {low}.")
    if high is not None and value > high:
        raise ValueError(f"{_shown(value)} is above the largest allowed value, {high}.")
    if choices is not None and value not in choices:
        raise ValueError(
            f"{_shown(value)} is not one of {', '.join(map(repr, choices)) or 'the choices: there are none'}."
        )
    return value


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: Any) -> str:
    """For messages; Python refuses to write whole numbers of thousands of digits."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "this value"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _own_checks(node: type[io.ComfyNode]) -> tuple[str, ...]:
    """The inputs that a class validates itself, which ComfyUI then does not check."""
    if node.validate_inputs.__func__ is io.ComfyNode.validate_inputs.__func__:
        return ()
    return tuple(inspect.signature(node.validate_inputs).parameters)


def _run_own_checks(node: type[io.ComfyNode], names: tuple[str, ...], values: dict[str, Any]) -> Iterator[str]:
    """Linked inputs are not known yet and are passed as None."""
    given = {name: None if isinstance(values[name], list) else values[name] for name in names if name in values}
    answer = node.validate_inputs(**given)
    if answer is not True:
        yield f"input {', '.join(names)}: {answer or 'the node rejects it'}."

"""API-format graphs: reading them, naming their nodes, changing their values.

A graph is what ComfyUI's "Export (API)" writes:
``{node id: {"class_type": ..., "inputs": {name: value or [node id, output index]}, "_meta": {"title": ...}}}``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..renamed_inputs import renamed_prompt
from ..vocabulary import UserError
from . import io

LONGEST_PROBLEM = 2000  # characters of a line: names and values may have any number of them
LONGEST_NAME = 200  # of a class or an input, for which a similar one is looked for

Node = dict[str, Any]
Graph = dict[str, Node]


@dataclass(frozen=True)
class Kind:
    """A node class with its schema."""

    node: type[io.ComfyNode]
    schema: io.Schema


Kinds = Mapping[str, Kind]


def kinds(node_classes: Iterable[type[io.ComfyNode]]) -> dict[str, Kind]:
    """The classes by their ids."""
    schemas = ((node, node.define_schema()) for node in node_classes)
    return {schema.node_id: Kind(node, schema) for node, schema in schemas}


class GraphError(UserError):
    """Everything that is wrong with a graph, a line each in ``problems``."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(one if len(one) <= LONGEST_PROBLEM else f"{one[:LONGEST_PROBLEM]}..." for one in problems)
        super().__init__("The workflow cannot run:\n" + "\n".join(f"- {problem}" for problem in self.problems))


def load_graph(path: Path) -> Graph:
    """The graph under today's names of inputs. Raises `GraphError` if the file cannot be read, is not JSON, or is not an
    API-format graph.
    """
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GraphError([f"{path} cannot be read: {error.strerror}."]) from error
    except (ValueError, RecursionError) as error:
        raise GraphError([f"{path} is not JSON: {error}."]) from error
    check_structure(graph)
    return renamed_prompt(graph)


def check_structure(graph: Any) -> None:
    """Raises `GraphError` unless every node has a class and named inputs."""
    if not isinstance(graph, dict):
        raise GraphError([f"it is a JSON {type(graph).__name__}, not an object of nodes."])
    if isinstance(graph.get("nodes"), list):
        raise GraphError(["it is in the UI format. Export it from ComfyUI with File > Export (API)."])
    problems = []
    for id, node in graph.items():
        if not isinstance(node, dict):
            problems.append(f"node {id} is not an object.")
        elif not isinstance(node.get("class_type"), str):
            problems.append(f"node {id} has no class_type.")
        elif not isinstance(node.get("inputs"), dict):
            problems.append(f"node {id} ({node['class_type']}) has no object of inputs.")
    if problems:
        raise GraphError(problems)


def title(node: Node) -> str:
    """The title that the user gave a node, or ""."""
    meta = node.get("_meta")
    return str(meta.get("title") or "") if isinstance(meta, dict) else ""


def node_label(id: str, node: Node) -> str:
    """How messages name a node: ``node 3 "Find faces" (PR_DetectFaces)``."""
    named = f' "{title(node)}"' if title(node) else ""
    return f"node {id}{named} ({node['class_type']})"


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def links(node: Node) -> dict[str, list]:
    """The inputs of a node that come from other nodes; in this format every list is meant as a link."""
    return {name: value for name, value in node["inputs"].items() if isinstance(value, list)}


def linked_sources(graph: Graph, node: Node) -> dict[str, list]:
    """Of its `links`, those that lead to a node; the others are reported when the graph is checked."""
    return {name: link for name, link in links(node).items() if is_link(link) and link[0] in graph}


def suggest(wrong: str, known: Iterable[str]) -> str:
    """A sentence that suggests the probable name, or lists all names."""
    known = list(known)
    # Comparing takes time in the product of the lengths.
    close = difflib.get_close_matches(wrong, known, n=1) if len(wrong) <= LONGEST_NAME else []
    return f"Did you mean {close[0]!r}?" if close else f"There is {', '.join(sorted(known)) or 'none'}."


def apply_overrides(graph: Graph, overrides: Sequence[str], known: Kinds) -> Graph:
    """A copy of the graph with ``NODE.INPUT=VALUE`` set, one after the other.

    NODE is an id, a title, or a class that occurs once. VALUE is JSON, or else text as it stands; for a text input it
    is text, even where it could be a number or an object, unless it is a quoted JSON text or a link.
    Raises `GraphError` for unknown names.
    """
    check_structure(graph)
    graph = {id: node | {"inputs": dict(node["inputs"])} for id, node in graph.items()}
    for override in overrides:
        target, equals, text = override.partition("=")
        name, dot, key = target.strip().rpartition(".")
        if not (equals and dot):
            raise GraphError([f"{override!r} is not of the form NODE.INPUT=VALUE."])
        id = _find(graph, name)
        kind = known.get(graph[id]["class_type"])
        types = {item.id: item.io_type for item in kind.schema.inputs} if kind else dict.fromkeys(graph[id]["inputs"])
        if key not in types:
            raise GraphError([f"{override!r}: {node_label(id, graph[id])} has no input {key!r}. {suggest(key, types)}"])
        graph[id]["inputs"][key] = _value(text, types[key])
    return graph


def _value(text: str, io_type: str | None) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if io_type == "STRING" and not (isinstance(value, str) or is_link(value)) else value


def _find(graph: Graph, name: str) -> str:
    if name in graph:
        return name
    for found in (
        [id for id, node in graph.items() if title(node) == name],
        [id for id, node in graph.items() if node["class_type"] == name],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise GraphError([f"{name!r} is the name of nodes {', '.join(found)}. Use the id of the one you mean."])
    names = {*graph, *map(title, graph.values()), *(node["class_type"] for node in graph.values())} - {""}
    raise GraphError([f"there is no node {name!r}. {suggest(name, names)}"])

"""Runs an API-format graph without ComfyUI."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from ..vocabulary import UserError
from . import host, io
from .core_nodes import CORE_NODES
from .graph import Graph, Kind, Kinds, Node, apply_overrides, kinds, links, node_label, title
from .validate import checked

log = logging.getLogger(__name__)


@dataclass
class Results:
    """The results of a run.

    ui: the UI output of each node, by node id; outputs: per output node one list of values per output (a list, since a node
    may run once per item of its inputs); seconds: wall time of each node, in the order they ran.
    """

    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, list[list[Any]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Kept:
    """What later runs of the same graph take over, like ComfyUI's cache: the outputs of every node that none of ``changing``, nodes
    whose inputs differ from run to run, leads to. Output nodes run each time."""

    changing: frozenset[str]
    values: dict[str, list[list[Any]]] = field(default_factory=dict)


def run_graph(
    graph: Graph,
    node_classes: Iterable[type[io.ComfyNode]],
    *,
    overrides: Sequence[str] = (),
    on_node: Callable[[str, int, int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    kept: Kept | None = None,
) -> Results:
    """Checks the graph, then runs everything that leads to an output node, each node once.

    ``overrides`` are ``NODE.INPUT=VALUE``; ``on_node(name, index, count)`` is called before each node, and
    ``on_progress(done, total)`` with the progress of the one that runs; ``kept`` is taken over from the last run, and filled for the
    next one.
    Raises `GraphError` before anything runs, `UserError` naming the node in which something failed, and a
    KeyboardInterrupt that says where Ctrl-C struck.
    """
    known = kinds((*CORE_NODES, *node_classes))
    prompt = apply_overrides(graph, overrides, known)
    graph = checked(prompt, known)
    results = Results()
    values: dict[str, list[list[Any]]] = {}
    waiting = Counter(link[0] for node in graph.values() for link in links(node).values())
    constant = _constant(graph, known, kept.changing) if kept else frozenset()
    with torch.inference_mode():
        for index, (id, node) in enumerate(graph.items()):
            kind = known[node["class_type"]]
            if on_node:
                on_node(title(node) or kind.schema.display_name or node["class_type"], index, len(graph))
            start = time.perf_counter()
            hidden = SimpleNamespace(unique_id=id, prompt=prompt, extra_pnginfo=None)
            shown: dict[str, Any] = {}
            if kept and id in kept.values:
                values[id] = kept.values[id]
            else:
                with _named(id, node), host.reporting(on_progress) if on_progress else nullcontext():
                    values[id], shown = _run_node(node, kind, hidden, values)
            if kept and id in constant:
                kept.values[id] = values[id]
            results.seconds[id] = time.perf_counter() - start
            if shown:
                results.ui[id] = shown
            if kind.schema.is_output_node:
                results.outputs[id] = values[id]
            for source, _ in links(node).values():
                waiting[source] -= 1
            for done in [source for source in values if not waiting[source]]:
                del values[done]
    return results


def _constant(graph: Graph, known: Kinds, changing: frozenset[str]) -> frozenset[str]:
    """The nodes of an ordered graph that no changing one leads to, output nodes apart."""
    moved: set[str] = set()
    for id, node in graph.items():
        if id in changing or any(source in moved for source, _ in links(node).values()):
            moved.add(id)
    return frozenset(id for id in graph if id not in moved and not known[graph[id]["class_type"]].schema.is_output_node)


def _run_node(
    node: Node, kind: Kind, hidden: SimpleNamespace, values: dict[str, list[list[Any]]]
) -> tuple[list[list[Any]], dict[str, Any]]:
    """One list of values per output, and the node's UI output."""
    sources = links(node)
    inputs = {
        name: values[sources[name][0]][sources[name][1]] if name in sources else [value]
        for name, value in node["inputs"].items()
    }
    execute = type(kind.node.__name__, (kind.node,), {"hidden": hidden}).execute
    calls = [inputs] if kind.schema.is_input_list else list(_one_by_one(inputs))
    given = []
    for arguments in calls:
        blocker = _blocker(arguments, kind.schema.is_input_list)
        if blocker and blocker.message is not None:
            log.warning("%s: %s", node_label(hidden.unique_id, node), blocker.message)
        silent = io.NodeOutput(*[io.ExecutionBlocker(None)] * len(kind.schema.outputs))
        given.append(silent if blocker else execute(**arguments) or io.NodeOutput())

    outputs = []
    for index, output in enumerate(kind.schema.outputs):
        if any(index >= len(result.args) for result in given):
            raise UserError(f"it returned fewer outputs than the {len(kind.schema.outputs)} in its schema.")
        column = [result.args[index] for result in given]
        outputs.append([item for items in column for item in _items(items)] if output.is_output_list else column)
    shown: dict[str, Any] = {}
    for result in given:
        for key, items in _as_dict(result.ui).items():
            shown[key] = [*shown.get(key, ()), *items]
    return outputs, shown


def _blocker(arguments: dict[str, Any], lists: bool) -> io.ExecutionBlocker | None:
    """The first of the values that keeps the node from running, as in ComfyUI."""
    values = (item for value in arguments.values() for item in (value if lists else [value]))
    return next((value for value in values if isinstance(value, io.ExecutionBlocker)), None)


def _items(values: Any) -> list[Any]:
    return [values] if isinstance(values, io.ExecutionBlocker) else values


def _one_by_one(inputs: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """One call per item of the longest input; the shorter ones repeat their last item."""
    if empty := [name for name, items in inputs.items() if not items]:
        raise UserError(f"its input {', '.join(empty)} got an empty list.")
    for index in range(max(map(len, inputs.values()), default=1)):
        yield {name: items[min(index, len(items) - 1)] for name, items in inputs.items()}


def _as_dict(shown: Any) -> dict[str, Any]:
    return shown or {} if isinstance(shown, dict | None) else shown.as_dict()


@contextmanager
def _named(id: str, node: Node) -> Iterator[None]:
    """Adds the node's name to errors and Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"Stopped in {node_label(id, node)}.") from error
    except UserError as error:
        raise UserError(f"{node_label(id, node)}: {error}") from error
    except Exception as error:
        raise UserError(f"{node_label(id, node)} failed: {type(error).__name__}: {error}") from error

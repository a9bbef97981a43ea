"""``run.py run`` and ``run.py api``: any workflow, run or turned into its API format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...lib.vocabulary import UserError


def add(commands: argparse._SubParsersAction) -> None:
    run = commands.add_parser("run", help="run any API-format workflow; pictures are saved to --out")
    run.add_argument("workflow", type=Path)
    run.add_argument("--input", type=Path, default=Path("input"), help="folder for LoadImage and albums")
    run.add_argument("--out", type=Path, default=Path("output"))
    run.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE")
    run.set_defaults(run=_run)

    api = commands.add_parser("api", help="convert a UI-format workflow to API format")
    api.add_argument("workflow", type=Path)
    api.add_argument("target", type=Path)
    api.set_defaults(run=_api)


def _run(options: argparse.Namespace) -> int:
    from ...lib.standin.graph import load_graph
    from ...lib.standin.host import folders
    from ...lib.standin.runner import run_graph
    from ...nodes import NODES
    from ..progress import GraphProgress

    folders.input, folders.output = options.input, options.out
    graph = load_graph(options.workflow)
    with GraphProgress() as progress:
        results = run_graph(graph, NODES, overrides=options.set, on_node=progress.node, on_progress=progress.step)
    for shown in results.ui.values():
        for text in shown.get("text", ()):
            print(text)
    return 0


def _api(options: argparse.Namespace) -> int:
    from ...lib.standin.convert import to_api
    from ...lib.standin.core_nodes import CORE_NODES
    from ...lib.standin.graph import kinds
    from ...nodes import NODES

    try:
        workflow = json.loads(options.workflow.read_text(encoding="utf-8"))
        graph = to_api(workflow, kinds((*CORE_NODES, *NODES)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{options.workflow} is not a workflow saved by ComfyUI's editor ({error!r}).") from error
    options.target.write_text(json.dumps(graph, indent=2) + "\n", encoding="utf-8")
    return 0

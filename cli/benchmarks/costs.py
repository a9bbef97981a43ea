"""What the pack costs: seconds of processor time and memory, of this checkout and of an older one in turn.

Every figure comes from a process of its own (speed_figures.py), which is started again for every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ...lib import samples
from ...lib.pictures.files import to_pil
from ...lib.vocabulary import UserError
from . import speed_figures

HERE = Path(__file__).resolve().parents[2]
FIRST = "first_picture"
# `run.py restore` from start to end; run.py itself would want an environment in the older checkout.
RESTORE = """
import json, sys, time, run
run.load_package()
from personal_restore.cli.main import main
code = main(sys.argv[1:])
print(json.dumps({"first_picture_s": time.process_time()}))
sys.exit(code)
"""
# What ComfyUI does with the pack when it starts, after all that it has loaded for itself.
START = """
import asyncio, importlib.util, json, sys, time
comfyui, checkout, base = sys.argv[1:]
sys.argv[1:], sys.path[:0] = ["--cpu", "--base-directory", base], [comfyui]
import comfy.options
comfy.options.enable_args_parsing()
import server, execution, nodes, comfy_api.latest
async def nodes_of(pack):
    return await (await pack.comfy_entrypoint()).get_node_list()
began = time.process_time()
spec = importlib.util.spec_from_file_location("pack", f"{checkout}/__init__.py", submodule_search_locations=[checkout])
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
asyncio.run(nodes_of(pack))
print(json.dumps({"comfyui_start_s": time.process_time() - began}))
"""
COMFYUI = "comfyui_start"
FROM_START = (COMFYUI, FIRST, "imports")  # what is measured from the start on, with imports
KINDS = (FIRST, *speed_figures.FIGURES)


def bench(
    before: Path | None, runs: int = 5, kinds: Sequence[str] = KINDS, threads: int = 1, comfyui: Path | None = None
) -> dict[str, Any]:
    """Medians. before: an older checkout, whose runs alternate with ours. Raises UserError for a folder that is none.

    threads: of every process; with one, processor time says most. comfyui: its folder, to measure what the pack adds to its start.
    """
    if runs < 1 or threads < 1:
        raise UserError("--runs and --threads must be at least 1.")
    if comfyui is not None:
        if not (comfyui / "comfyui_version.py").is_file():
            raise UserError(f"--comfyui {comfyui}: there is no ComfyUI. Name the folder that holds its main.py.")
        kinds = (COMFYUI, *kinds)
    checkouts = {"after": HERE} if before is None else {"before": before.resolve(), "after": HERE}
    for folder in checkouts.values():
        if not (folder / "run.py").is_file():
            raise UserError(
                f"--before {folder}: there is no checkout of this pack. Name the folder that holds its run.py."
            )
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in checkouts}
    with tempfile.TemporaryDirectory() as compiled:  # Python's files, which every start but the first of a user has
        run = partial(_measured, compiled=compiled, threads=threads, comfyui=comfyui)
        for kind in kinds:
            for checkout in checkouts.values() if kind in FROM_START else ():
                run(checkout, kind)
            for _ in range(runs):
                for name, checkout in checkouts.items():
                    for figure, value in run(checkout, kind).items():
                        rows[name].setdefault(figure, []).append(value)
    figures = {name: {key: round(median(values), 3) for key, values in row.items()} for name, row in rows.items()}
    return {"threads": threads, "runs": runs, "torch": torch.__version__, **figures}


def _measured(checkout: Path, kind: str, compiled: str, threads: int, comfyui: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == FIRST:
            photo = Path(folder) / "photo.jpg"
            to_pil(samples.photograph()[0]).save(photo, quality=70)
            command = [sys.executable, "-c", RESTORE, "restore", str(photo), "--out", folder]
        elif kind == COMFYUI:
            command = [sys.executable, "-c", START, str(comfyui), str(checkout), folder]
        else:
            command = [sys.executable, speed_figures.__file__, str(checkout), kind]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{kind} failed in {checkout}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    names = [name for name in ("before", "after") if name in figures]
    lines = [f"| | {' | '.join(names)} | |", "|---|" + "---|" * (len(names) + 1)]
    for key, value in figures["after"].items():
        ratio = figures["before"][key] / value if "before" in figures and value else None
        cells = [f"{figures[name][key]:.2f}" for name in names]
        lines.append(f"| {key} | {' | '.join(cells)} | {'' if ratio is None else f'{ratio:.2f} times'} |")
    return "\n".join(lines)

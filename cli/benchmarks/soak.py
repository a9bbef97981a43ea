"""Whether a ComfyUI that runs for days stays as it was: memory, open files, and how soon it stops when it is told to.

One real server runs workflows in turn, with ComfyUI's `/free` after each run; every third run is cancelled at a random moment. Ctrl-C
ends it with the figures so far.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ...lib.bridge import device
from ...lib.standin.graph import Graph, load_graph
from ...lib.vocabulary import UserError
from .. import own

PACK = Path(__file__).resolve().parents[2]
# With the weights that come with the pack, and without a training.
WORKFLOWS = "face2scene", "perfuse", "perfuse_context_ablation", "perfuse_group", "degradation_lab", "who_is_who"
WARM_UP = 2  # runs of every workflow that are not counted: libraries are loaded, caches filled
STARTING, RUNNING, SETTLING = 300, 1800, 1.0  # seconds


@dataclass(frozen=True)
class Run:
    """resident: megabytes, and files: how many are open, after `/free`; pause: the longest time between two words of the server, in
    seconds, in a run to the end; stopped: seconds from the cancel to the end, None for a run to its end."""

    workflow: str
    seconds: float
    resident: float
    files: int
    pause: float
    stopped: float | None


def bench(comfyui: Path, workflows: Sequence[str], runs: int, seed: int) -> dict[str, Any]:
    """Runs every workflow ``runs`` times in the ComfyUI of that folder. Raises UserError where it does not start or a node fails."""
    if importlib.util.find_spec("aiohttp") is None:
        raise UserError(
            f"run.py bench soak needs what this ComfyUI needs: pip install -r {comfyui / 'requirements.txt'}"
        )
    if not (comfyui / "main.py").is_file():
        raise UserError(f"--comfyui {comfyui}: there is no main.py of ComfyUI in this folder.")
    graphs = {name: load_graph(PACK / "workflows" / "api" / f"{name}.json") for name in workflows}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background jobs ignore
    done: list[Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="personal_restore_") as folder,
        _server(comfyui, Path(folder)) as (port, process),
    ):
        try:
            for number in range(runs):
                for name, graph in graphs.items():
                    after = _moment(
                        np.random.default_rng([seed, len(done)]), number, [run for run in done if run.workflow == name]
                    )
                    done.append(asyncio.run(_run(port, process, name, own.with_seed(graph, number), after)))
        except KeyboardInterrupt:
            if len(done) <= WARM_UP * len(graphs):
                raise  # with less there is nothing to tell
    counted = done[WARM_UP * len(graphs) :]
    return {
        "comfyui": (comfyui / "comfyui_version.py").read_text("utf-8").split('"')[1],
        "runs": len(done),
        "cancelled": sum(run.stopped is not None for run in done),
        "megabytes_first": round(counted[0].resident) if counted else None,
        "megabytes_last": round(counted[-1].resident) if counted else None,
        "megabytes_per_run": _slope([run.resident for run in counted]),
        "files_per_run": _slope([run.files for run in counted]),
        "workflows": {name: _stops([run for run in done if run.workflow == name]) for name in graphs},
        "every": [asdict(run) for run in done],
    }


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"ComfyUI {figures['comfyui']}: {figures['runs']} runs, {figures['cancelled']} of them cancelled",
        f"resident memory after /free: {figures['megabytes_first']} MB at first, {figures['megabytes_last']} MB at last, "
        f"slope {figures['megabytes_per_run']} MB per run",
        f"open files: slope {figures['files_per_run']} per run",
        f"{'workflow':26} {'seconds':>8} {'longest pause, s':>17} {'longest wait after a cancel, s':>31}",
    ]
    for name, row in figures["workflows"].items():
        lines.append(
            f"{name:26} {row['seconds']:8} {row['pause']:17} {row['stopped'] if row['stopped'] is not None else '-':>31}"
        )
    return "\n".join(lines)


def _moment(rng: np.random.Generator, number: int, before: list[Run]) -> float | None:
    """After how many seconds a run is cancelled: every third one, once it is known how long one takes."""
    whole = [run.seconds for run in before if run.stopped is None]
    return float(rng.uniform(0, min(whole))) if number % 3 == 2 and whole else None


def _stops(runs: list[Run]) -> dict[str, float | None]:
    whole = [run for run in runs if run.stopped is None]
    return {
        "seconds": round(float(np.median([run.seconds for run in whole])), 1),
        "pause": round(max(run.pause for run in whole), 1),
        "stopped": max((round(run.stopped, 1) for run in runs if run.stopped is not None), default=None),
    }


def _slope(values: list[float]) -> float | None:
    """By least squares, per run."""
    return round(float(np.polyfit(range(len(values)), values, 1)[0]), 3) if len(values) > 2 else None


async def _run(port: int, process: psutil.Process, name: str, graph: Graph, after: float | None) -> Run:
    """One run, cancelled ``after`` so many seconds if it takes that long, and `/free`."""
    import aiohttp

    address, client = f"http://127.0.0.1:{port}", f"soak {time.monotonic_ns()}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/ws", params={"clientId": client}) as words,
    ):
        answer = await session.post(f"{address}/prompt", json={"prompt": graph, "client_id": client})
        if answer.status != 200:
            raise UserError(f"{name}: ComfyUI refuses the workflow: {(await answer.text())[:2000]}")
        start = last = time.monotonic()
        pause, cancelled, over = 0.0, None, False
        while not over:
            left = RUNNING if after is None or cancelled else max(0.0, start + after - time.monotonic())
            try:
                async with asyncio.timeout(left):
                    said = await words.receive()
                if said.type in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSING,
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.ERROR,
                ):
                    raise UserError(f"{name}: ComfyUI has ended.")
            except TimeoutError:
                if cancelled or after is None:
                    raise UserError(f"{name}: ComfyUI has said nothing for {RUNNING} s.") from None
                cancelled = time.monotonic()
                await session.post(f"{address}/interrupt", json={})
                continue
            now = time.monotonic()
            pause, last = max(pause, now - last), now
            event = said.json() if said.type == aiohttp.WSMsgType.TEXT else {}
            if event.get("type") == "execution_error":
                raise UserError(f"{name}: {event['data']['node_type']} failed: {event['data']['exception_message']}")
            over = event.get("type") in ("execution_success", "execution_interrupted")
            interrupted = event.get("type") == "execution_interrupted"
        seconds = last - start
        await session.post(f"{address}/history", json={"clear": True})
        await session.post(f"{address}/free", json={"unload_models": True, "free_memory": True})
    await asyncio.sleep(SETTLING)
    resident = process.memory_info().rss / 1e6
    files = process.num_handles() if os.name == "nt" else process.num_fds()
    return Run(name, seconds, resident, files, pause, last - cancelled if cancelled and interrupted else None)


@contextmanager
def _server(comfyui: Path, base: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A ComfyUI with this pack alone, on a free port, with folders of its own."""
    for name in ("custom_nodes", "input", "output"):
        (base / name).mkdir()
    (base / "custom_nodes" / "personal-restore").symlink_to(PACK, target_is_directory=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "main.py", "--port", str(port), "--listen", "127.0.0.1", "--base-directory", str(base)]
    command += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    command += [] if device().type != "cpu" else ["--cpu"]
    with (base / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=comfyui, stdout=log, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + STARTING
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    said = (base / "server.log").read_text("utf-8", "replace")[-2000:]
                    raise UserError(f"ComfyUI did not start:\n{said}")
                time.sleep(0.5)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0

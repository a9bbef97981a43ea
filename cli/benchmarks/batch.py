"""What a batch costs: ``python run.py bench batch``.

The sample portrait, damaged differently in every frame, goes through the workflow ``face2scene`` as one animated file.
Memory beyond that of the frames themselves should not grow with their number, and neither should the time until a cancel takes effect.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ...lib import samples
from ...lib.degradation.families import FAMILIES
from ...lib.pictures.files import to_pil
from ...lib.standin import host
from ...lib.standin.graph import Graph, load_graph
from ...lib.standin.runner import run_graph
from ...nodes import NODES
from ..own import with_album, with_photo

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "api" / "face2scene.json"
COUNTS = 1, 6, 24
EVERY = 0.02  # seconds between two looks at the memory


def bench() -> dict:
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as name:
        folder = Path(name)
        (folder / "album").mkdir()
        host.allow_folder(folder)
        host.folders.output = folder / "output"
        graph = with_album(load_graph(WORKFLOW), folder / "album")
        measure(graph, folder, 1)  # the networks are loaded, kernels are set up
        return {"batches": [measure(graph, folder, count) for count in COUNTS]}


def measure(graph: Graph, folder: Path, count: int) -> dict[str, float]:
    """One run with that many frames."""
    photo = folder / f"{count}.webp"
    damaged = [to_pil(FAMILIES["trial"](seed).apply(samples.photograph())[0]) for seed in range(count)]
    damaged[0].save(photo, save_all=True, append_images=damaged[1:], lossless=True)
    del damaged
    called: list[float] = []
    begin = time.perf_counter()
    with peak() as memory, told(called):
        run_graph(with_photo(graph, photo), NODES, on_node=lambda *_: called.append(time.perf_counter()))
    end = time.perf_counter()
    host.folders.clear_temp()
    moments = [begin, *called, end]
    gaps = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    return {"frames": count, "megabytes": memory[0] / 1e6, "seconds": end - begin, "cancel": max(gaps)}


@contextmanager
def peak() -> Iterator[list[float]]:
    """The most memory, in bytes, that the process has taken inside the block beyond what it had before."""
    process, over = psutil.Process(), threading.Event()
    before, most = process.memory_info().rss, [0.0]

    def look() -> None:
        while not over.wait(EVERY):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@contextmanager
def told(called: list[float]) -> Iterator[None]:
    """Notes every moment at which a node says how far it is, which is when a cancel takes effect."""
    usual = host.progress

    def progress(done: int, total: int, picture: object = None) -> None:
        called.append(time.perf_counter())

    host.progress = progress
    try:
        yield
    finally:
        host.progress = usual


def table(figures: dict) -> str:
    """The human-readable table."""
    lines = ["frames   more memory MB   seconds   seconds per frame   longest time until a cancel, s"]
    for row in figures["batches"]:
        lines.append(
            f"{row['frames']:6}{row['megabytes']:17.0f}{row['seconds']:10.1f}{row['seconds'] / row['frames']:20.2f}"
            f"{row['cancel']:33.2f}"
        )
    return "\n".join(lines)

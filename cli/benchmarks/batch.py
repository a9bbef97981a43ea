"""What a batch costs: ``python run.py bench batch``.

The sample portrait, damaged differently in every frame, goes through Restore Scene as one animated file. Beyond the frames
themselves, which are read, restored and shown, memory should not grow with their number, and neither should the time until a
cancel takes effect. Times are processor time: whatever else runs on the machine disturbs it least.
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
from ...lib.standin.runner import run_graph
from ...nodes import NODES

COUNTS = 1, 24
EVERY = 0.02  # seconds between two looks at the memory


def bench() -> dict:
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as name:
        folder = Path(name)
        host.allow_folder(folder)
        measure(folder, 1)  # the network is loaded, kernels are set up
        return {"batches": [measure(folder, count) for count in COUNTS]}


def measure(folder: Path, count: int) -> dict[str, float]:
    """One run with that many frames."""
    photo = folder / f"{count}.webp"
    damaged = [to_pil(FAMILIES["trial"](seed).apply(samples.photograph())[0]) for seed in range(count)]
    damaged[0].save(photo, save_all=True, append_images=damaged[1:], lossless=True)
    del damaged
    graph = {
        "photo": {"class_type": "LoadImage", "inputs": {"image": str(photo)}},
        "restorer": {"class_type": "PR_EmbeddedRestorer", "inputs": {}},
        "scene": {
            "class_type": "PR_RestoreScene",
            "inputs": {"image": ["photo", 0], "restorer": ["restorer", 0], "strength": 1.0, "seed": 0},
        },
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["scene", 0]}},
    }
    called: list[float] = []
    begin = time.process_time()
    with peak() as memory, told(called):
        run_graph(graph, NODES, on_node=lambda *_: called.append(time.process_time()))
    end = time.process_time()
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
        called.append(time.process_time())

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

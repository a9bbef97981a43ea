"""The same folder of small photographs by one process, two workers, ComfyUI servers and Ray: what each way costs, and that all agree."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from .scale import COPY, RUN, content_of, options_of_ways

SIDE, BROKEN = 64, 100  # pixels; of so many photographs one is broken
SMALL = 10  # a folder with so many times fewer photographs shows what it costs to start


def bench(count: int, servers: str, ray: bool) -> dict[str, Any]:
    """The seconds of a folder of ``count`` photographs, which are copied, and of one with a tenth of them, way after way;
    ms: what a photograph costs more; start: the rest; files: how many differ from those of one process."""
    ways = options_of_ways(servers, ray)
    rows: dict[str, dict[str, float]] = {way: {} for way in ways}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "copy.json").write_text(json.dumps(COPY))
        for size in (count // SMALL, count):
            _write(folder / f"{size}", size)
            for number, (way, options) in enumerate(ways.items()):
                out = folder / f"out {size} {number}"
                given = [folder / f"{size}", "--workflow", folder / "copy.json", "--out", out, *options]
                start = time.perf_counter()
                subprocess.run([sys.executable, RUN, "restore", *given], capture_output=True)
                rows[way][f"{size}"] = round(time.perf_counter() - start, 2)
        expected = content_of(folder / f"out {count} 0")
        assert len(expected) > 2 * count * (1 - 2 / BROKEN)
        for number, (way, row) in enumerate(rows.items()):
            each = (row[f"{count}"] - row[f"{count // SMALL}"]) / (count - count // SMALL)
            found = content_of(folder / f"out {count} {number}")
            differ = sum(expected.get(one) != found.get(one) for one in expected.keys() | found.keys())
            rows[way] |= {"ms": round(1000 * each, 2), "files": differ}
    return {"photographs": count, "ways": rows}


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"way | {figures['photographs'] // SMALL} photographs, s | {figures['photographs']}, s | each, ms | files that differ"
    ]
    return "\n".join([*lines, *(" | ".join([way, *map(str, row.values())]) for way, row in figures["ways"].items())])


def _write(folder: Path, count: int) -> None:
    rng = random.Random(count)  # noqa: S311 (pictures, no secrets)
    for number in range(count):
        path = folder / f"{number // 50:04}" / f"IMG_{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % BROKEN == BROKEN - 1:
            path.write_bytes(b"no picture")
        else:
            Image.frombytes("RGB", (SIDE, SIDE), rng.randbytes(3 * SIDE * SIDE)).save(path)

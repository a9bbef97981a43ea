"""What a folder of photographs costs beside their restoration: time, memory of the process that gives them out, and what a kill loses."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from ..archive.manifest import NAME, Entry, Origin
from ..archive.photograph import Job
from ..archive.run import Wanted, run

RUN = Path(__file__).resolve().parents[2] / "run.py"
ORIGIN = Origin("0" * 16, "1" * 16, "2" * 16)
IN_FOLDER, STRANGERS = 500, 2  # photographs; strangers' faces on each, of whom every tenth is seen again
COPY = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Photograph"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "3": {"class_type": "ImageCompare", "inputs": {"image_a": ["1", 0], "image_b": ["1", 0], "compare_view": ""}},
}


def options_of_ways(servers: str, ray: bool) -> dict[str, list[str]]:
    """The options of every way to restore a folder, by its name. servers: URLs of ComfyUI servers, separated by commas, or nothing."""
    own = {"one process": [], "two workers": ["--workers", "2"]}
    return (
        own
        | ({"servers": ["--servers", servers]} if servers else {})
        | ({"Ray": ["--ray", "--workers", "2"]} if ray else {})
    )


def bench(counts: list[int], kills: int, servers: str, ray: bool) -> dict[str, Any]:
    """counts: of photographs, each measured in a process of its own; kills: of a run that restores 40 photographs by copying them, in
    each of `options_of_ways`."""
    rows = []
    for count in counts:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measured_folder, (count,)))
    return {
        "rows": rows,
        "kills": kills,
        "lost": {way: lost(kills, options) for way, options in options_of_ways(servers, ray).items() if kills},
    }


def measured_folder(count: int) -> dict[str, float]:
    """Milliseconds per photograph, and those of computing, of a first run and of one that finds everything up to date, and the megabytes
    that they added to the memory of this process at most. Pictures are stubs; files, manifest and page are not."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder) / "photos", Path(folder) / "out", {}, Path(folder) / "none", ORIGIN)
        _write(job.folder, count)
        before, clocks = psutil.Process().memory_info().rss, []
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            for pending in (count, 0):
                start, computed = time.perf_counter(), time.process_time()
                assert run(job, lambda photographs: _stubs(job, photographs), Wanted()).pending == pending
                clocks.append((time.perf_counter() - start, time.process_time() - computed))
        page = (job.out / "index.html").stat().st_size
    peak = _peak() - before
    return {
        "photographs": count,
        **{
            f"{name}_{kind}ms": round(1000 * seconds / count, 3)
            for name, both in zip(("first", "again"), clocks, strict=True)
            for kind, seconds in zip(("", "cpu_"), both, strict=True)
        },
        "memory_mb": round(peak / 1e6, 1),
        "page_mb": round(page / 1e6, 1),
    }


def lost(kills: int, way: list[str]) -> int:
    """How many files differ between a run that was killed so many times, at random moments of its work, and an undisturbed one."""
    rng = random.Random(0)  # noqa: S311 (moments, no secrets)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "photos", 40, rng)
        (folder / "photos" / "broken.jpg").write_bytes(b"a stub")
        (folder / "copy.json").write_text(json.dumps(COPY))
        options = [folder / "photos", "--workflow", folder / "copy.json", "--redo", *way, "--out"]
        command = [sys.executable, RUN, "restore", *options]
        subprocess.run([*command, folder / "undisturbed"], capture_output=True)
        for _ in range(kills):
            _kill_during([*command, folder / "killed"], folder / "killed", rng)
        command.remove("--redo")
        subprocess.run([*command, folder / "killed"], capture_output=True)
        one, other = content_of(folder / "undisturbed"), content_of(folder / "killed")
        assert len(one) > 2 * 40
        return sum(one.get(path) != other.get(path) for path in one.keys() | other.keys())


def table(figures: dict[str, Any]) -> str:
    lines = ["photographs | first run, ms each | of it CPU | up to date, ms each | of it CPU | memory, MB | page, MB"]
    lines += [" | ".join(map(str, row.values())) for row in figures["rows"]]
    if figures["kills"]:
        for way, files in figures["lost"].items():
            lines.append(f"{figures['kills']} kills, {way}: {files} files differ from an undisturbed run")
    return "\n".join(lines)


def _kill_during(command: list, out: Path, rng: random.Random) -> None:
    """With --redo every run writes lines from the first photograph on; it is killed within the time that some of them take."""
    size = _size(out / NAME)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and _size(out / NAME) <= size:
        time.sleep(0.001)
    time.sleep(rng.random())
    process.kill()
    process.wait()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def content_of(out: Path) -> dict[str, object]:
    """Every file of an output folder, and every line of its manifest but for times."""
    found: dict[str, object] = {}
    for path in out.rglob("*"):
        if path.is_file() and path.name != NAME:
            found[path.relative_to(out).as_posix()] = path.read_bytes()
    for line in (out / NAME).read_text().splitlines():
        entry = json.loads(line)
        found[entry["photograph"]] = {
            name: value for name, value in entry.items() if name not in ("seconds", "finished")
        }
    return found


def _write(folder: Path, count: int, rng: random.Random | None = None) -> None:
    for number in range(count):
        path = folder / f"{number // IN_FOLDER:04}" / f"IMG_{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if rng is None:
            path.write_bytes(b"a stub")
        else:
            Image.frombytes("RGB", (160, 120), rng.randbytes(160 * 120 * 3)).save(path)


def _stubs(job: Job, photographs: Iterator[str]) -> Generator[Entry]:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(50, 128))
    for number, photograph in enumerate(photographs):
        status = (job.folder / photograph).stat()
        result = f"{photograph}.png"
        (job.out / result).parent.mkdir(exist_ok=True)
        (job.out / result).touch()
        faces = [_face("Anna", "")] + [
            _face(None, _likeness(known[rng.integers(50)] if rng.random() < 0.1 else rng.normal(size=128)))
            for _ in range(STRANGERS)
        ]
        failed = number % 100 == 99
        yield Entry(
            photograph, status.st_size, status.st_mtime_ns, "c" * 16, ORIGIN, result="" if failed else result,
            reason="it is broken" if failed else "",
            before=(1600, 1200), after=(1600, 1200), faces=[] if failed else faces, seconds=1.0,
        )  # fmt: skip


def _face(person: str | None, likeness: str) -> dict[str, Any]:
    face = {
        "person": person,
        "confidence": 0.6,
        "doubt": "",
        "box": [100, 100, 200, 240],
        "score": 0.99,
        "restored": True,
    }
    return face | ({"likeness": likeness} if likeness else {"album": {"1.jpg": 0.6}})


def _likeness(vector: np.ndarray) -> str:
    unit = (vector / np.linalg.norm(vector)).astype("<f2")
    return f"dlib:{base64.b64encode(unit.tobytes()).decode()}"


def _peak() -> int:
    from ..archive.workers import used

    return used()[0]

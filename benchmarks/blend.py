"""Blending costs what the faces cost, not what the photograph costs: ``python benchmarks/blend.py`` prints a table.

Eight faces of 200 px are blended into photographs of 2, 6 and 12 megapixels. The one copy of the photograph is measured
apart and subtracted; what is left should not grow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import run

run.load_package()
from personal_restore.fusion.blend import Patch, blend_faces  # noqa: E402
from personal_restore.fusion.mask import face_mask  # noqa: E402

SIZES = ((1200, 1680), (2000, 3000), (3000, 4000))
FACES, SIDE, REPEATS = 8, 200, 15


def fastest(*jobs: Callable[[], object]) -> list[float]:
    """Milliseconds of processor time of each job's quickest run; they take turns: other load disturbs all alike."""
    times = [[] for _ in jobs]
    for _ in range(REPEATS):
        for job, spent in zip(jobs, times, strict=True):
            start = time.process_time()
            job()
            spent.append((time.process_time() - start) * 1e3)
    return [min(spent) for spent in times]


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # whatever else runs on the machine disturbs one thread least
    print("megapixels   copy ms   blend ms   blend - copy ms   ratio")
    first = None
    for height, width in SIZES:
        photo = torch.rand(3, height, width)
        patches = []
        for number in range(FACES):
            x, y = (number % 4) * width // 4 + 50, (number // 4) * height // 2 + 50
            box = (x, y, x + SIDE, y + SIDE)
            patches.append(Patch(torch.rand(3, SIDE, SIDE), face_mask(SIDE), torch.ones(1, SIDE, SIDE), box))
        copy, blend = fastest(photo.clone, partial(blend_faces, photo, patches))
        first = first or blend - copy
        ratio = (blend - copy) / first
        print(f"{height * width / 1e6:10.1f}{copy:10.1f}{blend:11.1f}{blend - copy:18.1f}{ratio:8.2f}")


if __name__ == "__main__":
    main()

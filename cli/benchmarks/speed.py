"""Speed and memory of the embedded restorer on this machine, relative to the machine's capacity."""

from __future__ import annotations

import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...lib.bridge import device, keep
from ...lib.vocabulary import Conditions
from ...models.embedded import ready as embedded


def measure_speed(side: int = 1024, repeats: int = 3) -> dict[str, float | None]:
    """One picture of side x side; the fastest of a few runs. Peak memory is the process's since its start."""
    restorer = embedded.restorer(keep)
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    seconds = min(_timed(lambda: restorer.restore(picture, Conditions())) for _ in range(repeats))
    with FlopCounterMode(display=False) as counter:
        restorer.restore(picture, Conditions())
    matrix = torch.rand(2048, 2048, device=device())
    peak = 2 * 2048**3 / min(_timed(lambda: (matrix @ matrix)[0, 0].item()) for _ in range(5))
    return {
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "megapixels_per_second": round(side * side / 1e6 / seconds, 3),
        "share_of_matmul_peak": round(counter.get_total_flops() / seconds / peak, 3),
        "peak_memory_gb": _peak_memory(),
    }


def _timed(job) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        job()
    return time.perf_counter() - start


def _peak_memory() -> float | None:
    """Gigabytes, or None if the system does not say. ru_maxrss counts kilobytes, on macOS bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 2)

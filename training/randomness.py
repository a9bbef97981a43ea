"""Random numbers of a training, which leave those of everybody else in the process as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate.utils import set_seed


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block the generators of random, numpy and torch (on every device) start from the seed; afterwards they are where
    they were before it."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (everybody else's, not ours)
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            set_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            if mps is not None:
                torch.mps.set_rng_state(mps)

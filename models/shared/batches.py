"""A batch, picture by picture: what one restoration takes of memory then does not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ...lib.vocabulary import Conditions


def one_by_one(
    restore: Callable[[torch.Tensor, Conditions], torch.Tensor], image: torch.Tensor, conditions: Conditions
) -> torch.Tensor:
    """``[B, 3, H, W]`` through a ``restore`` of ``[1, 3, H, W]``, whose progress is counted over all of them."""
    count = len(image)

    def restored(index: int) -> torch.Tensor:
        def progress(done: int, total: int) -> None:
            conditions.progress(index * total + done, count * total)

        return restore(image[index : index + 1], replace(conditions, progress=progress))

    return torch.cat([restored(index) for index in range(count)]).to(image)

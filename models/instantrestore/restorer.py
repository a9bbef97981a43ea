"""InstantRestore as a PR_RESTORER: an aligned face in one step, from the damaged face and up to four pictures of the
album."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...lib.vocabulary import Conditions
from ..shared.batches import one_by_one

if TYPE_CHECKING:  # importing diffusers takes seconds, which would delay the start of ComfyUI
    from .network import InstantRestore

REFERENCES = 4  # as many as it was trained with


@dataclass(frozen=True, eq=False)
class InstantRestoreRestorer:
    """load() returns the network on its device."""

    load: Callable[[], InstantRestore]
    name: str = "InstantRestore"
    native_size: int | None = 512
    scale: int = 1
    tileable: bool = False
    needs_references: bool = True

    @torch.no_grad()
    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, S, S]`` in 0..1 to the same, with the album's first four pictures. The same seed and album give the
        same face."""
        net = self.load()
        references = torch.stack([one.crop for one in conditions.references[:REFERENCES]]).to(net.text) * 2 - 1

        def restored(face: torch.Tensor, conditions: Conditions) -> torch.Tensor:
            # Drawn on the CPU, so that a seed gives the same noise on every device.
            generator = torch.Generator().manual_seed(conditions.seed)
            out = net(face.to(net.text) * 2 - 1, references, generator) / 2 + 0.5
            conditions.progress(1, 1)
            return out

        return one_by_one(restored, image, conditions)

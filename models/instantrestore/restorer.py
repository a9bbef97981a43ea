"""InstantRestore as a PR_RESTORER: an aligned face in one step, from the damaged face and up to four pictures of the
album."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...lib.vocabulary import Abilities, Conditions

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
    memory: int = 0

    @property
    def abilities(self) -> Abilities:
        return Abilities(takes_references=True, half=torch.float16, memory=self.memory)

    @torch.no_grad()
    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, S, S]`` in 0..1 to the same, with the album's first four pictures. The same seed and album give the
        same face."""
        net = self.load()
        references = torch.stack([one.crop for one in conditions.references[:REFERENCES]]).to(net.text) * 2 - 1
        out = []
        for index, face in enumerate(image.split(1), 1):
            # Drawn on the CPU, so that a seed gives the same noise on every device.
            generator = torch.Generator().manual_seed(conditions.seed)
            out.append(net(face.to(net.text) * 2 - 1, references, generator) / 2 + 0.5)
            conditions.progress(index, len(image))
        return torch.cat(out).to(image)

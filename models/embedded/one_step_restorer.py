"""The one-step restorer as a PR_RESTORER: any picture at its own scale, with or without a degradation code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...lib.pictures.tiles import as_memory_allows, tiled
from ...lib.vocabulary import Conditions
from .one_step import OneStepNet

TILE, OVERLAP = 1024, 128


@dataclass(frozen=True)
class OneStepRestorer:
    """load() returns the network on its device; token_space names the tokens that it was trained on.

    cfg: 1 runs the network once; above 1, it also predicts the damaged picture and extrapolates away from it.
    """

    load: Callable[[], OneStepNet]
    token_space: str
    cfg: float = 1.0
    name: str = "one-step"
    native_size: int | None = None
    scale: int = 1
    tileable: bool = True
    needs_references: bool = False

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` to the same, in smaller tiles if memory is short. Raises UserError for a code from another token space."""
        code, net = conditions.code, self.load()
        device = net.stem.weight.device
        tokens = net.null_tokens[None] if code is None else code.tokens_for(self.name, self.token_space).to(device)

        def apply(tile: torch.Tensor) -> torch.Tensor:
            count, own = len(tile), tokens.expand(len(tile), -1, -1)
            if self.cfg == 1:
                out = net(tile.to(device), own)
            else:
                negative = (torch.arange(2 * count, device=device) < count).view(-1, 1, 1)
                away, towards = net(tile.to(device).repeat(2, 1, 1, 1), own.repeat(2, 1, 1), negative).chunk(2)
                out = away + self.cfg * (towards - away)
            return out.clamp(0, 1).to(image)

        told = {"progress": conditions.progress, "show": conditions.show}

        def run(tile):
            return tiled(apply, image, tile, OVERLAP, multiple=net.multiple, **told)

        return as_memory_allows(run, TILE, OVERLAP)

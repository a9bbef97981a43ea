"""The one-step restorer as a PR_RESTORER: any picture at its own scale, with or without a degradation code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..fusion.tiles import tiled
from ..models.one_step import OneStepNet
from ..vocabulary import Conditions, UserError

TILE, OVERLAP = 768, 128


@dataclass(frozen=True)
class OneStepRestorer:
    """load() gives the network on its device; token_space names the tokens that it was trained on."""

    load: Callable[[], OneStepNet]
    token_space: str
    name: str = "one-step"
    native_size: int | None = None
    scale: int = 1
    tileable: bool = True
    needs_references: bool = False

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` to the same. Raises UserError for a code from another token space."""
        code, net = conditions.code, self.load()
        if code is not None and code.space != self.token_space:
            raise UserError(
                f"The degradation code speaks {code.space!r}, the restorer {self.name!r} understands {self.token_space!r}. "
                "Estimate the degradation with the extractor that belongs to this restorer, or leave the code unconnected."
            )
        weight = net.stem.weight
        tokens = None if code is None else code.tokens.to(weight)

        def apply(tile: torch.Tensor) -> torch.Tensor:
            own = None if tokens is None else tokens.expand(len(tile), -1, -1)
            return net(tile.to(weight), own).clamp(0, 1).to(image)

        return tiled(apply, image, TILE, OVERLAP, multiple=net.multiple, progress=conditions.progress)

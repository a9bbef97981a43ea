"""A restorer without a scale of its own, made to restore at a larger scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ...lib.vocabulary import Conditions, Restorer


@dataclass(frozen=True)
class EnlargedFirst:
    """Enlarges the picture (bicubic), then restores it: what enlarging blurs is restored with the rest.

    restorer: one of scale 1 for pictures of any size. A degradation code describes the picture before it was enlarged and is not used.
    """

    restorer: Restorer
    scale: int
    native_size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.restorer.name} at {self.scale}x"

    @property
    def tileable(self) -> bool:
        return self.restorer.tileable

    @property
    def needs_references(self) -> bool:
        return self.restorer.needs_references

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` to ``[B, 3, H * scale, W * scale]``."""
        large = F.interpolate(image, scale_factor=self.scale, mode="bicubic").clamp(0, 1)
        return self.restorer.restore(
            large, replace(conditions, code=None, photo=None, pixel=conditions.pixel * self.scale)
        )

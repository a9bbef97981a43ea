"""Any network that spandrel loads (ComfyUI's UPSCALE_MODEL) as a PR_RESTORER: Real-ESRGAN, GFPGAN, SwinIR and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...lib.pictures.tiles import tiled
from ...lib.vocabulary import Conditions

TILE, OVERLAP = 512, 64
# Networks for aligned faces work in -1..1, which spandrel (0.4) heeds for RestoreFormer only. GFPGAN takes the noise that is
# stored with its weights, instead of drawing some.
FACE_NETWORKS: dict[str, dict[str, Any]] = {"GFPGAN": {"randomize_noise": False}, "RestoreFormer": {}, "CodeFormer": {}}


@dataclass(frozen=True)
class UpscalerRestorer:
    """load() returns spandrel's ImageModelDescriptor with its network on its device."""

    load: Callable[[], Any]
    name: str
    scale: int
    native_size: int | None = None
    tileable: bool = True
    needs_references: bool = False

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` to ``[B, 3, H * scale, W * scale]``. Grayscale networks process one channel at a time."""
        model = self.load()
        weight = next(model.model.parameters())

        def apply(tile: torch.Tensor) -> torch.Tensor:
            inside = tile.to(weight)
            if model.input_channels == 1:
                inside = inside.flatten(0, 1)[:, None]
            out = _ask(model, inside)
            if model.input_channels == 1:
                out = out.reshape(len(tile), 3, *out.shape[-2:])
            return out.float().clamp(0, 1).to(image)

        if not self.tileable:
            out = apply(image)
            conditions.progress(1, 1)
            return out
        told = {"progress": conditions.progress, "show": conditions.show}
        return tiled(apply, image, TILE, OVERLAP, scale=self.scale, **told)


@torch.no_grad()
def _ask(model: Any, image: torch.Tensor) -> torch.Tensor:
    """``[B, C, H, W]`` in 0..1 through spandrel's descriptor, or past it to a network of faces, which gives a tuple."""
    options = FACE_NETWORKS.get(model.architecture.id)
    return model(image) if options is None else model.model(image * 2 - 1, **options)[0] / 2 + 0.5

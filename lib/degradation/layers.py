"""Local damage by name: what lies over the picture, and how it is laid on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .drawing import Layer
from .marks import dust, fingerprints, folds, scratches
from .wear import flaking, stains, torn

LAYERS: dict[str, Callable[..., Layer]] = {
    "scratches": scratches,
    "folds": folds,
    "dust": dust,
    "fingerprints": fingerprints,
    "stains": stains,
    "flaking": flaking,
    "torn": torn,
}


def laid_on(draw: Callable[..., Layer]) -> Callable[..., torch.Tensor]:
    """The operator that lays what ``draw`` draws over every picture of ``[B, 3, H, W]``."""

    def operator(image: torch.Tensor, **parameters: Any) -> torch.Tensor:
        layer = draw(*image.shape[-2:], **parameters)
        if layer.shade is not None:
            image = image * torch.from_numpy(layer.shade).permute(2, 0, 1).to(image)
        opacity = torch.from_numpy(layer.opacity).to(image)
        paint = torch.from_numpy(layer.paint.copy()).permute(2, 0, 1).to(image)
        return (image * (1 - opacity) + paint * opacity).clamp(0, 1)

    return operator

"""FaceMe at its published size, from its files to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...lib.extras import require
from ..shared.kept import kept
from ..shared.precision import in_eight_bits, settle_precision
from ..shared.weight_files import NONE, checkpoint_and

if TYPE_CHECKING:
    from .restorer import FaceMeRestorer

BASE = "realvisxl"
NEEDED = "faceme-controlnet", "faceme-mix", "photomaker", "antelopev2-arcface"
STEPS, CFG = 50, 5.0  # of FaceMe's script


def restorer_from(
    checkpoint: str = NONE, steps: int = STEPS, cfg: float = CFG, color: str | None = "wavelet"
) -> FaceMeRestorer:
    """The restorer on an SDXL checkpoint of models/checkpoints, by its name there; without one on the catalog's.

    Raises UserError that names what is missing, and where it belongs.
    """
    require("FaceMe Restorer", "diffusion", "insightface")
    files = checkpoint_and("FaceMe Restorer", checkpoint, BASE, *NEEDED)
    return replace(kept(_built, *files), steps=steps, cfg=cfg, color=color)


def _built(keep: Callable, base: Path, control: Path, mix: Path, photomaker: Path, arcface: Path) -> FaceMeRestorer:
    # Imported here because diffusers takes seconds to import.
    from ...lib.faces.embed import ArcFace
    from . import network
    from .restorer import FaceMeRestorer

    identify = ArcFace(arcface).embed
    net = network.load_faceme(network.Files(base, control, mix, photomaker))
    settle_precision([net.unet, net.controlnet], [net.vae], torch.float16)
    in_eight_bits(net.unet, net.controlnet)
    return FaceMeRestorer(keep(net, streamed=True), identify)

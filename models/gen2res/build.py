"""Restoration by Generation at its published size, from its file to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.extras import require
from ..shared.kept import kept
from ..shared.weight_files import catalogued

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer

NAME = "gen2res-256"


def restorer_from(denoise: float, skip_guidance: float) -> DiffusionRestorer:
    """The restorer on the catalog's face model. Raises UserError that says what is missing, and where it belongs."""
    require("Restoration by Generation", "diffusion")
    # Imported here because diffusers takes seconds to import.
    from .generation import skip_guidance_of

    return replace(kept(_built, *catalogued(NAME)), denoise=denoise, skip_guidance=skip_guidance_of(skip_guidance))


def _built(keep: Callable, path: Path) -> DiffusionRestorer:
    from ...lib.storage.fingerprint import weights_fingerprint
    from . import adm_unet
    from .generation import generation
    from .pixel_diffusion import PixelDiffusion

    net = PixelDiffusion(adm_unet.load_adm_unet(path))
    return generation(keep(net), f"{NAME} {weights_fingerprint(net)}", net.native_size)

"""Restoration by Generation, from a file with its prior to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.extras import require
from ...lib.vocabulary import UserError
from ..shared.bases import loaders
from ..shared.kept import kept
from ..shared.weight_files import NONE, catalogued, weight_files

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer

NAME, BASE = "gen2res-256", "published"
FOLDER = "generators"  # below models/personal_restore


def generators() -> dict[str, Path]:
    """Priors of the user's own by file name."""
    found = weight_files("personal_restore", suffixes=(".safetensors", ".pt"))
    return {path.name: path for name, path in found.items() if name == f"{FOLDER}/{path.name}"}


def restorer_from(
    model: str, denoise: float, skip_guidance: float, every: int = 20, steps: int = 1000
) -> DiffusionRestorer:
    """The restorer on the catalog's face model or one of `generators`; every: of the guidance. Raises UserError that says what is
    missing, and where it belongs."""
    require("Restoration by Generation", "diffusion")
    # Imported here because diffusers takes seconds to import.
    from .generation import SkipGuidance

    known = generators()
    if model not in (BASE, *known):
        raise UserError(
            f"Restoration by Generation: there is no model {model!r}. Known: {', '.join(known) or NONE}. They belong in "
            f"models/personal_restore/{FOLDER}; Train Generator makes them."
        )
    path = catalogued(NAME)[0] if model == BASE else known[model]
    guidance = SkipGuidance(skip_guidance, every) if skip_guidance else None
    return replace(kept(_built, path, model == BASE), denoise=denoise, skip_guidance=guidance, steps=steps)


def _built(keep: Callable, path: Path, published: bool) -> DiffusionRestorer:
    from ...lib.storage.fingerprint import weights_fingerprint
    from ..shared.precision import in_eight_bits
    from . import adm_unet
    from .generation import generation
    from .pixel_diffusion import PixelDiffusion

    flags = {} if published else adm_unet.read_flags(path)
    net = PixelDiffusion(adm_unet.load_adm_unet(path, **flags), flags.get("image_size", 256))
    base = f"{NAME if published else 'generator'} {weights_fingerprint(net)}"
    in_eight_bits(net.unet)
    return generation(**loaders(keep, net), base=base, native_size=net.native_size)

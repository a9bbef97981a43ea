"""StableSR at its published size, from its files to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.extras import require
from ..shared.bases import base_restorer, tokenizer
from ..shared.kept import kept

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer


def restorer_from(checkpoint: Path, base: Path | None, skip_guidance: float = 0.0, **more) -> DiffusionRestorer:
    """The restorer from these files, with `DiffusionRestorer`'s settings. Raises UserError for files with other
    contents."""
    require("StableSR Restorer", "diffusion")
    # Imported here because diffusers takes seconds to import.
    from ..gen2res.generation import skip_guidance_of

    made = kept(_built, checkpoint, base, tokenizer(base or checkpoint))
    return replace(made, skip_guidance=skip_guidance_of(skip_guidance), **more)


def _built(keep: Callable, checkpoint: Path, base: Path | None, words: Path | None) -> DiffusionRestorer:
    from . import network as stablesr

    return base_restorer(keep, stablesr.load_stablesr(checkpoint, base, words), "stablesr", "StableSR")

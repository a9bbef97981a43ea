"""StableSR at its published size, from its files to the restorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..shared.bases import restorer, tokenizer

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer


def restorer_from(checkpoint: Path, base: Path | None, guidance: float = 0.0, **more) -> DiffusionRestorer:
    """The restorer from these files, with `DiffusionRestorer`'s settings. Raises UserError for files with other
    contents."""
    # Imported here because diffusers takes seconds to import.
    from ..gen2res.generation import SkipGuidance
    from . import network as stablesr

    net = stablesr.load(checkpoint, base, tokenizer(base or checkpoint))
    pull = SkipGuidance(scale=guidance) if guidance else None
    return restorer(net, "stablesr", pull, name="StableSR", **more)

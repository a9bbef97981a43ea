"""DiffBIR at its published size, from its files to the restorer; without a ControlNet, Stable Diffusion alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.vocabulary import Restorer
from ..shared.bases import PREDICTIONS, restorer, tokenizer

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer


def restorer_from(
    checkpoint: Path,
    controlnet: Path | None,
    cleaner: Restorer,
    prediction: str = PREDICTIONS[0],
    control: float = 1.0,
    guidance: float = 0.0,
    **more,
) -> DiffusionRestorer:
    """The restorer from these files, with `DiffusionRestorer`'s settings. Raises UserError for files with other
    contents."""
    # Imported here because diffusers takes seconds to import.
    from ..gen2res.generation import SkipGuidance
    from ..shared import stable_diffusion
    from ..shared.diffusion_restorer import first_stage
    from . import controlnet as diffbir_controlnet

    net = stable_diffusion.load(
        checkpoint,
        tokenizer(checkpoint),
        diffbir_controlnet.load_diffbir_controlnet(controlnet) if controlnet else None,
        prediction,
    )
    net.cleaner = first_stage(cleaner)
    name, kind = ("DiffBIR", "diffbir") if controlnet else ("Stable Diffusion", "stable_diffusion")
    pull = SkipGuidance(scale=guidance) if guidance else None
    return restorer(net, kind, pull, control=control if controlnet else 0.0, name=name, **more)

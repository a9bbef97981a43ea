"""DiffBIR at its published size, from its files to the restorer; without a ControlNet, Stable Diffusion alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.extras import require
from ...lib.vocabulary import Restorer, UserError
from ..shared.bases import PREDICTIONS, base_restorer, tokenizer
from ..shared.kept import kept

if TYPE_CHECKING:
    from ...lib.diffusion.base import Diffusion
    from ..shared.diffusion_restorer import DiffusionRestorer


def restorer_from(
    checkpoint: Path,
    controlnet: Path | None,
    cleaner: Restorer,
    prediction: str = PREDICTIONS[0],
    control: float = 1.0,
    skip_guidance: float = 0.0,
    **more,
) -> DiffusionRestorer:
    """The restorer from these files, with `DiffusionRestorer`'s settings.

    Raises UserError for files with other contents, and for a cleaner that restores nothing without an album.
    """
    require("DiffBIR Restorer", "diffusion")
    # Imported here because diffusers takes seconds to import.
    from ..gen2res.generation import skip_guidance_of
    from ..shared.diffusion_restorer import first_stage

    if cleaner.needs_references:
        raise UserError(
            f"DiffBIR Restorer: the cleaner {cleaner.name!r} needs an album, but the first stage has none. Connect a "
            "restorer that works without one."
        )
    made = kept(_built, checkpoint, tokenizer(checkpoint), controlnet, prediction)
    # The weights are shared with whoever uses the same files; the first stage is this restorer's own.
    net = None

    def cleaning(load: Callable[[], Diffusion]) -> Diffusion:
        nonlocal net
        whole = load()
        if net is None:
            net = copy.copy(whole)
            net.cleaner = first_stage(cleaner)
        return net

    return replace(
        made,
        load=partial(cleaning, made.load),
        stream=partial(cleaning, made.stream),
        control=control if controlnet else 0.0,
        skip_guidance=skip_guidance_of(skip_guidance),
        **more,
    )


def _built(
    keep: Callable, checkpoint: Path, words: Path | None, controlnet: Path | None, prediction: str
) -> DiffusionRestorer:
    from ..shared import stable_diffusion
    from . import controlnet as diffbir_controlnet

    control = diffbir_controlnet.load_diffbir_controlnet(controlnet) if controlnet else None
    net = stable_diffusion.load_stable_diffusion(checkpoint, words, control, prediction)
    return base_restorer(keep, net, *("diffbir", "DiffBIR") if controlnet else ("stable_diffusion", "Stable Diffusion"))

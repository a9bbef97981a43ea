"""Face2Scene at its published size, from its files to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...lib.extras import require
from ..shared.kept import kept
from ..shared.precision import in_eight_bits
from ..shared.sd_turbo_restorer import SDTurboRestorer
from ..shared.weight_files import checkpoint_and
from . import network as face2scene


def restorer_from(checkpoint: str, trained: Path, **settings) -> SDTurboRestorer:
    """The restorer from a trained model and an SD-Turbo of models/checkpoints, by its name there, with
    `SDTurboRestorer`'s settings. Raises UserError that names what is missing, and where it belongs."""
    require("Face2Scene Restorer", "diffusion")
    (turbo,) = checkpoint_and("Face2Scene Restorer", checkpoint, "sd-turbo")
    return replace(kept(_built, turbo, trained), **settings)


def _built(keep: Callable, turbo: Path, trained: Path) -> SDTurboRestorer:
    from ..shared import sd_turbo  # imported here because diffusers takes seconds to import

    weights = face2scene.read_face2scene(trained)
    net = face2scene.Face2Scene(sd_turbo.load_settled(turbo), weights)
    in_eight_bits(net.turbo.unet)
    return SDTurboRestorer(keep(net, streamed=True), *weights.prompts, name=face2scene.NAME)

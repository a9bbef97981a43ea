"""FaceMe at its published size, from its files to the restorer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lib.bridge import device, keep
from ...lib.vocabulary import UserError
from ..shared.weight_files import NONE, checkpoint_and

if TYPE_CHECKING:
    from .restorer import FaceMeRestorer

BASE = "realvisxl"
NEEDED = "faceme-controlnet", "faceme-mix", "photomaker", "antelopev2-arcface"
STEPS, GUIDANCE = 50, 5.0  # of FaceMe's script


def restorer_from(
    checkpoint: str = NONE, steps: int = STEPS, guidance: float = GUIDANCE, color: str | None = "wavelet"
) -> FaceMeRestorer:
    """The restorer on an SDXL checkpoint of models/checkpoints, by its name there; without one on the catalog's.

    Raises UserError that names what is missing, and where it belongs.
    """
    base, control, mix, photomaker, arcface = checkpoint_and("FaceMe Restorer", checkpoint, BASE, *NEEDED)
    # Imported here because diffusers takes seconds to import.
    from ...lib.faces.embed import ArcFace
    from . import network
    from .restorer import FaceMeRestorer

    try:
        identify = ArcFace(arcface).embed
    except ImportError as error:
        raise UserError(
            "FaceMe Restorer needs insightface to run ArcFace. Install it with `pip install insightface`."
        ) from error
    net = network.load(network.Files(base, control, mix, photomaker))
    if device().type == "cuda":
        for part in (net.unet, net.controlnet):
            part.half()
        net.vae.bfloat16()  # half precision overflows in SDXL's VAE
    return FaceMeRestorer(keep(net), identify, steps, guidance, color)

"""InstantRestore, from a checkpoint of the user's to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...lib.extras import require
from ...lib.vocabulary import UserError
from ..shared.kept import kept
from ..shared.precision import in_eight_bits, settle_precision
from ..shared.weight_files import weight_files
from .restorer import InstantRestoreRestorer


def instantrestore_files() -> dict[str, Path]:
    """Files that may be a checkpoint, by name relative to models/personal_restore."""
    return weight_files("personal_restore", suffixes=(".pt",))


def restorer_from(checkpoint: str) -> InstantRestoreRestorer:
    """The restorer from one of `instantrestore_files`. Raises UserError if it is not there, or something else."""
    require("InstantRestore Restorer", "diffusion")
    known = instantrestore_files()
    if checkpoint not in known:
        raise UserError(
            f"InstantRestore Restorer: there is no {checkpoint!r} in models/personal_restore. The weights have no "
            "license, so this pack does not download them. Put your checkpoint (.pt) there, or use FaceMe "
            "Restorer or Reference Restorer."
        )
    return kept(_built, known[checkpoint])


def _built(keep: Callable, path: Path) -> InstantRestoreRestorer:
    from .network import load_instantrestore  # imported here because diffusers takes seconds to import

    net = load_instantrestore(path)
    settle_precision([net.unet, net.reference_unet], [net.vae, net.reference_vae], torch.float16)
    in_eight_bits(net.unet, net.reference_unet)
    return InstantRestoreRestorer(keep(net, streamed=True))

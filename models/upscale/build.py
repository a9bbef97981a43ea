"""GFPGAN, RestoreFormer or CodeFormer, from its file to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...lib.extras import require
from ...lib.vocabulary import UserError
from ..shared.kept import kept
from ..shared.weight_files import weight_files
from .restorer import UpscalerRestorer

SUFFIXES = ".pth", ".safetensors", ".pt", ".ckpt"


def face_models() -> dict[str, Path]:
    """Files that may be a face restorer, by name relative to the folders where users keep them."""
    return weight_files("facerestore_models", "upscale_models", suffixes=SUFFIXES)


def restorer_from(model: str) -> UpscalerRestorer:
    """The restorer from one of `face_models`. Raises UserError if it is not there, or made for something else."""
    require("Face Model Restorer", "upscale")
    from . import face_networks  # imported here because spandrel takes seconds to import

    known = face_models()
    if model not in known:
        raise UserError(
            f"Face Model Restorer: there is no {model!r} in models/facerestore_models or models/upscale_models. "
            f"Put {face_networks.WHAT} there."
        )
    return kept(_built, known[model])


def _built(keep: Callable, path: Path) -> UpscalerRestorer:
    from . import face_networks

    descriptor = face_networks.load_face_network(path)
    load_network = keep(descriptor.model)

    def load():
        load_network()
        return descriptor

    return UpscalerRestorer(load, descriptor.architecture.name, descriptor.scale, native_size=512, tileable=False)

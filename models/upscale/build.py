"""Networks that spandrel reads, from their files to restorers: for aligned faces, and for scenes at a larger scale."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    from . import networks  # imported here because spandrel takes seconds to import

    known = face_models()
    if model not in known:
        raise UserError(
            f"Face Model Restorer: there is no {model!r} in models/facerestore_models or models/upscale_models. "
            f"Put {networks.WHAT} there."
        )
    return kept(_face_restorer, known[model])


def scene_models() -> dict[str, Path]:
    """Files that may be an upscale model, by name relative to the folders where users keep them."""
    return weight_files("upscale_models", suffixes=SUFFIXES)


def scene_restorer(model: str) -> UpscalerRestorer:
    """The restorer from one of `scene_models`. Raises UserError if it is not there, or made for something else."""
    require("Enlarging Restorer", "upscale")
    from . import networks  # imported here because spandrel takes seconds to import

    known = scene_models()
    if model not in known:
        raise UserError(
            f"Enlarging Restorer: there is no {model!r} in models/upscale_models. Put {networks.WHAT_FOR_SCENES} there, or choose "
            "auto or embedded."
        )
    return kept(_scene_restorer, known[model])


def named_for(scale: int) -> str | None:
    """The first of `scene_models` whose name says that it enlarges by ``scale``, such as ``RealESRGAN_x2plus.pth`` or ``2x-....pth``."""
    said = re.compile(rf"(?<!\d)(x{scale}|{scale}x)(?!\d)", re.IGNORECASE)
    return next((name for name in sorted(scene_models()) if said.search(Path(name).name)), None)


def _face_restorer(keep: Callable, path: Path) -> UpscalerRestorer:
    from . import networks

    return _restorer(keep, networks.load_face_network(path), native_size=512, tileable=False)


def _scene_restorer(keep: Callable, path: Path) -> UpscalerRestorer:
    from . import networks

    return _restorer(keep, networks.load_scene_network(path))


def _restorer(keep: Callable, descriptor: Any, **kind: Any) -> UpscalerRestorer:
    load_network = keep(descriptor.model)

    def load():
        load_network()
        return descriptor

    return UpscalerRestorer(load, descriptor.architecture.name, descriptor.scale, **kind)

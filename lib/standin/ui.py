"""UI output of nodes; headless, it is part of the results."""

from __future__ import annotations

import secrets
from typing import Any

import torch

from ..pictures.comfy_files import save_images
from . import host


class PreviewText:
    """A text below the node."""

    def __init__(self, value: str, **kwargs: Any):
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": (self.value,)}


class PreviewImage:
    """Pictures below the node: float32 ``[B, H, W, C]`` in 0..1, written to the temp folder."""

    def __init__(self, image: torch.Tensor, animated: bool = False, cls: type | None = None, **kwargs: Any):
        files = save_images(image, f"ComfyUI_temp_{secrets.token_hex(3)}", host.folders.temp, compress_level=1)
        self.values = [file | {"type": "temp"} for file in files]
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": (self.animated,)}

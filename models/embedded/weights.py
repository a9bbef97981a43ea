"""The weights that ship with the pack: FaDeX, MapNet, gauge and one-step restorer in one .safetensors each, small versions.

Every file carries its configuration, token space and provenance as metadata, so that loading needs nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import UserError
from .fadex import FaDeX
from .gauge import DamageGauge
from .mapnet import MapNet
from .one_step import OneStepNet

FOLDER = Path(__file__).parent
EXTRACTOR, RESTORER = FOLDER / "extractor.safetensors", FOLDER / "restorer.safetensors"
DIFFUSION = FOLDER / "tiny_diffusion.safetensors"
TOKEN_SPACE = "personal-restore-embedded-3"  # noqa: S105 (no password)
TOKEN_WIDTH = 192


class Extractor(nn.Module):
    """FaDeX, MapNet and the gauge: everything between a face pair and its degradation code."""

    def __init__(
        self,
        widths=(32, 64, 128),
        embedding: int = 256,
        heads: int = 4,
        token_width: int = TOKEN_WIDTH,
        spectrum: bool = False,
        stride: int = 4,
    ):
        super().__init__()
        self.fadex = FaDeX(tuple(widths), spectrum=spectrum, stride=stride)
        self.mapnet = MapNet(widths[-1], embedding, widths[-1], heads, token_width)
        self.gauge = DamageGauge(widths[-1])


def _tiny_diffusion(**config) -> nn.Module:
    # Imported here because diffusers takes seconds to import.
    from .tiny_diffusion import TinyDiffusion

    return TinyDiffusion(**config)


MODELS = {"extractor": Extractor, "one_step": OneStepNet, "tiny_diffusion": _tiny_diffusion}


def save(path: Path, kind: str, module: nn.Module, config: dict, provenance: dict) -> None:
    """Writes float16 weights with configuration, token space and provenance."""
    tensors = {
        name: value.half() if value.is_floating_point() else value for name, value in module.state_dict().items()
    }
    metadata = {
        "kind": kind,
        "config": json.dumps(config),
        "token_space": TOKEN_SPACE,
        "provenance": json.dumps(provenance),
    }
    write_tensors(path, tensors, metadata)


def load_embedded(path: Path) -> tuple[nn.Module, dict[str, str]]:
    """The module in evaluation mode (float32, channels last) and the file's metadata. Raises UserError with the path."""
    try:
        with opened_tensors(path) as file:
            metadata, tensors = file.metadata, file.tensors()
        module = MODELS[metadata["kind"]](**json.loads(metadata["config"]))
        module.load_state_dict(tensors)
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{path.name} is not a model of this pack ({error}). The embedded weights belong in {path.parent.name}/ of "
            "the pack. If they are damaged, install the pack again."
        ) from error
    return module.float().eval().requires_grad_(False).to(memory_format=torch.channels_last), metadata

"""Stable Diffusion as a base that restores and can be taught a person: where its files are, and the restorer around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...lib.bridge import clip_vocabulary, weight_folders
from ...lib.storage.fingerprint import weights_fingerprint
from .precision import in_eight_bits, settle_precision
from .weight_files import catalogued, weight_files

if TYPE_CHECKING:
    from ...lib.diffusion.base import Diffusion
    from .diffusion_restorer import DiffusionRestorer
    from .stable_diffusion import StableDiffusion

HALF = torch.bfloat16  # float16 is too coarse for gradients
PREDICTIONS = "as the file says", "noise", "velocity", "velocity to the end"  # what a UNet may predict


def bases() -> dict[str, Path]:
    """Single files in models/checkpoints, and folders in models/diffusers that have a UNet, by name."""
    parents = reversed(weight_folders("diffusers"))
    folders = {unet.parent.name + "/": unet.parent for parent in parents for unet in sorted(parent.glob("*/unet"))}
    return weight_files("checkpoints", suffixes=(".safetensors", ".ckpt")) | folders


def vocabulary() -> Path:
    """Where CLIP's vocab.json and merges.txt are: the host's own, otherwise the catalog's. Raises UserError if there
    are none."""
    return clip_vocabulary() or catalogued("clip-vocabulary", "clip-merges")[0].parent


def tokenizer(base: Path) -> Path | None:
    """None if the base is a folder with its own tokenizer."""
    return None if (base / "tokenizer").is_dir() else vocabulary()


def base_restorer(keep: Callable, net: StableDiffusion, kind: str, name: str) -> DiffusionRestorer:
    """The network in its working precision, in the care of keep; kind is the prefix of its base name in personas."""
    from .diffusion_restorer import DiffusionRestorer  # imported here because diffusers takes seconds to import

    base = f"{kind} {weights_fingerprint(net)}"
    settle_precision([net], [net.vae], HALF)
    in_eight_bits(net.unet, net.control)
    return DiffusionRestorer(**loaders(keep, net), base=base, native_size=net.native_size, name=name)


def loaders(keep: Callable, net: Diffusion) -> dict[str, Callable[[], Diffusion]]:
    """``load`` and ``stream`` of a `DiffusionRestorer` on a network in the care of keep."""
    stream = keep(net, streamed=True)
    return {"load": partial(stream, whole=True), "stream": stream}

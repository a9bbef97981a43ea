"""Stable Diffusion as a base that restores and can be taught a person: where its files are, and the restorer around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...lib.bridge import clip_vocabulary, device, keep, weight_folders
from ...lib.diffusion.sampling import Guidance
from ...lib.storage.fingerprint import fingerprint
from .catalogue import find_all
from .weight_files import weight_files

if TYPE_CHECKING:
    from .diffusion_restorer import DiffusionRestorer
    from .stable_diffusion import StableDiffusion

PREDICTIONS = "as the file says", "noise", "velocity", "velocity to the end"  # what a UNet may predict


def bases() -> dict[str, Path]:
    """Single files in models/checkpoints, and folders in models/diffusers that have a UNet, by name."""
    parents = reversed(weight_folders("diffusers"))
    folders = {unet.parent.name + "/": unet.parent for parent in parents for unet in sorted(parent.glob("*/unet"))}
    return weight_files("checkpoints", suffixes=(".safetensors", ".ckpt")) | folders


def vocabulary() -> Path:
    """Where CLIP's vocab.json and merges.txt are: the host's own, otherwise the catalog's. Raises UserError if there
    are none."""
    return clip_vocabulary() or find_all(["clip-vocabulary", "clip-merges"], weight_folders)[0].parent


def tokenizer(base: Path) -> Path | None:
    """None if the base is a folder with its own tokenizer."""
    return None if (base / "tokenizer").is_dir() else vocabulary()


def restorer(net: StableDiffusion, kind: str, guidance: Guidance | None, **sampled: Any) -> DiffusionRestorer:
    """The network in its working precision, under the host's memory management; kind is the prefix of its base name in
    personas."""
    from .diffusion_restorer import DiffusionRestorer  # imported here because diffusers takes seconds to import

    base = f"{kind} {fingerprint(net)}"
    if device().type == "cuda":
        net.bfloat16()  # half precision overflows in the VAE, and is too coarse for gradients
    else:
        net.float()
    return DiffusionRestorer(keep(net), base, net.native_size, guidance=guidance, **sampled)

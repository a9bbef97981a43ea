"""Shared by the nodes of the published Stable Diffusion bases: file locations, sampling inputs and the restorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bridge import clip_vocabulary, device, io, keep, weight_folders
from ..models.catalogue import find_all
from . import sockets
from .weight_files import weight_files

if TYPE_CHECKING:
    from ..models.stable_diffusion import StableDiffusion
    from ..restorers.diffusion import DiffusionRestorer


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


def sampling(samples: int, shown: str) -> list[io.Input]:
    """noise_steps, samples, control and cfg. samples: the default; shown: the picture that the control sees."""
    return [
        io.Int.Input(
            "noise_steps",
            default=1000,
            min=0,
            max=1000,
            tooltip="How much noise is added to the face and removed again, out of 1000 steps. With control, use all "
            "1000, as published; without, use 200 to 400. 0 returns the face unchanged, bit for bit.",
        ),
        io.Int.Input(
            "samples",
            default=samples,
            min=1,
            max=1000,
            tooltip="Number of sampling steps used to remove the noise: 50 for DiffBIR, 200 for PFStorer.",
        ),
        io.Float.Input(
            "control",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip=f"How strongly the {shown} guides the result. 0 runs Stable Diffusion alone.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=1.0,
            max=10.0,
            step=0.1,
            tooltip="Classifier-free guidance from the negative prompt toward the positive one. 1 runs the model once "
            "per step and takes half the time. Published values: 1 for Dual-Pivot Tuning, 4 for PFStorer and DiffBIR.",
        ),
    ]


def prompts(negative: str) -> list[io.Input]:
    return [
        io.String.Input(
            "prompt",
            default="",
            optional=True,
            tooltip="Added to the persona's prompt, for example 'smiling' or 'masterpiece, best quality, realistic'.",
        ),
        io.String.Input("negative", default=negative, optional=True, tooltip="What to avoid. Used if cfg is above 1."),
    ]


def output() -> io.Output:
    return sockets.Restorer.Output(
        display_name="restorer",
        tooltip="Restores faces, and serves as a base for Train Persona and Apply Persona.",
    )


def restorer(net: StableDiffusion, kind: str, guidance: float, **sampled: Any) -> DiffusionRestorer:
    """The network in its working precision, under the host's memory management; kind is the prefix of its base name in
    personas."""
    # Imported here because diffusers takes seconds to import.
    from ..personas.make import fingerprint
    from ..restorers.diffusion import DiffusionRestorer
    from ..restorers.generation import SkipGuidance

    base = f"{kind} {fingerprint(net)}"
    if device().type == "cuda":
        net.bfloat16()  # half precision overflows in the VAE, and is too coarse for gradients
    else:
        net.float()
    pull = SkipGuidance(scale=guidance) if guidance else None
    return DiffusionRestorer(keep(net), base, net.native_size, guidance=pull, **sampled)

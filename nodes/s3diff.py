"""The published one-step restorer at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..bridge import device, io, keep, weight_folders
from ..models.catalogue import find
from ..restorers.sd_turbo import SDTurboRestorer
from ..vocabulary import UserError
from . import sockets
from .weight_files import NONE, checkpoints

if TYPE_CHECKING:
    from ..models.sd_turbo import SDTurbo


def turbo_of(checkpoint: str, node: str) -> SDTurbo:
    """SD-Turbo from the checkpoint of that name, in the precision that the device likes."""
    from ..models import sd_turbo

    known = checkpoints()
    if checkpoint not in known and checkpoint != NONE:
        raise UserError(f"{node}: there is no checkpoint {checkpoint!r}. Known: {', '.join(known) or NONE}.")
    path = known[checkpoint] if checkpoint in known else find("sd-turbo", weight_folders("checkpoints"))
    turbo = sd_turbo.load(path)
    if device().type == "cuda":
        turbo.unet.half()
        turbo.vae.bfloat16()  # half precision overflows in some pictures
    return turbo


class S3DiffRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_S3DiffRestorer",
            display_name="S3Diff Restorer",
            category=sockets.CATEGORY,
            description="S3Diff at its published size: restores whole scenes in one step of SD-Turbo and estimates blur and noise by "
            "itself. Needs SD-Turbo as a checkpoint and S3Diff's two files (s3diff.pkl, de_net.pth) in models/personal_restore; Download "
            "Weights fetches them. For a graphics card.",
            search_aliases=["s3diff", "sd-turbo", "super resolution", "one step diffusion", "upscale"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(checkpoints()) or [NONE],
                    tooltip="SD-Turbo as one .safetensors file, sd_turbo.safetensors.",
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What good photographs are, from CLIP Text Encode with the same checkpoint's CLIP.",
                ),
                io.Conditioning.Input("negative", tooltip="What bad ones are; used where guidance is above 1."),
                io.Float.Input(
                    "guidance",
                    default=1.07,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How far to go from the negative prompt towards the positive one. 1 asks once and is twice as fast.",
                ),
                io.Int.Input(
                    "scale", default=1, min=1, max=4, tooltip="Enlarges the photograph first; S3Diff was trained for 4."
                ),
            ],
            outputs=[sockets.Restorer.Output(display_name="restorer", tooltip="Restores scenes.")],
        )

    @classmethod
    def execute(cls, checkpoint: str, positive: Any, negative: Any, guidance: float, scale: int) -> io.NodeOutput:
        # Here and not above: diffusers takes seconds to import.
        from ..models import s3diff

        prompts = [prompt_of(one, name) for one, name in ((positive, "positive"), (negative, "negative"))]
        if prompts[0].shape != prompts[1].shape:
            raise UserError(
                "S3Diff Restorer: one prompt is so long that it takes more tokens than the other. Shorten it."
            )
        folders = weight_folders("personal_restore")
        weights = s3diff.read(find("s3diff", folders), find("s3diff-degradation", folders))
        net = s3diff.S3Diff(turbo_of(checkpoint, "S3Diff Restorer"), weights)
        return io.NodeOutput(SDTurboRestorer(keep(net), *prompts, guidance=guidance, scale=scale))


def prompt_of(conditioning: Any, name: str) -> torch.Tensor:
    """The embedded text ``[1, N, 1024]``. Raises UserError for the text encoder of another model."""
    if not conditioning:
        raise UserError(f"S3Diff Restorer: {name} is empty. Connect a CLIP Text Encode.")
    text = conditioning[0][0]
    if text.shape[-1] != 1024:
        raise UserError(
            f"S3Diff Restorer: {name} has {text.shape[-1]} numbers per token, SD-Turbo's text encoder gives 1024. "
            "Encode the prompts with the CLIP of the SD-Turbo checkpoint."
        )
    return text[:1]

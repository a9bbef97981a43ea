"""The published one-step restorer at full size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..lib.bridge import device, io, keep, weight_folders
from ..lib.vocabulary import UserError
from ..models.shared.sd_turbo_restorer import SDTurboRestorer
from ..models.shared.weight_files import NONE, checkpoint_and, checkpoints
from . import sockets

if TYPE_CHECKING:
    from ..models.shared.sd_turbo import SDTurbo


def load_turbo(path: Path) -> SDTurbo:
    """SD-Turbo in the precision that suits the device."""
    from ..models.shared import sd_turbo

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
            description="S3Diff at its published size: restores whole scenes in one step of SD-Turbo, and estimates "
            "blur and noise itself. Needs SD-Turbo as a checkpoint and S3Diff's two files (s3diff.pkl, de_net.pth) in "
            "models/personal_restore; Download Weights downloads them. Needs a graphics card.",
            search_aliases=["s3diff", "sd-turbo", "super resolution", "one step diffusion", "upscale"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(checkpoints()) or [NONE],
                    tooltip="SD-Turbo as a single .safetensors file: sd_turbo.safetensors.",
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="Describes good photographs. Connect CLIP Text Encode with the CLIP of the same "
                    "checkpoint. If it is not connected, the prompt that S3Diff was trained with is used, encoded by "
                    "the checkpoint's own text encoder.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Describes bad photographs. Used if guidance is above 1. If it is not connected, the "
                    "prompt that S3Diff was trained with is used.",
                ),
                io.Float.Input(
                    "guidance",
                    default=1.07,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    tooltip="Classifier-free guidance from the negative prompt toward the positive one. 1 runs the "
                    "model once and is twice as fast.",
                ),
                io.Int.Input(
                    "scale",
                    default=1,
                    min=1,
                    max=4,
                    optional=True,
                    tooltip="Enlarges the photograph by this factor first. S3Diff was trained for 4.",
                ),
                io.Boolean.Input(
                    "public_tiles",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Tiles a large picture exactly as S3Diff's own code does, for comparison with its "
                    "results. The window of that code is off-center and leaves faint seams.",
                ),
            ],
            outputs=[sockets.Restorer.Output(display_name="restorer", tooltip="Restores scenes.")],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str) -> bool:
        # The bundled workflow names a file that may not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        positive: Any = None,
        negative: Any = None,
        guidance: float = 1.07,
        scale: int = 1,
        public_tiles: bool = False,
    ) -> io.NodeOutput:
        # Imported here because diffusers takes seconds to import.
        from ..models.s3diff import network as s3diff
        from ..models.shared import clip_text, sd_turbo

        given = [
            None if one is None else prompt_of(one, name)
            for one, name in ((positive, "positive"), (negative, "negative"))
        ]
        if len({clip_text.WINDOW if one is None else one.shape[1] for one in given}) > 1:
            raise UserError(
                "S3Diff Restorer: one prompt is so long that it takes more tokens than the other. Shorten it."
            )
        converted = [
            path for folder in weight_folders("personal_restore") if (path := folder / s3diff.CONVERTED).is_file()
        ]
        public = () if converted else ("s3diff", "s3diff-degradation")
        turbo, *files = checkpoint_and("S3Diff Restorer", checkpoint, "sd-turbo", *public)
        if any(one is None for one in given):
            own = sd_turbo.embed(turbo, s3diff.PROMPTS)
            given = [mine if one is None else one for one, mine in zip(given, own, strict=True)]
        net = s3diff.S3Diff(load_turbo(turbo), s3diff.read(*(converted[:1] or files)))
        return io.NodeOutput(
            SDTurboRestorer(keep(net), *given, guidance=guidance, scale=scale, public_tiles=public_tiles)
        )


def prompt_of(conditioning: Any, name: str) -> torch.Tensor:
    """The embedded text ``[1, N, 1024]``. Raises UserError for the text encoder of another model."""
    if not conditioning:
        raise UserError(f"S3Diff Restorer: {name} is empty. Connect a CLIP Text Encode.")
    text = conditioning[0][0]
    if text.shape[-1] != 1024:
        raise UserError(
            f"S3Diff Restorer: {name} has {text.shape[-1]} values per token, but SD-Turbo's text encoder produces "
            "1024. Encode the prompts with the CLIP of the SD-Turbo checkpoint."
        )
    return text[:1]

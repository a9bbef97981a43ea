"""The published one-step restorer at full size."""

from __future__ import annotations

from typing import Any

import torch

from ..lib.bridge import io
from ..lib.extras import require
from ..lib.vocabulary import UserError
from ..models.s3diff.build import restorer_from
from . import sockets
from .presets import OWN, PUBLISHED, QUICK, Presets, preset_input, with_preset

PRESETS: Presets = {QUICK: {"cfg": 1.0}, PUBLISHED: {"cfg": 1.07}}


class S3DiffRestorer(sockets.FromCheckpoint):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_S3DiffRestorer",
            display_name="S3Diff Restorer",
            category=sockets.RESTORERS,
            description="S3Diff at its published size: restores whole scenes in one step of SD-Turbo, and estimates "
            "blur and noise itself. Needs SD-Turbo as a checkpoint and S3Diff's two files (s3diff.pkl, de_net.pth) in "
            "models/personal_restore; Download Weights downloads them. Intended for a graphics card.",
            search_aliases=["s3diff", "sd-turbo", "super resolution", "one step diffusion", "upscale"],
            inputs=[
                sockets.sd_turbo(),
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
                    tooltip="Describes bad photographs. Used if cfg is above 1. If it is not connected, the "
                    "prompt that S3Diff was trained with is used.",
                ),
                io.Float.Input(
                    "cfg",
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
                preset_input(PRESETS, "a cfg of 1.07."),
            ],
            outputs=[sockets.restorer_output("Restores scenes.")],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        positive: Any = None,
        negative: Any = None,
        cfg: float = 1.07,
        scale: int = 1,
        public_tiles: bool = False,
        preset: str = OWN,
    ) -> io.NodeOutput:
        require("S3Diff Restorer", "diffusion")
        from ..models.shared import clip_text  # imported here because transformers takes seconds to import

        given = [
            None if one is None else embedded_prompt(one, name)
            for one, name in ((positive, "positive"), (negative, "negative"))
        ]
        if len({clip_text.WINDOW if one is None else one.shape[1] for one in given}) > 1:
            raise UserError(
                "S3Diff Restorer: one prompt is so long that it takes more tokens than the other. Shorten it."
            )
        settings = with_preset("S3Diff Restorer", PRESETS, preset, {"cfg": cfg})
        made = restorer_from(checkpoint, *given, scale=scale, public_tiles=public_tiles, **settings)
        return io.NodeOutput(made)


def embedded_prompt(conditioning: Any, name: str) -> torch.Tensor:
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

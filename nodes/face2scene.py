"""Face2Scene at full size: its restorer, and its tokens for graphs of core nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..lib.bridge import adapted_model, adapted_vae, io, keep, weight_folders
from ..lib.vocabulary import DegradationCode, UserError
from ..models.embedded.mapnet import with_tokens
from ..models.face2scene import network as face2scene
from ..models.shared.sd_turbo_restorer import SDTurboRestorer
from ..models.shared.weight_files import NONE, checkpoint_and, checkpoints
from . import sockets
from .s3diff import load_turbo


def trained() -> dict[str, Path]:
    """Trained models by their file's name."""
    folders = [folder / face2scene.FOLDER for folder in weight_folders("personal_restore")]
    return {path.name: path for folder in reversed(folders) for path in sorted(folder.glob("*.safetensors"))}


def trained_named(name: str, node: str) -> Path:
    """Raises UserError with the known names."""
    known = trained()
    if name not in known:
        raise UserError(
            f"{node}: there is no trained Face2Scene {name!r}. Known: {', '.join(known) or NONE}. They belong in "
            f"{weight_folders('personal_restore')[0] / face2scene.FOLDER}; nobody has published one yet, "
            "`python run.py train face2scene` makes one (see docs/training.md)."
        )
    return known[name]


class Face2SceneRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_Face2SceneRestorer",
            display_name="Face2Scene Restorer",
            category=sockets.CATEGORY,
            description="Face2Scene at its published size: restores whole scenes in one step of SD-Turbo, steered by what a restored "
            "face reveals about the damage. Needs SD-Turbo as a checkpoint and a trained model in models/personal_restore/face2scene; "
            "nobody has published one, `python run.py train face2scene` makes one. For a graphics card.",
            search_aliases=["face2scene", "sd-turbo", "one step diffusion", "scene restoration"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(checkpoints()) or [NONE],
                    tooltip="SD-Turbo as one .safetensors file, sd_turbo.safetensors.",
                ),
                io.Combo.Input(
                    "model",
                    options=list(trained()) or [NONE],
                    tooltip="The trained model. Choose the same in Estimate Degradation: each understands its own codes only.",
                ),
                io.Float.Input(
                    "guidance",
                    default=1.1,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How far to go from the negative prompt towards the positive one; the paper's is 1.10. 1 asks once and is "
                    "twice as fast.",
                ),
                io.Int.Input("scale", default=1, min=1, max=4, tooltip="Enlarges the photograph first."),
            ],
            outputs=[
                sockets.Restorer.Output(
                    display_name="restorer", tooltip="Restores scenes, with a degradation code or without."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str, model: str) -> bool:
        # A bundled workflow names files that may not be there yet; what to do about it is said by execute.
        return True

    @classmethod
    def execute(cls, checkpoint: str, model: str, guidance: float, scale: int) -> io.NodeOutput:
        path = trained_named(model, "Face2Scene Restorer")
        weights = face2scene.read(path)
        (turbo,) = checkpoint_and("Face2Scene Restorer", checkpoint, "sd-turbo")
        net = face2scene.Face2Scene(load_turbo(turbo), weights)
        return io.NodeOutput(
            SDTurboRestorer(keep(net), *weights.prompts, guidance=guidance, scale=scale, name=face2scene.NAME)
        )


class ApplyFace2Scene(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_ApplyFace2Scene",
            display_name="Apply Face2Scene to SD-Turbo",
            category=sockets.CATEGORY,
            description="Gives core's SD-Turbo what a Face2Scene training has learnt, so that core's sampler restores with it: one step, "
            "from the damaged picture's latent. In ComfyUI only; Face2Scene Restorer is the same in one node.",
            search_aliases=["face2scene", "sd-turbo", "lora", "patch model"],
            inputs=[
                io.Model.Input("model", tooltip="SD-Turbo, from Load Checkpoint."),
                io.Vae.Input("vae", tooltip="SD-Turbo's, from Load Checkpoint."),
                io.Combo.Input(
                    "trained",
                    options=list(trained()) or [NONE],
                    tooltip="The trained model. Choose the same in Estimate Degradation.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the guider and the scheduler."),
                io.Vae.Output(display_name="vae", tooltip="For VAE Encode and VAE Decode."),
            ],
        )

    @classmethod
    def validate_inputs(cls, trained: str) -> bool:
        # A bundled workflow names files that may not be there yet; what to do about it is said by execute.
        return True

    @classmethod
    def execute(cls, model: Any, vae: Any, trained: str) -> io.NodeOutput:
        weights = face2scene.read(trained_named(trained, "Apply Face2Scene to SD-Turbo"))
        return io.NodeOutput(
            adapted_model(model, weights.adapters("unet"), weights.replaced),
            adapted_vae(vae, weights.adapters("vae"), face2scene.core_vae_name),
        )


class CodeToConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_CodeToConditioning",
            display_name="Add Degradation Code to Conditioning",
            category=sockets.CATEGORY,
            description="Appends the 21 tokens of a degradation code to embedded prompts, so that core's samplers can use them with a "
            "model that was trained on them. Use it for the positive and for the negative prompt.",
            search_aliases=["face2scene", "degradation tokens", "mapnet", "conditioning concat"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="Embedded text, from CLIP Text Encode."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Scales the tokens. 0 leaves the conditioning as it is; the models are trained with 1.",
                ),
                sockets.Code.Input(
                    "code",
                    optional=True,
                    tooltip="From Estimate Degradation, with the extractor that was trained with the model. Without it nothing changes.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The text with the tokens behind it.")
            ],
        )

    @classmethod
    def execute(cls, conditioning: Any, strength: float, code: DegradationCode | None = None) -> io.NodeOutput:
        if code is None or strength == 0:
            return io.NodeOutput(conditioning)
        tokens = strength * code.tokens
        return io.NodeOutput([[with_tokens(text, tokens), dict(more)] for text, more in conditioning])

"""Face2Scene at full size: its restorer, and its tokens for workflows with core nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..lib.bridge import adapted_model, adapted_vae, io, weight_folders
from ..lib.storage.names import shown_folder
from ..lib.vocabulary import DegradationCode, UserError
from ..models.embedded.mapnet import with_tokens
from ..models.face2scene import network as face2scene
from ..models.face2scene.build import restorer_from
from ..models.shared.weight_files import NONE
from . import sockets
from .presets import OWN, PUBLISHED, QUICK, Presets, preset_input, with_preset

PRESETS: Presets = {QUICK: {"cfg": 1.0}, PUBLISHED: {"cfg": 1.1}}


def trained() -> dict[str, Path]:
    """Trained models by file name."""
    folders = [folder / face2scene.FOLDER for folder in weight_folders("personal_restore")]
    return {path.name: path for folder in reversed(folders) for path in sorted(folder.glob("*.safetensors"))}


def trained_named(name: str, node: str) -> Path:
    """Raises UserError with the known names."""
    known = trained()
    if name not in known:
        raise UserError(
            f"{node}: there is no trained Face2Scene model {name!r}. Known: {', '.join(known) or NONE}. Trained models "
            f"belong in {shown_folder(weight_folders('personal_restore')[0] / face2scene.FOLDER)}. Nobody has published one yet; "
            "train one with the node Train Face2Scene (see docs/training.md)."
        )
    return known[name]


class Face2SceneRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Face2SceneRestorer",
            display_name="Face2Scene Restorer",
            category=sockets.RESTORERS,
            description="Face2Scene at its published size: restores whole scenes in one step of SD-Turbo, guided by "
            "what a restored face reveals about the damage. Needs SD-Turbo as a checkpoint and a trained model in "
            "models/personal_restore/face2scene. Nobody has published one; train one with the node Train "
            "Face2Scene. Intended for a graphics card.",
            search_aliases=["face2scene", "sd-turbo", "one step diffusion", "scene restoration"],
            inputs=[
                sockets.sd_turbo(),
                sockets.file_dropdown(
                    "model",
                    trained(),
                    "The trained model. Choose the same one in FaDeX: each model understands only its own codes.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.1,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Classifier-free guidance from the negative prompt toward the positive one. The paper "
                    "uses 1.10. 1 runs the model once and is twice as fast.",
                ),
                io.Int.Input("scale", default=1, min=1, max=4, tooltip="Enlarges the photograph by this factor first."),
                preset_input(PRESETS, "a cfg of 1.10."),
            ],
            outputs=[sockets.restorer_output("Restores scenes, with or without a degradation code.")],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str, model: str) -> bool:
        # A bundled workflow may name files that do not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(cls, checkpoint: str, model: str, cfg: float, scale: int, preset: str = OWN) -> io.NodeOutput:
        path = trained_named(model, "Face2Scene Restorer")
        settings = with_preset("Face2Scene Restorer", PRESETS, preset, {"cfg": cfg})
        return io.NodeOutput(restorer_from(checkpoint, path, scale=scale, **settings))


class ApplyFace2Scene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ApplyFace2Scene",
            display_name="Apply Face2Scene to SD-Turbo",
            category=sockets.SCENE,
            description="Applies trained Face2Scene weights to core's SD-Turbo, so that core's sampler can restore "
            "with it in one step from the latent of the damaged picture. Works in ComfyUI only. Face2Scene Restorer "
            "does the same in a single node.",
            search_aliases=["face2scene", "sd-turbo", "lora", "patch model"],
            inputs=[
                io.Model.Input("model", tooltip="SD-Turbo, from Load Checkpoint."),
                io.Vae.Input("vae", tooltip="SD-Turbo's VAE, from Load Checkpoint."),
                sockets.file_dropdown("trained", trained(), "The trained model. Choose the same one in FaDeX."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the guider and the scheduler."),
                io.Vae.Output(display_name="vae", tooltip="For VAE Encode and VAE Decode."),
            ],
        )

    @classmethod
    def validate_inputs(cls, trained: str) -> bool:
        # A bundled workflow may name files that do not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(cls, model: Any, vae: Any, trained: str) -> io.NodeOutput:
        weights = face2scene.read_face2scene(trained_named(trained, "Apply Face2Scene to SD-Turbo"))
        return io.NodeOutput(
            adapted_model(model, weights.adapters("unet"), weights.replaced),
            adapted_vae(vae, weights.adapters("vae"), face2scene.core_vae_name),
        )


class CodeToConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_CodeToConditioning",
            display_name="Add Degradation Code to Conditioning",
            category=sockets.SCENE,
            description="Appends the 21 tokens of a degradation code to encoded prompts, so that core's samplers can "
            "use them with a model that was trained on such tokens. Use it for both the positive and the negative "
            "prompt.",
            search_aliases=["face2scene", "degradation tokens", "mapnet", "conditioning concat"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The encoded prompt from CLIP Text Encode."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Scales the tokens. 0 leaves the conditioning unchanged. The models are trained with 1.",
                ),
                sockets.Code.Input(
                    "code",
                    optional=True,
                    tooltip="The code from MapNet or Estimate Degradation, using the extractor that was trained with the model. "
                    "Without it, the conditioning passes through.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="The prompt with the tokens appended.")
            ],
        )

    @classmethod
    def execute(cls, conditioning: Any, strength: float, code: DegradationCode | None = None) -> io.NodeOutput:
        if code is None or strength == 0:
            return io.NodeOutput(conditioning)
        tokens = strength * code.tokens
        return io.NodeOutput([[with_tokens(text, tokens), dict(more)] for text, more in conditioning])

"""DiffBIR at its published size, and Stable Diffusion alone: bases that can be trained on a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..lib.bridge import io, keep
from ..lib.vocabulary import Restorer, UserError
from ..models.diffbir.build import restorer_from
from ..models.embedded import ready as embedded
from ..models.shared.bases import PREDICTIONS, bases
from ..models.shared.catalogue import entry
from ..models.shared.weight_files import checkpoint_and, own_files, weight_files
from ..models.upscale.build import scene_models, scene_restorer
from . import sockets
from .presets import OWN, QUICK, Presets, preset_input, with_preset
from .published_bases import blind_negative_input, output, prompts, sampling

ALONE, EMBEDDED = "none", "embedded"
CONTROL, FIRST_STAGE = "diffbir-v1-face", "diffbir-swinir-face"  # what is published, by the catalog's names
NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"  # DiffBIR's

ALL_OF_IT: dict[str, Any] = {"denoise": 1.0, "control": 1.0, "skip_guidance": 0.0, "blind_negative": False}
PRESETS: Presets = {
    QUICK: ALL_OF_IT | {"steps": 10, "cfg": 1.0},
    "published, DiffBIR": ALL_OF_IT | {"steps": 50, "cfg": 4.0, "prompt": "", "negative": NEGATIVE},
    "published, Dual-Pivot Tuning": ALL_OF_IT | {"steps": 50, "cfg": 1.0, "prompt": ""},
}


def controls() -> dict[str, Path]:
    """Files that may be DiffBIR's ControlNet."""
    suffixes = ".pth", ".pt", ".safetensors"
    return weight_files("controlnet", suffixes=suffixes) | own_files(suffixes)


class DiffBIRRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_DiffBIRRestorer",
            display_name="DiffBIR Restorer",
            category=sockets.RESTORERS,
            description="DiffBIR at its published size: Stable Diffusion 2.1 with a ControlNet that sees the cleaned "
            "face at 512x512. It is the base for Dual-Pivot Tuning and for the adapter. Without a ControlNet, it runs "
            "Stable Diffusion or SD-Turbo alone, for Restoration by Generation. Download Weights downloads the files. "
            "Intended for a graphics card.",
            search_aliases=[
                "diffbir",
                "stable diffusion",
                "controlnet",
                "persona",
                "dreambooth",
                "pfstorer",
                "gen2res",
            ],
            inputs=[
                sockets.file_dropdown(
                    "checkpoint",
                    bases(),
                    "Stable Diffusion 2.1 base or SD-Turbo: a .safetensors or .ckpt file in "
                    "models/checkpoints, or a folder in models/diffusers.",
                ),
                io.Combo.Input(
                    "control_model",
                    options=[ALONE, *controls()],
                    tooltip="DiffBIR's ControlNet in models/personal_restore or models/controlnet, such as "
                    "v1_face.pth. With none, only the noisy face guides the model.",
                ),
                *sampling(steps=50, shown="cleaned face"),
                sockets.Restorer.Input(
                    "cleaner",
                    optional=True,
                    tooltip="The first stage, which removes the damage before the ControlNet sees the face: Restorer "
                    "from Upscale Model with DiffBIR's SwinIR, BSRNet or SCUNet. If it is not connected, the Embedded "
                    "Restorer is used.",
                ),
                *prompts(NEGATIVE),
                io.Combo.Input(
                    "prediction",
                    options=list(PREDICTIONS),
                    default=PREDICTIONS[0],
                    optional=True,
                    advanced=True,
                    tooltip="What the model predicts. Choose 'velocity to the end' for DiffBIR 2.1 and its own Stable "
                    "Diffusion; their files do not say so themselves.",
                ),
                sockets.skip_guidance_input(optional=True),
                blind_negative_input(),
                io.Combo.Input(
                    "first_stage",
                    options=[EMBEDDED, *scene_models()],
                    default=EMBEDDED,
                    optional=True,
                    tooltip="The first stage if cleaner is not connected: a file in models/upscale_models, such as face_swinir_v1.ckpt "
                    "(published), or the small restorer that ships with the pack.",
                ),
                preset_input(PRESETS, "50 steps; a cfg of 4 for DiffBIR, of 1 for Dual-Pivot Tuning."),
            ],
            outputs=[output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str, control_model: str, first_stage: str = EMBEDDED) -> bool:
        # A bundled workflow may name files that do not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        control_model: str,
        cleaner: Restorer | None = None,
        prediction: str = PREDICTIONS[0],
        first_stage: str = EMBEDDED,
        preset: str = OWN,
        **settings: Any,
    ) -> io.NodeOutput:
        settings = with_preset("DiffBIR Restorer", PRESETS, preset, {"negative": NEGATIVE} | settings)
        known, stages = controls(), scene_models()
        wanted = {CONTROL: (control_model, known)} | ({} if cleaner else {FIRST_STAGE: (first_stage, stages)})
        absent = [name for name, (file, there) in wanted.items() if file == entry(name).file and file not in there]
        path, *_ = checkpoint_and("DiffBIR Restorer", checkpoint, "sd21-base", *absent, known=bases())
        if control_model not in (*known, ALONE):
            raise UserError(
                f"DiffBIR Restorer: there is no ControlNet {control_model!r} in models/personal_restore or "
                "models/controlnet. Download diffbir-v1-face with Download Weights, or choose none."
            )
        cleaner = cleaner or (embedded.restorer(keep) if first_stage == EMBEDDED else scene_restorer(first_stage))
        control = None if control_model == ALONE else known[control_model]
        return io.NodeOutput(restorer_from(path, control, cleaner, prediction, **settings))

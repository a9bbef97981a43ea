"""DiffBIR at its published size, and Stable Diffusion alone: bases that can be trained on a person."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import io, keep
from ..lib.vocabulary import Restorer, UserError
from ..models.diffbir.build import restorer_from
from ..models.embedded import ready as embedded
from ..models.shared.bases import PREDICTIONS, bases
from ..models.shared.weight_files import checkpoint_and, own_files, weight_files
from . import sockets
from .published_bases import output, prompts, sampling

ALONE = "none"
NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"  # DiffBIR's


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
            ],
            outputs=[output()],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        control_model: str,
        denoise: float,
        steps: int,
        control: float,
        cfg: float,
        cleaner: Restorer | None = None,
        prompt: str = "",
        negative: str = NEGATIVE,
        prediction: str = PREDICTIONS[0],
        skip_guidance: float = 0.0,
    ) -> io.NodeOutput:
        (path,) = checkpoint_and("DiffBIR Restorer", checkpoint, "sd21-base", known=bases())
        known = controls()
        if control_model not in known and control_model != ALONE:
            raise UserError(
                f"DiffBIR Restorer: there is no ControlNet {control_model!r} in models/personal_restore or "
                "models/controlnet. Download diffbir-v1-face with Download Weights, or choose none."
            )
        return io.NodeOutput(
            restorer_from(
                path,
                None if control_model == ALONE else known[control_model],
                cleaner or embedded.restorer(keep),
                prediction,
                denoise=denoise,
                steps=steps,
                control=control,
                cfg=cfg,
                prompt=prompt,
                negative=negative,
                skip_guidance=skip_guidance,
            )
        )

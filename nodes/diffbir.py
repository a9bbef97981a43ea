"""DiffBIR at its published size, and Stable Diffusion alone: bases that can be taught a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..bridge import clip_vocabulary, device, io, keep, weight_folders
from ..models.catalogue import find_all
from ..restorers import embedded
from ..vocabulary import Restorer, UserError
from . import sockets
from .weight_files import NONE, checkpoint_and, checkpoints, weight_files

if TYPE_CHECKING:
    from ..restorers.diffusion import DiffusionRestorer

ALONE = "none"
# As models/stable_diffusion.py has them; that imports diffusers, which takes seconds. A test compares them.
PREDICTIONS = "as the file says", "noise", "velocity", "velocity to the end"
NEGATIVE = "low quality, blurry, low-resolution, noisy, unsharp, weird textures"  # DiffBIR's


def bases() -> dict[str, Path]:
    """Single files of models/checkpoints, and folders of models/diffusers that have a UNet, by their names."""
    parents = reversed(weight_folders("diffusers"))
    folders = {unet.parent.name + "/": unet.parent for parent in parents for unet in sorted(parent.glob("*/unet"))}
    return checkpoints() | folders


def controls() -> dict[str, Path]:
    """Files that may be DiffBIR's ControlNet."""
    suffixes = ".pth", ".pt", ".safetensors"
    own = weight_files("personal_restore", suffixes=suffixes)
    own = {name: path for name, path in own.items() if "/" not in name}  # below lie personas, and what was trained
    return weight_files("controlnet", suffixes=suffixes) | own


class DiffBIRRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_DiffBIRRestorer",
            display_name="DiffBIR Restorer",
            category=sockets.CATEGORY,
            description="DiffBIR at its published size: Stable Diffusion 2.1 with a ControlNet that is shown the cleaned face of "
            "512x512. The base of Dual-Pivot Tuning and of the adapter. Without a ControlNet it is Stable Diffusion or SD-Turbo alone, for "
            "Restoration by Generation. Download Weights fetches the files. For a graphics card.",
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
                io.Combo.Input(
                    "checkpoint",
                    options=list(bases()) or [NONE],
                    tooltip="Stable Diffusion 2.1 base or SD-Turbo: a .safetensors file of models/checkpoints, or a folder of "
                    "models/diffusers.",
                ),
                io.Combo.Input(
                    "control_model",
                    options=[ALONE, *controls()],
                    tooltip="DiffBIR's ControlNet in models/personal_restore or models/controlnet, such as v1_face.pth. None: nothing "
                    "but the noisy face says what to make.",
                ),
                io.Int.Input(
                    "noise_steps",
                    default=1000,
                    min=0,
                    max=1000,
                    tooltip="How much noise is added to the face and removed again, of 1000 steps. With control all of it, as published; "
                    "without, 200 to 400. 0 gives the face back bit for bit.",
                ),
                io.Int.Input(
                    "samples",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip="In how many strides the noise is removed: 50 for DiffBIR, 200 for PFStorer.",
                ),
                io.Float.Input(
                    "control",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the cleaned face steers. 0 is Stable Diffusion alone.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=1.0,
                    max=10.0,
                    step=0.1,
                    tooltip="How far to go from the negative prompt to the positive one; 1 asks once, in half the time. Published: 1 for "
                    "Dual-Pivot Tuning, 4 for PFStorer and DiffBIR.",
                ),
                sockets.Restorer.Input(
                    "cleaner",
                    optional=True,
                    tooltip="The first stage, which takes the damage away before the ControlNet looks: Restorer from Upscale Model with "
                    "DiffBIR's SwinIR, BSRNet or SCUNet. Without one the Embedded Restorer does it.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    optional=True,
                    tooltip="Added to the persona's prompt, such as 'smiling' or 'masterpiece, best quality, realistic'.",
                ),
                io.String.Input(
                    "negative", default=NEGATIVE, optional=True, tooltip="What to go away from, where cfg is above 1."
                ),
                io.Combo.Input(
                    "prediction",
                    options=list(PREDICTIONS),
                    default=PREDICTIONS[0],
                    optional=True,
                    advanced=True,
                    tooltip="What the model predicts. 'Velocity to the end' is for DiffBIR 2.1 and its own Stable Diffusion, which no file "
                    "says of itself.",
                ),
                sockets.skip_guidance(optional=True),
            ],
            outputs=[
                sockets.Restorer.Output(
                    display_name="restorer",
                    tooltip="Restores faces, and is a base of Train Persona and Apply Persona.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        control_model: str,
        noise_steps: int,
        samples: int,
        control: float,
        cfg: float,
        cleaner: Restorer | None = None,
        prompt: str = "",
        negative: str = NEGATIVE,
        prediction: str = PREDICTIONS[0],
        guidance: float = 0.0,
    ) -> io.NodeOutput:
        (path,) = checkpoint_and("DiffBIR Restorer", checkpoint, "sd21-base", known=bases())
        known = controls()
        if control_model not in known and control_model != ALONE:
            raise UserError(
                f"DiffBIR Restorer: there is no ControlNet {control_model!r} in models/personal_restore or models/controlnet. "
                "Download Weights fetches diffbir-v1-face, or choose none."
            )
        return io.NodeOutput(
            restorer_from(
                path,
                None if control_model == ALONE else known[control_model],
                cleaner,
                prediction,
                steps=noise_steps,
                samples=samples,
                control=control,
                cfg=cfg,
                prompt=prompt,
                negative=negative,
                guidance=guidance,
            )
        )


def restorer_from(
    checkpoint: Path,
    controlnet: Path | None,
    cleaner: Restorer | None = None,
    prediction: str = PREDICTIONS[0],
    control: float = 1.0,
    guidance: float = 0.0,
    **more,
) -> DiffusionRestorer:
    """The restorer of these files, with `DiffusionRestorer`'s settings. Raises UserError for files that hold something else."""
    # Here and not above: diffusers takes seconds to import.
    from ..models import stable_diffusion
    from ..models.diffbir_controlnet import load_diffbir_controlnet
    from ..personas.make import fingerprint
    from ..restorers.diffusion import DiffusionRestorer, first_stage
    from ..restorers.generation import SkipGuidance

    net = stable_diffusion.load(
        checkpoint,
        None if (checkpoint / "tokenizer").is_dir() else vocabulary(),
        load_diffbir_controlnet(controlnet) if controlnet else None,
        prediction,
    )
    base = f"{'diffbir' if controlnet else 'stable_diffusion'} {fingerprint(net)}"
    if device().type == "cuda":
        net.bfloat16()  # half precision overflows in the VAE, and is too coarse for gradients
    else:
        net.float()
    net.cleaner = first_stage(cleaner or embedded.restorer(keep))
    return DiffusionRestorer(
        keep(net),
        base,
        net.native_size,
        control=control if controlnet else 0.0,
        guidance=SkipGuidance(scale=guidance) if guidance else None,
        name="DiffBIR" if controlnet else "Stable Diffusion",
        **more,
    )


def vocabulary() -> Path:
    """Where CLIP's vocab.json and merges.txt are: the host's own, else those of the catalogue. Raises UserError without them."""
    return clip_vocabulary() or find_all(["clip-vocabulary", "clip-merges"], weight_folders)[0].parent

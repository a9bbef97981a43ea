"""What the nodes of the published Stable Diffusion bases share: how they are sampled and prompted, and what comes out."""

from __future__ import annotations

from ..lib.bridge import io
from . import sockets


def sampling(steps: int, shown: str) -> list[io.Input]:
    """denoise, steps, control and cfg. steps: the default; shown: the picture that the control sees."""
    return [
        sockets.denoise_input(
            default=1.0,
            tooltip="How much noise is added to the face and removed again. With control, use 1, as published; without, "
            "use 0.2 to 0.4. 0 returns the face unchanged, bit for bit.",
        ),
        io.Int.Input(
            "steps",
            default=steps,
            min=1,
            max=1000,
            tooltip="Number of sampling steps used to remove the noise: 50 for DiffBIR, 200 for PFStorer.",
        ),
        sockets.share_input(
            "control",
            default=1.0,
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


def blind_negative_input() -> io.Input:
    return io.Boolean.Input(
        "blind_negative",
        default=False,
        optional=True,
        advanced=True,
        tooltip="The negative side of cfg does not see the damaged face, which the result then follows more closely (PFStorer, equation "
        "10; the paper prefers equation 9, where both sides see it).",
    )


def output() -> io.Output:
    return sockets.restorer_output("Restores faces, and serves as a base for Train Persona and Apply Persona.")

"""What the nodes of the published Stable Diffusion bases share: how they are sampled and prompted, and what comes out."""

from __future__ import annotations

from ..lib.bridge import io
from . import sockets


def sampling(samples: int, shown: str) -> list[io.Input]:
    """noise_steps, samples, control and cfg. samples: the default; shown: what the control looks at."""
    return [
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
            default=samples,
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
            tooltip=f"How strongly the {shown} steers. 0 is Stable Diffusion alone.",
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
    ]


def prompts(negative: str) -> list[io.Input]:
    return [
        io.String.Input(
            "prompt",
            default="",
            optional=True,
            tooltip="Added to the persona's prompt, such as 'smiling' or 'masterpiece, best quality, realistic'.",
        ),
        io.String.Input(
            "negative", default=negative, optional=True, tooltip="What to go away from, where cfg is above 1."
        ),
    ]


def output() -> io.Output:
    return sockets.Restorer.Output(
        display_name="restorer",
        tooltip="Restores faces, and is a base of Train Persona and Apply Persona.",
    )

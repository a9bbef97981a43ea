"""The custom sockets, one per payload, and inputs that several nodes have. What travels is documented in ``lib/vocabulary.py``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..lib.bridge import io
from ..models.shared.weight_files import NONE, checkpoints

Library = io.Custom("PR_LIBRARY")
Faces = io.Custom("PR_FACES")
Landmarks = io.Custom("PR_LANDMARKS")
Warp = io.Custom("PR_WARP")
Grid = io.Custom("PR_GRID")
Restorer = io.Custom("PR_RESTORER")
Degradation = io.Custom("PR_DEGRADATION")
FacePair = io.Custom("PR_FACE_PAIR")
Map = io.Custom("PR_DEGMAP")
Code = io.Custom("PR_DEGCODE")
Persona = io.Custom("PR_PERSONA")

# The submenus of the Add Node menu.
FACES, RESTORERS, SCENE, PERSONAS, LAB = (
    f"personal restore/{menu}" for menu in ("faces", "restorers", "scene", "personas", "lab")
)


def seed(tooltip: str, most: int = 2**53 - 1, **more: Any) -> io.Int.Input:
    """By default, the frontend would draw a new seed after every run, so that nothing would be cached and no training
    resumed."""
    return io.Int.Input("seed", control_after_generate=False, default=0, min=0, max=most, tooltip=tooltip, **more)


def share_input(id: str, *, default: float, tooltip: str, **more: Any) -> io.Float.Input:
    """A slider from 0 to 1."""
    return io.Float.Input(id, default=default, min=0.0, max=1.0, step=0.05, tooltip=tooltip, **more)


def skip_guidance_input(**more: Any) -> io.Float.Input:
    return io.Float.Input(
        "skip_guidance",
        default=0.0,
        min=0.0,
        max=10.0,
        step=0.1,
        advanced=True,
        tooltip="How strongly every 20th step is guided back toward the damaged face (skip guidance). 0 turns it off.",
        **more,
    )


def denoise_input(default: float, tooltip: str, min: float = 0.0) -> io.Float.Input:
    """In thousandths, because the published schedules have 1000 steps."""
    return io.Float.Input("denoise", default=default, min=min, max=1.0, step=0.001, round=0.001, tooltip=tooltip)


def file_dropdown(id: str, known: Iterable[str], tooltip: str) -> io.Combo.Input:
    """A dropdown of files; if there are none, it says so."""
    return io.Combo.Input(id, options=list(known) or [NONE], tooltip=tooltip)


def sd_turbo() -> io.Combo.Input:
    tooltip = "SD-Turbo as a single .safetensors file: sd_turbo.safetensors."
    return file_dropdown("checkpoint", checkpoints(), tooltip)


def restorer_output(tooltip: str) -> io.Output:
    return Restorer.Output(display_name="restorer", tooltip=tooltip)


class FromSavedFile(io.ComfyNode):
    """A node that loads the file ``name``. It may not exist yet, because an older workflow names it or the same graph saves it,
    and may come as text through a link, from the time when the input was a text; execute reports what to do."""

    @classmethod
    def validate_inputs(cls, name: str = "", input_types: Any = None) -> bool:
        return True


class FromCheckpoint(io.ComfyNode):
    """A node whose checkpoint may not exist yet, because a bundled workflow names it; execute reports what to do."""

    @classmethod
    def validate_inputs(cls, checkpoint: str) -> bool:
        return True

"""The node that undoes fading."""

from __future__ import annotations

import torch

from ..lib.bridge import io
from ..models.old_photo.colors import Fading, estimate_fading, undo_fading
from . import sockets
from .layout import to_image, to_photos


class FadedColors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FadedColors",
            display_name="Undo Fading",
            category=sockets.SCENE,
            description="Gives a faded print its contrast and its balance of colors back: one curve for each channel, and a slow veil of "
            "light taken away. It invents no colors: a gray or sepia photograph stays one. Most photographs that have not faded "
            "are not changed; lower strength where one is, such as a sunset.",
            search_aliases=["old photo", "color cast", "yellowed", "faded", "auto color", "sepia"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The scanned photograph, best after Fill Damage: scratches are whiter than any paper.",
                ),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="How much of the estimated fading is undone. 0 leaves the photograph unchanged.",
                ),
                io.Boolean.Input(
                    "neutral",
                    default=False,
                    tooltip="Makes a sepia photograph gray. Off: it keeps its tone. Photographs in color are not affected.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The photograph without its fading."),
                io.String.Output(
                    display_name="report",
                    tooltip="What was estimated for each photograph: the dyes left, the paper, the veil.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, strength: float, neutral: bool) -> io.NodeOutput:
        done, lines = [], []
        for number, photo in enumerate(to_photos(image), 1):
            fading = estimate_fading(photo)
            done.append(undo_fading(photo, fading, strength, neutral))
            lines.append(f"Photograph {number}: {fading_in_words(fading)}")
        return io.NodeOutput(to_image(torch.stack(done)), "\n".join(lines))


def fading_in_words(fading: Fading) -> str:
    """What was estimated, in words."""
    kind = "monochrome, " if fading.monochrome else ""
    if fading.nothing:
        return f"{kind}not faded"
    left = ", ".join(f"{name} {share:.0%}" for name, share in zip(("red", "green", "blue"), fading.left, strict=True))
    return f"{kind}contrast left in {left}; paper darker in blue by {fading.base[2]:.2f}; veil up to {fading.veil.max():.0%}"

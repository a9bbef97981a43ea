"""StableSR at its published size: the base that PFStorer personalizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..lib.bridge import io
from ..lib.vocabulary import UserError
from ..models.shared.bases import bases
from ..models.shared.weight_files import NONE, checkpoint_and, own_files
from ..models.stablesr.build import restorer_from
from . import sockets
from .presets import OWN, QUICK, Presets, preset_input, with_preset
from .published_bases import blind_negative_input, output, prompts, sampling

SAME = "in the same file"
NEGATIVE = "3d, cartoon, anime, sketches, worst quality, low quality"  # PFStorer's
POSITIVE = "masterpiece, best quality, realistic, very clear, professional"
ALL_OF_IT: dict[str, Any] = {"denoise": 1.0, "control": 1.0, "skip_guidance": 0.0, "blind_negative": False}
PRESETS: Presets = {
    QUICK: ALL_OF_IT | {"steps": 20, "cfg": 1.0},
    "published, StableSR": ALL_OF_IT | {"steps": 200, "cfg": 1.0, "prompt": ""},
    "published, PFStorer": ALL_OF_IT | {"steps": 200, "cfg": 4.0, "prompt": POSITIVE, "negative": NEGATIVE},
}


def stablesr_files() -> dict[str, Path]:
    """Files that may be StableSR."""
    return own_files((".ckpt", ".safetensors"))


class StableSRRestorer(sockets.FromCheckpoint):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_StableSRRestorer",
            display_name="StableSR Restorer",
            category=sockets.RESTORERS,
            description="StableSR at its published size: Stable Diffusion 2.1, with every block guided by the damaged "
            "face at 512x512, without a first stage. It is the base for PFStorer and supports every other method of "
            "training a persona. Download Weights downloads it; its license forbids commercial use. Intended for a graphics "
            "card.",
            search_aliases=["stablesr", "pfstorer", "stable diffusion", "persona", "super resolution", "spade", "sft"],
            inputs=[
                sockets.file_dropdown(
                    "checkpoint",
                    stablesr_files(),
                    "StableSR in models/personal_restore: stablesr_000117.ckpt (512), "
                    "stablesr_768v_000139.ckpt, stablesr_turbo.ckpt, or one of its files for web interfaces.",
                ),
                *sampling(steps=200, shown="damaged face"),
                io.Combo.Input(
                    "stable_diffusion",
                    options=[SAME, *bases()],
                    default=SAME,
                    optional=True,
                    tooltip="The file that contains Stable Diffusion. Files for web interfaces contain only "
                    "StableSR's own layers. For those, choose Stable Diffusion 2.1 base, the 768 version for 768v, or "
                    "SD-Turbo for turbo.",
                ),
                *prompts(NEGATIVE),
                sockets.skip_guidance_input(optional=True),
                blind_negative_input(),
                preset_input(PRESETS, "200 steps; for PFStorer, also its prompts and a cfg of 4."),
            ],
            outputs=[output()],
        )

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        stable_diffusion: str = SAME,
        preset: str = OWN,
        **settings: Any,
    ) -> io.NodeOutput:
        settings = with_preset("StableSR Restorer", PRESETS, preset, {"negative": NEGATIVE} | settings)
        (path,) = checkpoint_and("StableSR Restorer", checkpoint, "stablesr-512", known=stablesr_files())
        known = bases()
        if stable_diffusion not in (SAME, *known):
            raise UserError(
                f"StableSR Restorer: there is no Stable Diffusion {stable_diffusion!r}. Choose {SAME!r} or one of: "
                f"{', '.join(known) or NONE}."
            )
        return io.NodeOutput(restorer_from(path, known.get(stable_diffusion), **settings))

"""FaceMe at its published size."""

from __future__ import annotations

from ..lib.bridge import io
from ..models.faceme.build import restorer_from
from ..models.shared.weight_files import checkpoints
from . import sockets
from .presets import OWN, PUBLISHED, QUICK, Presets, preset_input, with_preset

PRESETS: Presets = {QUICK: {"steps": 10}, PUBLISHED: {"steps": 50, "cfg": 5.0, "color": "wavelet"}}


class FaceMeRestorer(sockets.FromCheckpoint):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FaceMeRestorer",
            display_name="FaceMe Restorer",
            category=sockets.RESTORERS,
            description="FaceMe: generates the face anew with SDXL, guided by the damaged face and the person's "
            "album. Needs an SDXL checkpoint (RealVisXL V3.0), FaceMe's two files and PhotoMaker's file (available "
            "through Download Weights), and ArcFace from antelopev2. FaceMe and ArcFace are not for commercial use. "
            "Intended for a graphics card.",
            search_aliases=["faceme", "reference face restoration", "sdxl", "photomaker", "identity"],
            inputs=[
                sockets.file_dropdown(
                    "checkpoint",
                    checkpoints(),
                    "An SDXL model as a single .safetensors file. FaceMe was trained with RealVisXL_V3.0.safetensors.",
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=999,
                    tooltip="Number of sampling steps. More steps are slower and give finer detail. Published value: 50.",
                ),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=1.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Classifier-free guidance from a generic face toward the person in the album. Published "
                    "value: 5.",
                ),
                io.Combo.Input(
                    "color",
                    options=["wavelet", "adain", "none"],
                    default="wavelet",
                    tooltip="How the colors of the damaged face are restored. none keeps the colors that the model "
                    "generates.",
                ),
                preset_input(PRESETS, "50 steps and a cfg of 5."),
            ],
            outputs=[sockets.restorer_output("Restores faces of people in the library.")],
        )

    @classmethod
    def execute(cls, checkpoint: str, steps: int, cfg: float, color: str, preset: str = OWN) -> io.NodeOutput:
        given = {"steps": steps, "cfg": cfg, "color": color}
        chosen = with_preset("FaceMe Restorer", PRESETS, preset, given)
        color = chosen.pop("color")
        return io.NodeOutput(restorer_from(checkpoint, **chosen, color=None if color == "none" else color))

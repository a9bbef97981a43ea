"""FaceMe at its published size."""

from __future__ import annotations

from ..lib.bridge import io
from ..models.faceme.build import restorer_from
from ..models.shared.weight_files import NONE, checkpoints
from . import sockets


class FaceMeRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_FaceMeRestorer",
            display_name="FaceMe Restorer",
            category=sockets.CATEGORY,
            description="FaceMe: generates the face anew with SDXL, guided by the damaged face and the person's "
            "album. Needs an SDXL checkpoint (RealVisXL V3.0), FaceMe's two files and PhotoMaker's file (available "
            "through Download Weights), and ArcFace from antelopev2. FaceMe and ArcFace are not for commercial use. "
            "Needs a graphics card.",
            search_aliases=["faceme", "reference face restoration", "sdxl", "photomaker", "identity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(checkpoints()) or [NONE],
                    tooltip="An SDXL model as a single .safetensors file. FaceMe was trained with "
                    "RealVisXL_V3.0.safetensors.",
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=999,
                    tooltip="Number of sampling steps. More steps are slower and give finer detail. Published value: 50.",
                ),
                io.Float.Input(
                    "guidance",
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
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores faces of people in the library.")
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str) -> bool:
        # A bundled workflow may name files that do not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(cls, checkpoint: str, steps: int, guidance: float, color: str) -> io.NodeOutput:
        return io.NodeOutput(restorer_from(checkpoint, steps, guidance, None if color == "none" else color))

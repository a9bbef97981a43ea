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
            description="FaceMe: generates a face anew with SDXL, guided by its damaged self and by the album of the person. Needs an "
            "SDXL checkpoint (RealVisXL V3.0), FaceMe's two files and PhotoMaker's (Download Weights fetches them), and ArcFace of "
            "antelopev2. FaceMe and ArcFace are not for commercial use. For a graphics card.",
            search_aliases=["faceme", "reference face restoration", "sdxl", "photomaker", "identity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(checkpoints()) or [NONE],
                    tooltip="An SDXL model as one .safetensors file; FaceMe was trained with RealVisXL_V3.0.safetensors.",
                ),
                io.Int.Input("steps", default=50, min=1, max=999, tooltip="More is slower and finer; published: 50."),
                io.Float.Input(
                    "guidance",
                    default=5.0,
                    min=1.0,
                    max=20.0,
                    step=0.1,
                    tooltip="How far to go from anybody's face towards that of the album. Published: 5.",
                ),
                io.Combo.Input(
                    "color",
                    options=["wavelet", "adain", "none"],
                    default="wavelet",
                    tooltip="How the colours of the damaged face are put back; none leaves them as they come out.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores faces of people in the library.")
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str) -> bool:
        # A bundled workflow names files that may not be there yet; what to do about it is said by execute.
        return True

    @classmethod
    def execute(cls, checkpoint: str, steps: int, guidance: float, color: str) -> io.NodeOutput:
        return io.NodeOutput(restorer_from(checkpoint, steps, guidance, None if color == "none" else color))

"""Published restorers for faces."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import io, keep_upscaler
from ..lib.vocabulary import UserError
from ..models.shared.weight_files import NONE, weight_files
from ..models.upscale.restorer import UpscalerRestorer
from . import sockets

SUFFIXES = ".pth", ".safetensors", ".pt", ".ckpt"


def face_models() -> dict[str, Path]:
    """Files that may be a face restorer, by name relative to the folders where users keep them."""
    return weight_files("facerestore_models", "upscale_models", suffixes=SUFFIXES)


class FaceModelRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_FaceModelRestorer",
            display_name="Face Model Restorer",
            category=sockets.CATEGORY,
            description="GFPGAN, RestoreFormer or CodeFormer as a restorer for faces without an album. The network "
            "receives the whole aligned face at 512x512, in the value range that it was trained with.",
            search_aliases=["gfpgan", "restoreformer", "codeformer", "blind face restoration", "facerestore"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(face_models()) or [NONE],
                    tooltip="A file in models/facerestore_models or models/upscale_models, such as GFPGANv1.4.pth.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(
                    display_name="restorer",
                    tooltip="Restores any aligned face. For faces without an album, use it in a Restore Faces node "
                    "with people set to 'strangers'.",
                )
            ],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        # Imported here because spandrel takes seconds to import.
        from ..models.upscale import face_networks

        known = face_models()
        if model not in known:
            raise UserError(
                f"Face Model Restorer: there is no {model!r} in models/facerestore_models or models/upscale_models. "
                f"Put {face_networks.WHAT} there."
            )
        network = face_networks.load(known[model])
        name = network.architecture.name
        return io.NodeOutput(
            UpscalerRestorer(keep_upscaler(network), name, network.scale, native_size=512, tileable=False)
        )

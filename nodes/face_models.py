"""Published restorers for faces."""

from __future__ import annotations

from ..lib.bridge import io
from ..models.upscale.build import face_models, restorer_from
from . import sockets


class FaceModelRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FaceModelRestorer",
            display_name="Face Model Restorer",
            category=sockets.RESTORERS,
            description="GFPGAN, RestoreFormer or CodeFormer as a restorer for faces without an album. The network "
            "receives the whole aligned face at 512x512, in the value range that it was trained with.",
            search_aliases=["gfpgan", "restoreformer", "codeformer", "blind face restoration", "facerestore"],
            inputs=[
                sockets.file_dropdown(
                    "model",
                    face_models(),
                    "A file in models/facerestore_models or models/upscale_models, such as GFPGANv1.4.pth.",
                ),
            ],
            outputs=[
                sockets.restorer_output(
                    "Restores any aligned face. For faces without an album, use it in a Restore Faces node "
                    "with people set to 'strangers'."
                )
            ],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        return io.NodeOutput(restorer_from(model))

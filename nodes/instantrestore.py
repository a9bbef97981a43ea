"""InstantRestore, for users who have a checkpoint."""

from __future__ import annotations

from ..lib.bridge import io
from ..models.instantrestore.build import instantrestore_files, restorer_from
from . import sockets


class InstantRestoreRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_InstantRestoreRestorer",
            display_name="InstantRestore Restorer",
            category=sockets.RESTORERS,
            description="InstantRestore: restores a face in one step of SD-Turbo, with the person's identity from up "
            "to four pictures in the album. Its weights were published without a license, so this pack neither "
            "downloads nor recommends them. If you are allowed to use them, put a checkpoint into "
            "models/personal_restore. Intended for a graphics card.",
            search_aliases=["instantrestore", "reference face restoration", "shared attention", "sd-turbo", "identity"],
            inputs=[
                sockets.file_dropdown(
                    "checkpoint",
                    instantrestore_files(),
                    "An InstantRestore checkpoint (.pt) in models/personal_restore. It also contains SD-Turbo.",
                ),
            ],
            outputs=[sockets.restorer_output("Restores faces of people in the library.")],
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        return io.NodeOutput(restorer_from(checkpoint))

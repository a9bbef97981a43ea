"""Published weights, fetched on request only."""

from __future__ import annotations

from ..lib.bridge import io, weight_folders
from ..models.shared.catalogue import catalogue, download, entry
from . import sockets


class DownloadWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        names = [name for name, weights in catalogue().items() if weights.repository]
        return io.Schema(
            node_id="PR_DownloadWeights",
            display_name="Download Weights",
            category=sockets.CATEGORY,
            description="Fetches published weights into ComfyUI's models folder, after you have agreed to their licence. No other node "
            "of this pack ever uses the network.",
            search_aliases=["models", "checkpoint", "hugging face"],
            inputs=[
                io.Combo.Input(
                    "name", options=names, tooltip="What to fetch; the report says what it is for and its licence."
                ),
                io.Boolean.Input(
                    "agree",
                    default=False,
                    tooltip="Off: only show size, source and licence. On: I agree to the licence, fetch the file.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="What it is, its licence, and where it was put.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name: str, agree: bool) -> io.NodeOutput:
        weights = entry(name)
        folder = weight_folders(weights.folder)[0]
        if not agree:
            return io.NodeOutput(f"{weights.describe()}. Switch 'agree' on to fetch it into {weights.folder}.")
        download(name, folder)
        return io.NodeOutput(f"{weights.describe()}. It is in {weights.folder}.")

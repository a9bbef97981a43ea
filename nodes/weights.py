"""Downloads published weights, on request only."""

from __future__ import annotations

from ..lib.bridge import io, weight_folders
from ..models.shared.catalogue import catalogue, download, entry
from . import sockets


class DownloadWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = [name for name, weights in catalogue().items() if weights.repository]
        return io.Schema(
            node_id="PR_DownloadWeights",
            display_name="Download Weights",
            category=sockets.RESTORERS,
            description="Downloads published weights into ComfyUI's models folder after you agree to their license. "
            "No other node in this pack uses the network.",
            search_aliases=["models", "checkpoint", "hugging face"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=names,
                    tooltip="The weights to download. The report shows their purpose and license.",
                ),
                io.Boolean.Input(
                    "agree",
                    default=False,
                    tooltip="Off: only show size, source and license. On: I agree to the license; download the file.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="report", tooltip="What the file is, its license, and where it was saved."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name: str, agree: bool) -> io.NodeOutput:
        weights = entry(name)
        folder = weight_folders(weights.folder)[0]
        if not agree:
            return io.NodeOutput(f"{weights.describe()}. Turn on 'agree' to download it into {weights.folder}.")
        download(name, folder)
        return io.NodeOutput(f"{weights.describe()}. It is in {weights.folder}.")

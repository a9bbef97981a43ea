"""The papers' measures."""

from __future__ import annotations

import torch

from ..lib.bridge import device, io, progress, weight_folders
from ..lib.measure import measure_pictures
from ..lib.vocabulary import UserError
from ..models.shared.iqa import learned_metrics
from . import sockets
from .layout import to_photos


class Measure(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Measure",
            display_name="Measure",
            category=sockets.LAB,
            description="Measures results as the papers do: PSNR, SSIM, LPIPS and DISTS against the truth; NIQE, MUSIQ, MANIQA "
            "and TOPIQ without one; for faces the identity distance and the landmark error. What cannot be computed stays "
            "empty, and the table says why.",
            search_aliases=["psnr", "ssim", "lpips", "niqe", "musiq", "metrics", "evaluate", "identity"],
            inputs=[
                io.Image.Input("result", tooltip="The restored pictures."),
                io.Boolean.Input(
                    "faces_only",
                    default=False,
                    tooltip="Measure each face instead of the whole picture.",
                ),
                io.String.Input(
                    "metrics",
                    default="",
                    tooltip="Which measures, separated by commas, for example 'psnr, ssim, niqe'. Empty for all of them.",
                ),
                io.Image.Input(
                    "truth", optional=True, tooltip="The undamaged originals: as many, and of the same size."
                ),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="The measures as a table for people."),
                io.String.Output(display_name="csv", tooltip="The same for a spreadsheet."),
                io.String.Output(
                    display_name="json", tooltip="The same for programs, with the reasons for what is missing."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, result: torch.Tensor, faces_only: bool, metrics: str, truth: torch.Tensor | None = None
    ) -> io.NodeOutput:
        names = [f"picture {number}" for number in range(len(result))]
        results = dict(zip(names, to_photos(result), strict=True))
        if truth is not None and len(truth) != len(result):
            raise UserError(f"Measure: there are {len(result)} results, but {len(truth)} truths. Connect as many.")
        truths = {} if truth is None else dict(zip(names, to_photos(truth), strict=True))
        wanted = [name.strip() for name in metrics.split(",") if name.strip()]
        learned = learned_metrics(weight_folders, device())
        found = measure_pictures(
            results, truths, learned, wanted, faces_only, weight_folders("personal_restore"), progress()
        )
        return io.NodeOutput(found.table(), found.to_csv(), found.to_json())

"""The report of a restoration, for people and programs."""

from __future__ import annotations

import json

import torch

from ..lib.bridge import as_file, io, weight_folders
from ..lib.faces.embed import best_embedder
from ..lib.report import backends, summarize
from ..lib.vocabulary import DegradationCode, Faces
from . import sockets
from .layout import to_photos


class Report(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Report",
            display_name="Restoration Report",
            category=sockets.SCENE,
            description="Reports as JSON who was found, what each stage used and why, how the photograph was damaged and, if the original "
            "is known, how much the restoration improved it.",
            search_aliases=["psnr", "ssim", "metrics", "quality"],
            is_output_node=True,  # so that app mode can show it
            inputs=[
                io.Image.Input("before", tooltip="The damaged photograph."),
                io.Image.Input("after", tooltip="The restored photograph."),
                sockets.Faces.Input("faces", optional=True, tooltip="The faces, matched and restored."),
                sockets.Code.Input("code", optional=True, tooltip="The estimated damage."),
                io.Image.Input("truth", optional=True, tooltip="The undamaged original, if there is one."),
                io.Boolean.Input(
                    "likeness",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Adds a description of each stranger's face, by which the same stranger is found in other photographs. "
                    "It is biometric data.",
                ),
                io.String.Input(
                    "scene_restorer",
                    default="",
                    optional=True,
                    force_input=True,
                    tooltip="What restored the scene, from Enlarging Restorer. It becomes a part of used.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="JSON: faces, damage, quality.")],
        )

    @classmethod
    def execute(
        cls,
        before: torch.Tensor,
        after: torch.Tensor,
        faces: Faces | None = None,
        code: DegradationCode | None = None,
        truth: torch.Tensor | None = None,
        likeness: bool = False,
        scene_restorer: str = "",
    ) -> io.NodeOutput:
        summary = summarize(
            to_photos(before),
            to_photos(after),
            faces,
            code,
            None if truth is None else to_photos(truth),
            best_embedder(weight_folders("personal_restore")) if likeness else None,
        )
        if faces is not None:
            summary["used"] = faces.used | ({"scene restorer": scene_restorer} if scene_restorer else {})
            summary["backends"] = backends(weight_folders("personal_restore"))
        report = json.dumps(summary, indent=2, ensure_ascii=False)
        return io.NodeOutput(report, ui=as_file(report, ".json"))

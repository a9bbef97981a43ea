"""Fine alignment as a stage of its own: the warp is found by one node and applied by another."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..lib.bridge import io, progress, tell, weight_folders
from ..lib.fusion.face_warps import (
    FaceWarps,
    align_faces,
    confidence_pictures,
    described_warps,
    flow_pictures,
    warp_faces,
)
from ..lib.vocabulary import Faces, UserError
from ..models.ransacflow.network import COARSE_FILE, FLOW_FILE, find_networks
from . import sockets
from .layout import to_image, to_photos

AUTO, PUBLISHED, OWN = "auto", "RANSAC-Flow", "without weights"
STAGE = "alignment"


class AlignFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_AlignFaces",
            display_name="Align Faces to Scene (RANSAC-Flow)",
            category=sockets.FACES,
            description="Finds how every restored face has to be bent by a few pixels so that it fits the scene: RANSAC-Flow's "
            "homography and flow. Apply Warp to Faces bends them. Restorers that generate a face need this.",
            search_aliases=["perfuse", "ransac-flow", "optical flow", "fine alignment", "homography"],
            inputs=[
                io.Image.Input("scene", tooltip="The restored scene that the faces will be blended into."),
                sockets.Faces.Input("faces", tooltip="Restored faces."),
                io.Combo.Input(
                    "method",
                    options=[AUTO, PUBLISHED, OWN],
                    default=AUTO,
                    tooltip="RANSAC-Flow: its two networks, whose files belong in models/personal_restore. without weights: matched "
                    "corners and gradients in their place. auto: RANSAC-Flow if both files are there.",
                ),
                sockets.seed("Seed of RANSAC. The same seed gives the same warp."),
            ],
            outputs=[
                sockets.Warp.Output(display_name="warp", tooltip="For Apply Warp to Faces."),
                io.Image.Output(
                    display_name="flow",
                    tooltip="Where to the faces are bent: direction as color, distance as its strength, white where nothing moves.",
                ),
                io.Image.Output(
                    display_name="confidence", tooltip="How sure the flow is: white for certain, black for none."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What the warp was found with, and for each face how far it moves, or why not.",
                ),
            ],
        )

    @classmethod
    def execute(cls, scene: torch.Tensor, faces: Faces, method: str, seed: int) -> io.NodeOutput:
        networks = None if method == OWN else find_networks(weight_folders("personal_restore"))
        files = f"{FLOW_FILE} and {COARSE_FILE}"
        if networks is None and method == PUBLISHED:
            raise UserError(
                f"Align Faces: RANSAC-Flow needs {files} in models/personal_restore. Get them (Download Weights lists their sources), or "
                "choose auto or without weights."
            )
        warps = align_faces(to_photos(scene), faces, networks, seed, progress())
        if networks is None and method == AUTO:
            warps = replace(warps, used=f"{warps.used}, because {files} are not both in models/personal_restore")
        report = described_warps(warps)
        tell(report)
        pictures = (to_image(paint(faces, warps)) for paint in (flow_pictures, confidence_pictures))
        return io.NodeOutput(warps, *pictures, report)


class ApplyWarp(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ApplyWarp",
            display_name="Apply Warp to Faces",
            category=sockets.FACES,
            description="Bends restored faces, and their masks with them, by the warp from Align Faces to Scene.",
            search_aliases=["perfuse", "ransac-flow", "fine alignment"],
            inputs=[
                sockets.Faces.Input("faces", tooltip="The faces that Align Faces to Scene got."),
                sockets.Warp.Input("warp", tooltip="From Align Faces to Scene."),
            ],
            outputs=[
                sockets.Faces.Output(
                    display_name="faces", tooltip="The faces, bent. One without a warp stays as it is."
                )
            ],
        )

    @classmethod
    def execute(cls, faces: Faces, warp: FaceWarps) -> io.NodeOutput:
        return io.NodeOutput(warp_faces(faces, warp).after(STAGE, described_warps(warp).replace("\n", "; ")))

"""Which part of a photograph belongs to whom."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..lib.bridge import io, keep, weight_folders
from ..lib.faces.paste import unwarp
from ..lib.fusion.mask import REGIONS, region_mask, segment_of
from ..lib.vocabulary import Faces, UserError
from ..models.shared.catalogue import find
from . import sockets
from .layout import to_photos


class MaskFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_MaskFaces",
            display_name="Mask Faces",
            category=sockets.CATEGORY,
            description="Says which part of each face is blended into the scene: the face, the head with its hair, or the person, by the "
            "face's landmarks, within the masks of any segmentation if some are connected. Without this node it is an oval.",
            search_aliases=["face mask", "hull", "segmentation", "head"],
            inputs=[
                sockets.Faces.Input("faces", tooltip="Faces from Detect Faces, best after they were restored."),
                io.Combo.Input(
                    "region",
                    options=list(REGIONS),
                    default="face",
                    tooltip="face: jaw to hairline. head: with hair, ears and neck. person: all that the crop shows, for masks that say "
                    "where the person is. crop: its square with a hard edge, to see what context in Blend Faces is good for.",
                ),
                io.Mask.Input(
                    "segments",
                    optional=True,
                    tooltip="Masks in the photograph's size: one for each person, or one for each photograph (Segment People, SAM, "
                    "MediaPipe, drawn by hand). Each face is kept within the one that holds it; a face that none holds keeps its region.",
                ),
            ],
            outputs=[
                sockets.Faces.Output(display_name="faces", tooltip="The faces with their masks."),
                io.Mask.Output(display_name="mask", tooltip="All of them together, in the photograph."),
            ],
        )

    @classmethod
    def execute(cls, faces: Faces, region: str, segments: torch.Tensor | None = None) -> io.NodeOutput:
        count = len(faces.frames)
        if segments is not None and count > 1 and len(segments) != count:
            raise UserError(
                f"Mask Faces: {len(segments)} mask(s) for {count} photographs. Give one mask for each photograph, or one photograph "
                "at a time with a mask for each person."
            )
        frames, together = [], torch.zeros(count, *faces.size)
        for number, frame in enumerate(faces.frames):
            here = None if segments is None else segments.cpu() if count == 1 else segments[number : number + 1].cpu()
            masked = []
            for face in frame:
                segment = None if here is None else segment_of(face, here, faces.size)
                masked.append(replace(face, mask=region_mask(face, region, segment)))
                mask, valid, (x0, y0, x1, y1) = unwarp(masked[-1].mask, face.similarity, faces.size)
                place = together[number, y0:y1, x0:x1]
                torch.maximum(place, (mask * valid)[0].clamp(0, 1), out=place)
            frames.append(tuple(masked))
        return io.NodeOutput(replace(faces, frames=tuple(frames)), together)


class SegmentPeople(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_SegmentPeople",
            display_name="Segment People (YOLOv8)",
            category=sockets.CATEGORY,
            description="One mask for each person of a photograph, by YOLOv8 instance segmentation. Needs the package ultralytics and its "
            "weights, both under AGPL-3.0: whoever offers this node's results as a service has to publish the source of the "
            "whole program. Nothing of it is loaded before this node runs.",
            search_aliases=["yolo", "instance segmentation", "person mask"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph, best after it was restored."),
                io.Combo.Input(
                    "size",
                    options=["n", "s", "m", "l", "x"],
                    default="n",
                    tooltip="Which of the published models, by the letter of its file: n (7 MB, yolov8n-seg.pt) is quick, x (140 MB) "
                    "careful.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.25,
                    min=0.01,
                    max=0.99,
                    step=0.01,
                    tooltip="How sure the model must be. Lower it when people are missed.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="segments",
                    tooltip="One mask for each person, the surest first; of a batch of photographs one for each photograph.",
                )
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, size: str, threshold: float) -> io.NodeOutput:
        from ..models.yolo import segment as yolo_segment  # here and not above: it imports ultralytics

        network = keep(yolo_segment.load(find(f"yolov8{size}-seg", weight_folders("personal_restore"))))()
        people = [yolo_segment.segment_people(photo, network, threshold) for photo in to_photos(image)]
        if len(people) == 1:
            return io.NodeOutput(people[0] if len(people[0]) else torch.zeros(1, *people[0].shape[1:]))
        return io.NodeOutput(
            torch.stack([masks.amax(0) if len(masks) else masks.new_zeros(masks.shape[1:]) for masks in people])
        )

"""Nodes that mask faces and people."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..lib.bridge import io, keep, progress, tell, weight_folders
from ..lib.faces.paste import unwarp
from ..lib.fusion.mask import REGIONS, region_mask, segment_of
from ..lib.vocabulary import Faces, UserError
from ..models.shared.catalogue import find
from . import sockets
from .layout import check_numbers, to_photos

STOP, NO_MASKS = "stop", "no masks"


class MaskFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_MaskFaces",
            display_name="Mask Faces",
            category=sockets.FACES,
            description="Chooses which part of each crop is blended into the scene: the face, the head with hair, or "
            "the person. The region is derived from the face's landmarks and limited to segmentation masks if they "
            "are connected. Without this node, the region is an oval.",
            search_aliases=["face mask", "hull", "segmentation", "head"],
            inputs=[
                sockets.Faces.Input("faces", tooltip="Faces from Detect Faces, preferably after restoration."),
                io.Combo.Input(
                    "region",
                    options=list(REGIONS),
                    default="face",
                    tooltip="face: jaw to hairline. head: including hair, ears and neck. person: everything in the "
                    "crop, for use with masks of people. crop: the square crop with a hard edge, which demonstrates "
                    "the effect of context in Blend Faces.",
                ),
                io.Mask.Input(
                    "segments",
                    optional=True,
                    tooltip="Masks at the size of the photograph: one per person, or one per photograph (from Segment "
                    "People, SAM, MediaPipe, or drawn by hand). Each face is limited to the mask that contains it. A "
                    "face that is in no mask keeps its region.",
                ),
                io.String.Input(
                    "segments_report",
                    default="",
                    optional=True,
                    force_input=True,
                    tooltip="What made the masks, from Segment People. It is kept for the report.",
                ),
            ],
            outputs=[
                sockets.Faces.Output(display_name="faces", tooltip="The faces with their masks."),
                io.Mask.Output(display_name="mask", tooltip="All masks combined, at the size of the photograph."),
            ],
        )

    @classmethod
    def execute(
        cls, faces: Faces, region: str, segments: torch.Tensor | None = None, segments_report: str = ""
    ) -> io.NodeOutput:
        count, limited = len(faces.frames), 0
        if segments is not None and not len(segments):  # SAM3 found nobody
            segments = None
        if segments is not None:
            check_numbers(segments, "The mask")
        if segments is not None and count > 1 and len(segments) != count:
            raise UserError(
                f"Mask Faces: {len(segments)} mask(s) for {count} photographs. Provide one mask per photograph, or "
                "process one photograph at a time with one mask per person."
            )
        frames, together, told = [], torch.zeros(count, *faces.size), progress()
        for number, frame in enumerate(faces.frames):
            here = None if segments is None else segments.cpu() if count == 1 else segments[number : number + 1].cpu()
            masked = []
            for face in frame:
                segment = None if here is None else segment_of(face, here, faces.size)
                limited += segment is not None
                own = region_mask(face, region, segment)
                masked.append(replace(face, mask=own))
                mask, valid, (x0, y0, x1, y1) = unwarp(own, face.similarity, faces.size)
                place = together[number, y0:y1, x0:x1]
                torch.maximum(place, (mask * valid)[0].clamp(0, 1), out=place)
            frames.append(tuple(masked))
            told(number + 1, count)
        used = f"{region}, limited to a segment in {limited} of {len(faces)} faces"
        used = f"{used} ({segments_report})" if segments_report else used
        tell(used)
        return io.NodeOutput(replace(faces, frames=tuple(frames)).after("masks", used), together)


class SegmentPeople(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SegmentPeople",
            display_name="Segment People (YOLOv8)",
            category=sockets.FACES,
            description="Creates one mask per person in a photograph, using YOLOv8 instance segmentation. Needs the "
            "package ultralytics and its weights, both licensed under AGPL-3.0: if you offer this node's results as a "
            "service, you must publish the source of the whole program. Nothing is loaded from the package until this "
            "node runs.",
            search_aliases=["yolo", "instance segmentation", "person mask"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph, preferably after restoration."),
                io.Combo.Input(
                    "size",
                    options=["n", "s", "m", "l", "x"],
                    default="n",
                    tooltip="The published model, by the letter in its file name: n (7 MB, yolov8n-seg.pt) is the "
                    "fastest, x (140 MB) the most accurate.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.25,
                    min=0.01,
                    max=0.99,
                    step=0.01,
                    tooltip="Minimum confidence of the model. Lower it if people are missed.",
                ),
                io.Combo.Input(
                    "if_missing",
                    options=[STOP, NO_MASKS],
                    default=STOP,
                    optional=True,
                    tooltip="What happens without ultralytics or its weights. stop: an error that says how to get them. no masks: empty "
                    "masks, so that Mask Faces uses the outlines of the faces; the report says why.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="segments",
                    tooltip="One mask per person, sorted by confidence. For a batch of photographs, one mask per "
                    "photograph.",
                ),
                io.String.Output(display_name="report", tooltip="What made the masks, or why there are none."),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, size: str, threshold: float, if_missing: str = STOP) -> io.NodeOutput:
        photos = to_photos(image)
        try:
            masks, report = segmented(photos, f"yolov8{size}-seg", threshold)
        except UserError as error:
            if if_missing == STOP:
                raise
            masks, report = torch.zeros(len(photos), *photos.shape[-2:]), f"no segmentation: {error}"
        tell(report)
        return io.NodeOutput(masks, report)


def segmented(photos: torch.Tensor, model: str, threshold: float) -> tuple[torch.Tensor, str]:
    """One mask per person of a single photograph, otherwise one per photograph; and what they are.

    Raises UserError if ultralytics or the weights are missing.
    """
    from ..models.yolo import segment as yolo_segment  # imported here because it imports ultralytics

    network = keep(yolo_segment.load_segmenter(find(model, weight_folders("personal_restore"))))()
    told, together, count = progress(), [], 0
    for number, photo in enumerate(photos, 1):
        people = yolo_segment.segment_people(photo, network, threshold)
        count += len(people)
        if len(photos) == 1 and len(people):
            together = list(people)
        else:
            together.append(people.amax(0) if len(people) else people.new_zeros(people.shape[1:]))
        told(number, len(photos))
    return torch.stack(together), f"{model} found {count} people"

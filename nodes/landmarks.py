"""Detection, alignment and cropping as stages of their own, with landmarks that can be edited in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..lib.bridge import io, progress, tell, weight_folders
from ..lib.faces.detect import DETECTORS
from ..lib.faces.detection import FaceLandmarks
from ..lib.faces.edit_landmarks import edit_landmarks, written
from ..lib.faces.extract import ALIGNMENTS
from ..lib.faces.landmarks import crop_faces, described_use, find_landmarks, with_dlib_points
from ..lib.faces.review import dotted
from ..lib.vocabulary import UserError
from . import sockets
from .faces import ALIGNMENT_TIP, describe_faces, detection_inputs
from .layout import check_same_photos, to_image, to_photos

FIVE, DLIB = "detector", "dlib 68"


class DetectLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        threshold, *others = detection_inputs()
        return io.Schema(
            node_id="PR_DetectLandmarks",
            display_name="Detect Landmarks",
            category=sockets.FACES,
            description="Detects faces and their landmarks, and crops nothing yet. Crop Faces does that; in between the landmarks can be "
            "edited, or taken from elsewhere. Detect Faces is both in one.",
            search_aliases=["face detection", "landmarks", "dlib", "perfuse"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph."),
                io.Combo.Input(
                    "detector",
                    options=["auto", *DETECTORS],
                    default="auto",
                    tooltip="auto: the best one that is installed. The report says which.",
                ),
                threshold,
                io.Combo.Input(
                    "points",
                    options=[FIVE, DLIB],
                    default=FIVE,
                    tooltip="detector: its five points. dlib 68: dlib's 68 points too, which PerFuSe's alignment uses. A face in which "
                    "dlib finds none keeps five.",
                ),
                *others,
            ],
            outputs=[
                sockets.Landmarks.Output(display_name="landmarks", tooltip="For Edit Landmarks and Crop Faces."),
                io.String.Output(display_name="report", tooltip="What found the faces, and what was missing."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        detector: str,
        threshold: float,
        points: str,
        second_look: torch.Tensor | None = None,
        boxes: Any = None,
        landmarks: Any = None,
    ) -> io.NodeOutput:
        photos = to_photos(image)
        found = find_landmarks(
            photos,
            node="Detect Landmarks",
            backend=detector,
            threshold=threshold or None,
            model_folder=weight_folders("personal_restore"),
            looks=None if second_look is None else to_photos(second_look),
            boxes=boxes,
            meshes=landmarks,
            progress=progress(),
        )
        if points == DLIB:
            found = with_dlib_points(photos, found)
        report = described_use(found.used)
        tell(report)
        return io.NodeOutput(found, report)


class EditLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_EditLandmarks",
            display_name="Edit Landmarks",
            category=sockets.FACES,
            description="Draws the landmarks on the photograph, and changes them: moves a point, leaves out a face, or adds one.",
            search_aliases=["landmarks", "keypoints", "move eye"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph in which the landmarks were found."),
                sockets.Landmarks.Input("landmarks", tooltip="From Detect Landmarks."),
                io.String.Input(
                    "edits",
                    default="",
                    multiline=True,
                    tooltip="One edit a line: '0 left_eye 120.5 88' moves a point of face 0 (left_eye, right_eye, nose, left_mouth, "
                    "right_mouth, as seen in the picture), '1 drop' leaves face 1 out, 'new' with ten numbers, x and y of the five points, "
                    "adds a face. Empty changes nothing.",
                ),
            ],
            outputs=[
                sockets.Landmarks.Output(display_name="landmarks", tooltip="For Crop Faces."),
                io.Image.Output(
                    display_name="picture", tooltip="The photograph with its landmarks and the faces' numbers."
                ),
                io.String.Output(display_name="text", tooltip="The landmarks as lines that edits understands."),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, landmarks: FaceLandmarks, edits: str) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Edit Landmarks", photos, landmarks)
        if edits.strip() and len(photos) > 1:
            raise UserError(
                "Edit Landmarks: edits are for one photograph at a time. Split the batch, or leave edits empty."
            )
        frames = tuple(tuple(edit_landmarks(list(frame), edits, landmarks.size)) for frame in landmarks.frames)
        changed = replace(landmarks, frames=frames)
        if edits.strip():
            changed = replace(changed, used=changed.used | {"edits": "; ".join(edits.split("\n"))})
        shown = torch.stack([dotted(photo, frame) for photo, frame in zip(photos, frames, strict=True)])
        return io.NodeOutput(changed, to_image(shown), "\n".join(written(list(frame)) for frame in frames))


class CropFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_CropFaces",
            display_name="Crop Faces",
            category=sockets.FACES,
            description="Aligns and crops the faces whose landmarks are given.",
            search_aliases=["align faces", "face crop", "perfuse", "ffhq"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph in which the landmarks were found."),
                sockets.Landmarks.Input("landmarks", tooltip="From Detect Landmarks or Edit Landmarks."),
                io.Combo.Input("alignment", options=list(ALIGNMENTS), default=ALIGNMENTS[0], tooltip=ALIGNMENT_TIP),
            ],
            outputs=[
                sockets.Faces.Output(display_name="faces", tooltip="The faces, in the order of the landmarks."),
                io.String.Output(display_name="report", tooltip="The faces, and how they were aligned."),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, landmarks: FaceLandmarks, alignment: str) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Crop Faces", photos, landmarks)
        faces = crop_faces(photos, landmarks, alignment, progress())
        report = "\n".join([describe_faces(faces), described_use(faces.used)])
        tell(report)
        return io.NodeOutput(faces, report)

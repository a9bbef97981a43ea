"""Nodes that detect and recognize faces, and exchange them with nodes from other packs."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F

from ..lib.bridge import as_file, io, progress, tell, ui, weight_folders
from ..lib.faces.broken import reasons
from ..lib.faces.embed import best_embedder
from ..lib.faces.extract import ALIGNMENTS
from ..lib.faces.landmarks import crop_faces, described_use, find_landmarks, with_dlib_points
from ..lib.faces.match import match_faces
from ..lib.faces.review import album_label, face_label, mark, picker_data, tinted
from ..lib.fusion.compose import parse_strengths
from ..lib.pictures.files import from_pil, to_pil
from ..lib.vocabulary import Face, Faces, Library, UserError
from . import sockets
from .layout import check_same_photos, to_image, to_photos

SIDEWAYS = 45  # degrees
ALIGNMENT_TIP = (
    "How faces are cropped. ffhq: on the template that published face networks expect. perfuse: a quarter wider, with the eyes exactly "
    "level, as in PerFuSe's supplement, for masks of the whole head. Networks that need the ffhq template still receive it."
)
PICKER_SIDE = 1024  # pixels, of the picture in which the user clicks


def detection_inputs() -> list[io.Input]:
    """Of a node that detects faces."""
    return [
        io.Float.Input(
            "threshold",
            default=0.0,
            min=0.0,
            max=0.99,
            step=0.01,
            tooltip="Minimum confidence of the detector. 0 uses its default value. Lower it if faces are "
            "missed; raise it if other objects are detected as faces.",
        ),
        io.Image.Input(
            "second_look",
            optional=True,
            tooltip="The same photograph after a first restoration without a degradation code. Faces are "
            "detected there too, because heavy damage hides a third of them from every detector.",
        ),
        io.BoundingBox.Input(
            "boxes",
            optional=True,
            force_input=True,
            tooltip="Faces marked by hand or by another node. They replace the detector.",
        ),
        io.Custom("FACE_LANDMARKS").Input(
            "landmarks",
            optional=True,
            tooltip="Landmarks from core's MediaPipe node. They replace the detector.",
        ),
    ]


class DetectFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_DetectFaces",
            display_name="Detect Faces",
            category=sockets.FACES,
            description="Detects the faces in a photograph at several scales, with five landmarks each, and extracts "
            "aligned crops. A photograph without a face passes through, and the rest of the workflow restores only "
            "the scene. The same as Detect Landmarks and Crop Faces in a row.",
            search_aliases=["face detection", "landmarks", "face crop"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph."),
                *detection_inputs(),
                io.Combo.Input(
                    "alignment",
                    options=list(ALIGNMENTS),
                    default=ALIGNMENTS[0],
                    optional=True,
                    advanced=True,
                    tooltip=ALIGNMENT_TIP,
                ),
            ],
            outputs=[
                sockets.Faces.Output(display_name="faces", tooltip="The faces, in reading order."),
                io.String.Output(display_name="report", tooltip="The number of faces and their positions."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        threshold: float,
        second_look: torch.Tensor | None = None,
        boxes: Any = None,
        landmarks: Any = None,
        alignment: str = ALIGNMENTS[0],
    ) -> io.NodeOutput:
        photos = to_photos(image)
        found = find_landmarks(
            photos,
            threshold=threshold or None,
            model_folder=weight_folders("personal_restore"),
            looks=None if second_look is None else to_photos(second_look),
            boxes=boxes,
            meshes=landmarks,
            progress=progress(),
        )
        if alignment != ALIGNMENTS[0]:
            found = with_dlib_points(photos, found)
        faces = crop_faces(photos, found, alignment)
        used = described_use(faces.used)
        tell(used)
        return io.NodeOutput(faces, f"{describe_faces(faces)}\n{used}")


class MatchFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_MatchFaces",
            display_name="Match Faces to People",
            category=sockets.FACES,
            description="Identifies people: each face is matched to at most one person in the library, and each "
            "person to at most one face per photograph. Everyone else remains a stranger.",
            search_aliases=["face recognition", "identity", "who is who", "face picker"],
            is_output_node=True,  # so that its faces appear again after a page reload without a run
            inputs=[
                sockets.Faces.Input("faces", tooltip="Faces from Detect Faces."),
                sockets.Library.Input("library", tooltip="The people you know."),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Minimum similarity between a face and an album. 0 uses the default of the current "
                    "embedding (dlib .5, or .45 if there are as many faces as people and each resembles another person; "
                    "ArcFace .3). Lower it if a known person is missed in a bad photograph; raise it if a stranger is "
                    "mistaken for a known person.",
                ),
                io.String.Input(
                    "override",
                    default="",
                    tooltip="Overrides the matching, for example '0=Anna, 2=nobody'. Faces are numbered from 0 in "
                    "reading order.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The photograph. If it is connected, the node shows its faces after a run. Click a face "
                    "to choose the person, whether to restore the face, and how strongly. Your choices are stored in "
                    "override and strengths.",
                ),
                io.String.Input(
                    "strengths",
                    default="",
                    optional=True,
                    tooltip="Restoration strength for individual faces, for example '0=0.5, 2=0'. 0 leaves a face to "
                    "the scene restorer. Faces that are not listed are fully restored. Faces are numbered as in "
                    "override.",
                ),
            ],
            outputs=[
                sockets.Faces.Output(display_name="faces", tooltip="The faces with names and confidences."),
                io.String.Output(
                    display_name="report", tooltip="The person matched to each face, with the confidence."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        faces: Faces,
        library: Library,
        threshold: float,
        override: str,
        image: torch.Tensor | None = None,
        strengths: str = "",
    ) -> io.NodeOutput:
        embedder = best_embedder(weight_folders("personal_restore"))
        matched = match_faces(faces, library, embedder, threshold or None, override, progress())
        chosen = parse_strengths(strengths, len(faces), "Match Faces: strengths")
        numbers = count()
        matched = matched.map(lambda face: replace(face, strength=chosen.get(next(numbers), face.strength)))
        identity = describe_identity(embedder.name, matched, override)
        tell(identity)
        matched = matched.after("identity", identity)
        report = "\n".join([describe_faces(matched), *broken(f"Identity embedding: {identity}.")])
        if image is None:
            return io.NodeOutput(matched, report)
        photos = to_photos(image)
        check_same_photos("Match Faces", photos, matched)
        shown = picker(cls, photos, matched, library) | as_file(report, ".txt")
        return io.NodeOutput(matched, report, ui=shown)


def picker(node: type[io.ComfyNode], photos: torch.Tensor, faces: Faces, library: Library) -> dict[str, list[Any]]:
    """The data for nodes/web/js/face_picker.js: a small picture in the temp folder and the faces of each photograph, and all
    names."""
    scale = min(1.0, PICKER_SIDE / max(photos.shape[-2:]))
    size = [max(1, round(side * scale)) for side in photos.shape[-2:]]
    if scale < 1:
        small = [F.interpolate(one, size, mode="bicubic", antialias=True).clamp(0, 1) for one in photos.split(1)]
        photos = torch.cat(small)
    files = ui.PreviewImage(to_image(photos), cls=node).as_dict()["images"]
    pictures = [{"file": dict(file), "faces": found} for file, found in zip(files, picker_data(faces), strict=True)]
    return {"pr_pictures": pictures, "pr_people": [person.name for person in library.people]}


class ReviewFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ReviewFaces",
            display_name="Review Faces",
            category=sockets.FACES,
            description="Draws the box, number, name and confidence of every face on the photograph, so that you can "
            "check who is who before you restore. Use these numbers in the override of Match Faces.",
            search_aliases=["who is who", "bounding boxes", "preview faces"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="Faces, matched or not."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The photograph with its faces marked.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, faces: Faces) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Review Faces", photos, faces)
        marked, number, told = [], 0, progress()
        for photo, frame in zip(photos, faces.frames, strict=True):
            marks = [(face.box, face_label(i, face), face.person is not None) for i, face in enumerate(frame, number)]
            marked.append(from_pil(mark(to_pil(photo), marks)))
            number += len(frame)
            told(len(marked), len(photos))
        return io.NodeOutput(to_image(torch.stack(marked)))


class ShowAlbumDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ShowAlbumDetail",
            display_name="Show Album Detail",
            category=sockets.FACES,
            description="Shows on the photograph where restored faces use detail from the album, in one color per album picture, with the "
            "share of each picture.",
            search_aliases=["provenance", "album map", "what was made up"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph in which the faces were detected, or its restoration."),
                sockets.Faces.Input("faces", tooltip="Faces after Restore Faces with the Reference Restorer."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The photograph in gray, the album's detail in color.")
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, faces: Faces) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Show Album Detail", photos, faces)
        shown, told = [], progress()
        for photo, frame in zip(photos, faces.frames, strict=True):
            known = [face for face in frame if face.borrowed is not None]
            marks = [(face.box, album_label(face), True) for face in known]
            shown.append(from_pil(mark(to_pil(tinted(photo, known)), marks)))
            told(len(shown), len(photos))
        return io.NodeOutput(to_image(torch.stack(shown)))


class FacesToImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FacesToImages",
            display_name="Faces to Images",
            category=sockets.FACES,
            description="Outputs the aligned face crops one by one for use in other nodes. Images to Faces converts "
            "them back.",
            search_aliases=["crop faces", "face list"],
            inputs=[
                sockets.Faces.Input(
                    "faces",
                    tooltip="The faces to convert. If there are none, one gray crop keeps the workflow running.",
                ),
                io.Boolean.Input(
                    "restored",
                    default=True,
                    tooltip="Outputs the restored crop of each face if there is one, otherwise the original crop.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="crops", is_output_list=True, tooltip="Aligned crops, 512x512 each."),
                io.Mask.Output(
                    display_name="masks", is_output_list=True, tooltip="1 inside the photograph, 0 outside its borders."
                ),
                io.BoundingBox.Output(
                    display_name="boxes", is_output_list=True, tooltip="The positions of the faces in the photograph."
                ),
            ],
        )

    @classmethod
    def execute(cls, faces: Faces, restored: bool) -> io.NodeOutput:
        every = [face for frame in faces.frames for face in frame]
        if not every:  # ComfyUI stops at an empty list
            nowhere = {"x": 0, "y": 0, "width": 1, "height": 1}
            return io.NodeOutput([torch.full((1, 512, 512, 3), 0.5)], [torch.zeros(1, 512, 512)], [nowhere])
        crops = [to_image((face.best if restored else face.crop)[None]) for face in every]
        boxes = [
            {"x": round(x0), "y": round(y0), "width": round(x1 - x0), "height": round(y1 - y0)}
            for x0, y0, x1, y1 in (face.box for face in every)
        ]
        return io.NodeOutput(crops, [face.valid for face in every], boxes)


class ImagesToFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ImagesToFaces",
            display_name="Images to Faces",
            category=sockets.FACES,
            description="Converts crops that were processed by other nodes back into restored faces.",
            search_aliases=["replace faces"],
            is_input_list=True,
            inputs=[
                sockets.Faces.Input("faces", tooltip="The faces from which the crops were made."),
                io.Image.Input("crops", tooltip="One crop per face, in the same order, at any square size."),
            ],
            outputs=[
                sockets.Faces.Output(
                    display_name="faces", tooltip="The faces, with the crops as their restored versions."
                )
            ],
        )

    @classmethod
    def execute(cls, faces: list[Faces], crops: list[torch.Tensor]) -> io.NodeOutput:
        given = [crop[None] for batch in crops for crop in to_photos(batch)]
        if not len(faces[0]):
            return io.NodeOutput(faces[0])
        if len(given) != len(faces[0]):
            raise UserError(
                f"Images to Faces: {len(given)} crop(s) for {len(faces[0])} face(s). Provide one crop per face, in "
                "order."
            )
        rest = iter(given)

        def take(face: Face) -> Face:
            crop, size = next(rest), face.similarity.size
            if crop.shape[-2:] != (size, size):
                crop = F.interpolate(crop, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
            return replace(face, restored=crop[0])

        return io.NodeOutput(faces[0].map(take))


def describe_faces(faces: Faces) -> str:
    """One line per face."""
    lines: list[str] = []
    for face in (face for frame in faces.frames for face in frame):
        x0, y0, x1, y1 = (round(v) for v in face.box)
        doubt = f" ({face.doubt})" if face.doubt else ""
        who = (f"{face.person} ({face.confidence:.2f})" if face.person else "nobody known") + doubt
        turn = f", turned by {face.turn} degrees to be upright" if abs(face.turn) > SIDEWAYS else ""
        lines.append(f"{len(lines)}: {who}, {x1 - x0}x{y1 - y0} px at ({x0}, {y0}), score {face.score:.2f}{turn}")
    return "\n".join(lines) or "No face found: the scene is restored without one."


def describe_identity(embedder: str, faces: Faces, override: str) -> str:
    """Who recognized how many faces."""
    known = sum(face.person is not None for frame in faces.frames for face in frame)
    chosen = ", some chosen by hand" if override.strip() else ""
    return f"{embedder}, {known} of {len(faces)} faces known{chosen}"


def broken(used: str) -> list[str]:
    """If a backend is installed but broken, one line for each, after what was used instead."""
    lines = [f"{name} is installed but broken, and was not used: {reason}" for name, reason in reasons().items()]
    return [used, *lines] if lines else []

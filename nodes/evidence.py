"""The node that asks the photograph what it says about its restoration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ..lib.bridge import io, keep, progress
from ..lib.degradation.estimate import face_pair
from ..lib.degradation.evidence import Evidence, Scalars, Zone, evidence, pulled_back
from ..lib.faces.outline import typical_outline
from ..lib.faces.paste import unwarp
from ..lib.faces.review import judged
from ..lib.fusion.mask import features_mask
from ..lib.vocabulary import DegradationCode, Face, Faces, Supported, UserError
from ..models.embedded import ready as embedded
from ..models.embedded.estimate import estimate_code
from . import sockets
from .layout import check_same_photos, to_image, to_photos

WHOLE, PER_FACE = "one for the picture", "one per face"


class PhotographEvidence(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Evidence",
            display_name="Evidence",
            category=sockets.SCENE,
            description="Shows which parts of a restoration the photograph supports, which it contradicts, and where it is silent, so that "
            "the detail is invented. The restoration is damaged again, as the photograph was, and compared with it.",
            search_aliases=["hallucination", "invented", "trust", "uncertainty", "consistency", "archive"],
            inputs=[
                io.Image.Input("result", tooltip="The restored photograph, at its size or a whole multiple of it."),
                io.Image.Input("photograph", tooltip="The damaged photograph."),
                io.Float.Input(
                    "threshold",
                    default=4.0,
                    min=1.0,
                    max=20.0,
                    step=0.5,
                    tooltip="How many times the difference that noise and JPEG compression explain a contradiction needs. Lower values "
                    "find more, also where there is nothing.",
                ),
                sockets.share_input(
                    "pull_back",
                    default=0.0,
                    tooltip="Moves contradicted places back toward what the photograph shows. 0 leaves the result unchanged, bit for bit.",
                ),
                io.Combo.Input(
                    "damage",
                    options=[WHOLE, PER_FACE],
                    default=WHOLE,
                    advanced=True,
                    tooltip="Whether the code holds for the whole picture, or the damage is read from every restored face and interpolated "
                    "between them, for a photograph that is not equally sharp everywhere.",
                ),
                sockets.Code.Input(
                    "code", optional=True, tooltip="The estimated damage. Without it, hardly any damage is assumed."
                ),
                sockets.Faces.Input("faces", optional=True, tooltip="The faces of the photograph. Each gets a score."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="map",
                    tooltip="The result in gray: contradicted in red, invented in blue, supported as it is.",
                ),
                io.Mask.Output(display_name="contradicted", tooltip="Where the photograph shows something else."),
                io.Mask.Output(display_name="invented", tooltip="Where the photograph is silent about the detail."),
                io.String.Output(display_name="report", tooltip="JSON: the shares of the picture and of each face."),
                io.Image.Output(display_name="image", tooltip="The result, pulled back toward the photograph."),
                sockets.Faces.Output(
                    display_name="faces",
                    tooltip="The faces with their scores, for Restoration Report and Review Faces.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        result: torch.Tensor,
        photograph: torch.Tensor,
        threshold: float,
        pull_back: float,
        damage: str,
        code: DegradationCode | None = None,
        faces: Faces | None = None,
    ) -> io.NodeOutput:
        results, photos = to_photos(result), to_photos(photograph)
        faces = Faces(((),) * len(photos), (photos.shape[-2], photos.shape[-1])) if faces is None else faces
        check_same_photos("Evidence", photos, faces)
        if len(results) != len(photos):
            raise UserError(
                f"Evidence: there are {len(results)} result(s) of {len(photos)} photograph(s). Connect one result of each."
            )
        found: list[Evidence] = []
        frames, pulled, estimated, told = [], [], False, progress()
        for number, (one, photo, frame) in enumerate(zip(results, photos, faces.frames, strict=True)):
            own = None if code is None else code.of(number, len(photos))
            known: Scalars | list[Zone] | None = None if own is None else own.scalars
            if damage == PER_FACE:
                known = zones_of(photo, frame) or known
            estimated |= known is not None
            pulled.append(pulled_back(one, photo, known, pull_back, threshold) if pull_back else one)
            found.append(evidence(pulled[-1], photo, known, threshold))
            planes = _at_size_of(photo, found[-1])
            frames.append(tuple(replace(face, supported=score(planes, face)) for face in frame))
            told(number + 1, len(photos))
        scored = replace(faces, frames=tuple(frames))
        return io.NodeOutput(
            to_image(
                torch.stack([judged(one, it.contradicted, it.silent) for one, it in zip(pulled, found, strict=True)])
            ),
            torch.stack([one.contradicted for one in found]),
            torch.stack([one.silent for one in found]),
            json.dumps(evidence_report(found, scored, estimated), indent=2, ensure_ascii=False),
            to_image(torch.stack(pulled)),
            scored,
        )


def zones_of(photo: torch.Tensor, frame: tuple[Face, ...]) -> list[Zone]:
    """The damage as every restored face of a photograph ``[3, H, W]`` reveals it."""
    zones = []
    for face in frame:
        pair = face_pair(photo, face)
        if pair is not None:
            x0, y0, x1, y1 = face.box
            zones.append(Zone(((x0 + x1) / 2, (y0 + y1) / 2), estimate_code(embedded.extractor(keep)(), pair).scalars))
    return zones


def _at_size_of(photo: torch.Tensor, found: Evidence) -> torch.Tensor:
    """``[2, H, W]``: what is contradicted, and what is silent, in the photograph's size."""
    return F.interpolate(torch.stack([found.contradicted, found.silent])[None], photo.shape[-2:], mode="area")[0]


def score(planes: torch.Tensor, face: Face) -> Supported:
    """The shares of a face. planes: ``[2, H, W]`` in the photograph's size, contradicted and silent."""
    # Shares differ by less than a hundredth from those within the exact outline, which would take half a second to prepare.
    mask = features_mask(face, typical_outline)
    inside, valid, (x0, y0, x1, y1) = unwarp(mask, face.similarity, planes.shape[-2:])
    weight = inside * valid
    total = weight.sum().clamp(min=1e-6)
    contradicted, silent = (float((plane[y0:y1, x0:x1] * weight[0]).sum() / total) for plane in planes)
    return Supported(max(1 - contradicted - silent, 0.0), contradicted, silent)


def evidence_report(found: list[Evidence], faces: Faces, estimated: bool) -> dict[str, Any]:
    """Shares of 0..1 of each picture and each face. estimated: whether the damage was, or only assumed."""
    every = [face for frame in faces.frames for face in frame]
    return {
        "damage": "estimated" if estimated else "assumed",
        "pictures": [
            {
                "supported": round(float(one.supported.mean()), 3),
                "contradicted": round(float(one.contradicted.mean()), 3),
                "invented": round(float(one.silent.mean()), 3),
            }
            for one in found
        ],
        "faces": [
            {"number": number, "person": face.person} | ({} if face.supported is None else face.supported.rounded())
            for number, face in enumerate(every)
        ],
    }

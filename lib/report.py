"""A restoration in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from .degradation.estimate import describe_damage
from .faces.broken import reasons
from .faces.detect import Folders, get_detector
from .faces.embed import Embedder, best_embedder
from .faces.likeness import description
from .pictures.metrics import psnr, ssim
from .vocabulary import DegradationCode, Face, Faces

CEILING = 1e-10  # of PSNR, at 100 dB: JSON has no infinity
ANOTHER_PICTURE = 12.0  # dB of PSNR that even heavily damaged pictures exceed


def summarize(
    before: torch.Tensor,
    after: torch.Tensor,
    faces: Faces | None,
    code: DegradationCode | None,
    truth: torch.Tensor | None,
    embedder: Embedder | None = None,
) -> dict[str, Any]:
    """``faces``, ``damage`` and, with the truth ``[B, 3, h, w]``, ``quality`` (PSNR in dB, SSIM; RGB, no border cut).

    Of a batch every face says in which photograph it is, and ``damage_of_each`` is that of every photograph.
    embedder: strangers get a ``likeness``, by which they are known again in other photographs. The truth is compared at the size of
    ``after``; the face's figures are of the largest face's box.
    """
    every = [(number, face) for number, frame in enumerate(faces.frames) for face in frame] if faces else []
    summary: dict[str, Any] = {
        "faces": [
            ({"photograph": number} if len(before) > 1 else {}) | _face(face, embedder) for number, face in every
        ],
        "damage": _damage(code),
    }
    if code is not None and code.frames:
        summary["damage_of_each"] = [_damage(one) for one in code.frames]
    if truth is None:
        return summary
    if truth.shape != before.shape or psnr(before, truth) < ANOTHER_PICTURE:
        summary["quality"] = None
        summary["quality_note"] = (
            "The connected truth belongs to a different picture than the photograph. Disconnect it."
        )
        return summary
    return summary | {"quality": _quality(truth, before, after, faces, every)}


def _face(face: Face, embedder: Embedder | None) -> dict[str, Any]:
    entry = {
        "person": face.person,
        "confidence": round(float(face.confidence), 3),
        "doubt": face.doubt,
        "box": [round(v) for v in face.box],
        "score": round(float(face.score), 3),
        "turn": face.turn,
        "restored": face.restored is not None,
        "album": None if face.borrowed is None else face.borrowed.totals(),
    }
    if face.supported is not None:
        entry["evidence"] = face.supported.rounded()
    if embedder is not None and face.person is None:
        entry["likeness"] = description(face, embedder)
    return entry


def _quality(
    truth: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    faces: Faces | None,
    every: Sequence[tuple[int, Face]],
) -> dict[str, Any]:
    """The mean over the batch, and the largest face's. every: the faces with the number of their photograph."""
    size = after.shape[-2:]

    def sized(number: int) -> list[torch.Tensor]:
        pictures = (x[number : number + 1] for x in (truth, before, after))
        return [x if x.shape[-2:] == size else F.interpolate(x, size, mode="bicubic").clamp(0, 1) for x in pictures]

    each = [quality_scores(*sized(number)) for number in range(len(after))]  # one after the other: they are many
    found: dict[str, Any] = {name: round(sum(one[name] for one in each) / len(each), 4) for name in each[0]}
    if faces and every:
        number, face = max(every, key=lambda one: _area(one[1].box))
        factor = size[0] / faces.size[0]
        x0, y0, x1, y1 = (max(round(v * factor), 0) for v in face.box)
        found["face"] = quality_scores(*(x[..., y0:y1, x0:x1] for x in sized(number)))
    return found


def quality_scores(truth: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
    """PSNR and SSIM against the truth before and after; all ``[B, 3, H, W]`` in 0..1."""
    return {
        f"{name}_{when}": round(measure(picture, truth), 4)
        for name, measure in (("psnr", partial(psnr, epsilon=CEILING)), ("ssim", ssim))
        for when, picture in (("before", before), ("after", after))
    }


def _damage(code: DegradationCode | None) -> dict[str, Any] | None:
    if code is None:
        return None
    return {"words": describe_damage(code.scalars), **{name: round(value, 2) for name, value in code.scalars.items()}}


def backends(folders: Folders) -> dict[str, Any]:
    """What finds and recognizes faces here, and what of it is installed but ``broken``, with the reason."""
    detector = get_detector(model_folder=folders)
    used = {"detector": detector.name if detector else None, "identity": best_embedder(folders).name}
    return used | {"broken": reasons()}


def _area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

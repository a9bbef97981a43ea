"""A restoration in words and numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from .degradation.estimate import describe_damage
from .pictures.metrics import psnr, ssim
from .vocabulary import DegradationCode, Faces

CEILING = 1e-10  # of PSNR, at 100 dB: JSON has no infinity
ANOTHER_PICTURE = 12.0  # dB of PSNR that even heavily damaged pictures exceed


def summarize(
    before: torch.Tensor,
    after: torch.Tensor,
    faces: Faces | None,
    code: DegradationCode | None,
    truth: torch.Tensor | None,
) -> dict[str, Any]:
    """``faces``, ``damage`` and, with the truth ``[B, 3, h, w]``, ``quality`` (PSNR in dB, SSIM; RGB, no border cut).

    The truth is compared at the size of ``after``; the face's figures are of the largest face's box.
    """
    every = [face for frame in faces.frames for face in frame] if faces else []
    summary: dict[str, Any] = {
        "faces": [
            {
                "person": face.person,
                "confidence": round(float(face.confidence), 3),
                "doubt": face.doubt,
                "box": [round(v) for v in face.box],
                "score": round(float(face.score), 3),
                "restored": face.restored is not None,
                "album": None if face.borrowed is None else face.borrowed.totals(),
                **({} if face.supported is None else {"evidence": face.supported.rounded()}),
            }
            for face in every
        ],
        "damage": None
        if code is None
        else {
            "words": describe_damage(code.scalars),
            **{name: round(value, 2) for name, value in code.scalars.items()},
        },
    }
    if truth is None:
        return summary
    if truth.shape != before.shape or psnr(before, truth) < ANOTHER_PICTURE:
        summary["quality"] = None
        summary["quality_note"] = (
            "The connected truth belongs to a different picture than the photograph. Disconnect it."
        )
        return summary
    size = after.shape[-2:]
    truth, before = (
        F.interpolate(x, size, mode="bicubic").clamp(0, 1) if x.shape[-2:] != size else x for x in (truth, before)
    )
    summary["quality"] = quality_scores(truth, before, after)
    largest = (
        max(
            ((f, i) for i, frame in enumerate(faces.frames) for f in frame), key=lambda p: _area(p[0].box), default=None
        )
        if faces
        else None
    )
    if largest:
        face, index = largest
        factor = size[0] / faces.size[0]
        x0, y0, x1, y1 = (max(round(v * factor), 0) for v in face.box)
        summary["quality"]["face"] = quality_scores(
            *(x[index : index + 1, :, y0:y1, x0:x1] for x in (truth, before, after))
        )
    return summary


def quality_scores(truth: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
    """PSNR and SSIM against the truth before and after; all ``[B, 3, H, W]`` in 0..1."""
    return {
        f"{name}_{when}": round(measure(picture, truth), 4)
        for name, measure in (("psnr", partial(psnr, epsilon=CEILING)), ("ssim", ssim))
        for when, picture in (("before", before), ("after", after))
    }


def _area(box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])

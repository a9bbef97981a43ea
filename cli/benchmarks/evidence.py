"""Foreign details found by the photograph: ``python run.py bench evidence --photos ALBUM``.

Every chosen picture is damaged and restored as in ``bench keep``, without its album. Then a detail that is not in the photograph is
drawn into the restoration: another person's eye, a mole, a patch from elsewhere in the picture. Measured are how well the deviation
separates its pixels from all others (AUC, the area under the ROC curve), and PSNR before and after the result was pulled back, with and
without the detail.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from tqdm import tqdm

from ...lib.degradation.evidence import evidence, pulled_back
from ...lib.faces.align import align, crop_face
from ...lib.faces.paste import unwarp
from ...lib.fusion.light import relit
from ...lib.pictures.files import to_pil
from ...lib.pictures.metrics import psnr
from ...lib.vocabulary import UserError
from .faces import in_turn
from .faces_cases import Subject, at_width, make_case, recipe_of, subject_of

DETAILS = ("eye", "mole", "patch")
# Of the aligned crop of 512 px: the eye and where a mole may sit, with their radii.
EYE, EYE_RADII = (193.0, 240.0), (44.0, 28.0)
MOLE, MOLE_RADIUS, MOLE_DARKNESS = (318.0, 330.0), 14.0, 0.6
PATCH = 0.3  # of the face's width
BORDER = 0.2  # what of a detail's weight belongs to neither side


@dataclass(frozen=True)
class Row:
    """One detail, or "none": AUC (NaN for none), and PSNR to the truth before and after pulling back."""

    file: str
    detail: str
    auc: float
    before: float
    after: float


def bench(photos: Path, target: Path, *, most: int = 16, width: int = 96, family: str = "trial") -> dict:
    """All figures; writes ``evidence.png`` into ``target``. most: faces, from all people in turn; width: of the face in the damaged
    picture. Raises UserError if there is nothing to measure."""
    every = in_turn(photos)
    first = {one.person: one.path for one in reversed(every)}
    people = sorted(first)
    if len(people) < 2:
        raise UserError(
            f"--photos {photos}: provide pictures of at least two people, as foreign details come from another one."
        )
    rows: list[Row] = []
    tiles: list[torch.Tensor] = []
    for one in tqdm(every, desc="faces"):
        if len({row.file for row in rows}) == most:
            break
        path, other = one.path, first[people[(people.index(one.person) + 1) % len(people)]]
        subject, other = subject_of(path), subject_of(other)
        small = None if subject is None else at_width(subject, width)
        if small is None or other is None:
            continue
        case = make_case(small, recipe_of(family, zlib.crc32(path.name.encode()) >> 1, small.landmarks))
        if case.code is None:
            continue
        for detail in ("none", *DETAILS):
            result, weight = inserted(case.scene[0], small, other, detail)
            found = evidence(result, case.damaged[0], case.code.scalars)
            better = pulled_back(result, case.damaged[0], case.code.scalars)
            auc = float("nan") if detail == "none" else area_under_curve(found.deviation, weight)
            rows.append(
                Row(
                    f"{one.person}/{path.name}",
                    detail,
                    auc,
                    *(psnr(picture[None], case.truth) for picture in (result, better)),
                )
            )
            if detail == "eye":
                heat = (found.deviation / 12).clamp(0, 1)[None].expand(3, -1, -1)
                shown = torch.stack([case.damaged[0], result, heat, better])
                tiles.append(torch.cat(list(F.interpolate(shown, (200, 200), mode="bilinear")), 2))
    if not rows:
        raise UserError("bench evidence: no face could be measured. Provide larger pictures, or a smaller --width.")
    target.mkdir(parents=True, exist_ok=True)
    to_pil(torch.cat(tiles, 1)).save(target / "evidence.png")
    return {
        "faces": len({row.file for row in rows}),
        "details": {
            detail: summary_of_details([row for row in rows if row.detail == detail]) for detail in ("none", *DETAILS)
        },
    }


def inserted(scene: torch.Tensor, subject: Subject, other: Subject, detail: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The restored picture ``[3, h, w]`` with the detail, and where it is, ``[h, w]`` in 0..1."""
    if detail == "none":
        return scene, torch.zeros(scene.shape[-2:])
    if detail == "patch":
        return _patched(scene, subject)
    y, x = torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="ij")
    crop, valid, similarity = crop_face(scene, subject.landmarks)
    if detail == "eye":
        radius = torch.hypot((x - EYE[0]) / EYE_RADII[0], (y - EYE[1]) / EYE_RADII[1])
        foreign = relit(crop_face(other.picture, other.landmarks)[0], crop, valid, 512)
    else:
        radius = torch.hypot(x - MOLE[0], y - MOLE[1]) / MOLE_RADIUS
        foreign = crop * (1 - MOLE_DARKNESS)
    weight = ((1.3 - radius) / 0.6).clamp(0, 1)[None]
    stack, _, (x0, y0, x1, y1) = unwarp(torch.cat([foreign, weight]), align(subject.landmarks, 512), scene.shape[-2:])
    result, where = scene.clone(), torch.zeros(scene.shape[-2:])
    result[:, y0:y1, x0:x1] = torch.lerp(scene[:, y0:y1, x0:x1], stack[:3], stack[3:])
    where[y0:y1, x0:x1] = stack[3]
    return result, where


def _patched(scene: torch.Tensor, subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """A square beside the face replaced by the one at the mirrored place."""
    height, width = scene.shape[-2:]
    side = round(PATCH * subject.width)
    top, left = min(max(round(subject.box[3]), 0), height - side), max(round(subject.box[0]) - side, 0)
    result, where = scene.clone(), torch.zeros(height, width)
    result[:, top : top + side, left : left + side] = scene[:, height - side - top :, width - side - left :][
        :, :side, :side
    ]
    where[top : top + side, left : left + side] = 1
    return result, where


def area_under_curve(deviation: torch.Tensor, weight: torch.Tensor) -> float:
    """The area under the ROC curve of the deviation for a detail's pixels; those at its border count on neither side."""
    known = (weight < BORDER) | (weight > 1 - BORDER)
    ranks, inside = rankdata(deviation[known].numpy()), (weight[known] > 0.5).numpy()
    positive, negative = int(inside.sum()), int((~inside).sum())
    return float((ranks[inside].sum() - positive * (positive + 1) / 2) / (positive * negative))


def summary_of_details(rows: Sequence[Row]) -> dict[str, float]:
    """Means with standard errors."""
    gains = np.array([row.after - row.before for row in rows])
    aucs, root = np.array([row.auc for row in rows]), np.sqrt(max(len(rows) - 1, 1))
    return {
        "auc": float(aucs.mean()), "auc_error": float(aucs.std() / root), "auc_worst": float(aucs.min()),
        "psnr": float(np.mean([row.before for row in rows])), "gain": float(gains.mean()),
        "gain_error": float(gains.std() / root), "gain_worst": float(gains.min()),
    }  # fmt: skip


def table(figures: dict) -> str:
    lines = [
        f"{figures['faces']} faces.",
        f"{'detail':8} {'AUC':>15} {'worst':>7} {'PSNR':>7} {'pulled back':>17} {'worst':>7}",
    ]
    for name, one in figures["details"].items():
        auc = f"{one['auc']:.3f} +-{one['auc_error']:.3f}"
        gain = f"{one['gain']:+.2f} +-{one['gain_error']:.2f} dB"
        lines.append(
            f"{name:8} {auc:>15} {one['auc_worst']:>7.3f} {one['psnr']:>7.2f} {gain:>17} {one['gain_worst']:>+7.3f}"
        )
    return "\n".join(lines)

"""Gives the people in an edited photograph their own faces back.

A face is taken from the photograph, where it was restored, laid into the edit through the registration of both, lit and grained as the
edit is, and blended in. Of a stranger, whom no album knows, only those frequencies are put back that the damage left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..degradation.survival import mirror_filtered, power, survival
from ..faces.align import moved
from ..fusion.blend import Patch, blend_faces
from ..fusion.compose import grained
from ..fusion.edit import Found, Registration, register
from ..fusion.light import relit
from ..fusion.mask import features_mask
from ..pictures.color import luma
from ..vocabulary import Face

# Mean distance of the landmarks from where they should be, in distances of the eyes: beyond it the edit has turned or moved the head.
FURTHEST = 0.4


@dataclass(frozen=True)
class Kept:
    """One face of the photograph after ``keep_people``.

    edited, kept: ``[3, S, S]``, the same place in the edit before and after, in the face's own frame; None where the edit does not show
    it. reason: why it was not put back, or empty.
    """

    face: Face
    edited: Tensor | None = None
    kept: Tensor | None = None
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """picture: ``[3, h, w]``, the edit; mask: ``[h, w]`` in 0..1, where faces were put back; people: one per face."""

    picture: Tensor
    mask: Tensor
    people: tuple[Kept, ...]
    registration: Registration


def keep_people(
    photo: Tensor,
    edit: Tensor,
    faces: Sequence[Face],
    edit_faces: Sequence[Found],
    *,
    scalars: Mapping[str, float] | None = None,
    strength: float = 1.0,
    strangers: bool = True,
    grain: float = 1.0,
    seed: int = 0,
) -> Result:
    """The edit ``[3, h, w]`` of a photograph ``[3, H, W]`` with the faces of the photograph; both in 0..1.

    faces: of the photograph, restored; edit_faces: those found in the edit. scalars: the damage, see ``DegradationCode``.
    strength, grain: 0..1; strangers: whether people without a name get their structure back. Where nothing is put back the picture equals
    the edit bit for bit; if the edit cannot be registered, everywhere.
    """
    found = register(photo, edit, faces, edit_faces)
    mask = torch.zeros(edit.shape[-2:])
    if found.reason:
        return Result(edit.clone(), mask, tuple(Kept(face, reason=found.reason) for face in faces), found)
    before = [in_face(edit, face, found) if shows(face, found, edit) else None for face in faces]
    reasons = [
        reason_to_leave(face, strength, seen, found, edit_faces, strangers)
        for face, seen in zip(faces, before, strict=True)
    ]
    patches = []
    for number, (face, reason, seen) in enumerate(zip(faces, reasons, before, strict=True)):
        if reason or seen is None:
            continue
        amount = strength * face.strength
        if face.person is None:
            patch = stranger_patch(face, found, edit, seen, scalars, amount)
        else:
            patch = known_patch(face, found, edit, amount)
            patch = grained(patch, edit, grain, seed + number) if grain else patch
        patches.append(patch)
        x0, y0, x1, y1 = patch.box
        torch.maximum(mask[y0:y1, x0:x1], (patch.mask * patch.valid)[0], out=mask[y0:y1, x0:x1])
    picture = blend_faces(edit, patches) if patches else edit.clone()
    # An edit may leave 0..1 where nothing is put back.
    picture = torch.where(picture == edit, edit, picture.clamp(0, 1))
    after = [
        seen if reason or seen is None else in_face(picture, face, found)
        for face, reason, seen in zip(faces, reasons, before, strict=True)
    ]
    people = tuple(Kept(*one) for one in zip(faces, before, after, reasons, strict=True))
    return Result(picture, mask, people, found)


def reason_to_leave(
    face: Face,
    strength: float,
    seen: Tensor | None,
    found: Registration,
    edit_faces: Sequence[Found],
    strangers: bool,
) -> str:
    """Why a face cannot be put back, or an empty text. seen: the edit in the face's frame, if it shows it."""
    if face.person is None and not strangers:
        return "a stranger"
    if face.person is not None and face.restored is None:
        return "it was not restored"
    if strength * face.strength == 0:
        return "its strength is 0"
    if seen is None:
        return "the edit does not show it"
    here = found.to_edit(face.landmarks)
    eyes = float(np.linalg.norm(here[1] - here[0]))
    distances = [float(np.linalg.norm(other.landmarks - here, axis=1).mean()) for other in edit_faces]
    if min(distances, default=np.inf) > FURTHEST * eyes:
        return "the edit shows no face in this place and pose"
    return ""


def shows(face: Face, found: Registration, edit: Tensor) -> bool:
    """Whether the edit shows the middle of a face."""
    height, width = edit.shape[-2:]
    there = found.to_edit(face.landmarks)
    return bool(((there >= 0) & (there < [width, height])).all())


def known_patch(face: Face, found: Registration, edit: Tensor, amount: float) -> Patch:
    """The restored face in the edit's frame, in its light."""
    content, box, crop = laid_into(torch.cat([face.best, face.valid, features_mask(face)]), face, found, edit)
    valid, mask = content[3:4].clamp(0, 1), content[4:5].clamp(0, 1)
    below = edit[:, box[1] : box[3], box[0] : box[2]]
    return Patch(relit(content[:3], below, valid * mask, crop), mask * amount, valid, box)


def stranger_patch(
    face: Face, found: Registration, edit: Tensor, seen: Tensor, scalars: Mapping[str, float] | None, amount: float
) -> Patch:
    """The edit's face with those frequencies from the photograph that survived there. seen: the edit in the face's frame.

    Only the change is laid into the edit, so that what it has of finer detail is not resampled.
    """
    inside = features_mask(face)
    own = relit(face.best, seen, face.valid * inside, face.similarity.size)
    change = surviving(own - seen, seen, scalars, face.similarity.scale)
    content, box, _ = laid_into(torch.cat([change * face.valid, face.valid, inside]), face, found, edit)
    valid, mask = content[3:4].clamp(0, 1), content[4:5].clamp(0, 1)
    below = edit[:, box[1] : box[3], box[0] : box[2]]
    return Patch((below + content[:3]).clamp(0, 1), mask * amount, valid, box)


def surviving(change: Tensor, seen: Tensor, scalars: Mapping[str, float] | None, pixel: float) -> Tensor:
    """``[3, S, S]`` limited to the frequencies that the photograph still shows (Wiener's share).

    seen: ``[3, S, S]``, an undamaged face of the same scale; pixel: crop pixels per pixel of the photograph.
    """
    return mirror_filtered(change, survival(scalars, power(luma(seen)), 2 * change.shape[-1], pixel))


def laid_into(
    content: Tensor, face: Face, found: Registration, edit: Tensor
) -> tuple[Tensor, tuple[int, int, int, int], float]:
    """A face's content ``[C, S, S]`` in the edit's frame ``[C, h, w]``, its box there, and the width of the crop in edit pixels.

    Beyond the crop the last two channels are 0.
    """
    size, inverse = face.similarity.size, face.similarity.inverse
    edge = np.linspace(-0.5, size - 0.5, 17)
    rim = np.concatenate(
        [np.stack(np.broadcast_arrays(*pair), -1) for end in (-0.5, size - 0.5) for pair in ((edge, end), (end, edge))]
    )
    corners = found.to_edit(moved(rim, inverse))
    height, width = edit.shape[-2:]
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, [width - 1, height - 1]).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, [x0 + 1, y0 + 1], [width, height]).astype(int)
    scale = found.scale_at(face.landmarks) / face.similarity.scale
    samples = max(1, round(1 / scale))
    axes = [(np.arange((end - start) * samples) + 0.5) / samples - 0.5 + start for start, end in ((x0, x1), (y0, y1))]
    at = moved(found.to_photograph(np.stack(np.meshgrid(*axes), -1)).reshape(-1, 2), face.similarity.matrix)
    at = at.reshape((y1 - y0) * samples, (x1 - x0) * samples, 2)
    return _sampled(content, at, samples), (int(x0), int(y0), int(x1), int(y1)), size * scale


def in_face(edit: Tensor, face: Face, found: Registration) -> Tensor:
    """The edit ``[3, h, w]`` in a face's own frame ``[3, S, S]``."""
    size = face.similarity.size
    samples = max(1, round(found.scale_at(face.landmarks) / face.similarity.scale))
    axis = (np.arange(size * samples) + 0.5) / samples - 0.5
    grid = np.stack(np.meshgrid(axis, axis), -1)
    at = found.to_edit(moved(grid.reshape(-1, 2), face.similarity.inverse)).reshape(grid.shape)
    return _sampled(edit, at, samples)


def _sampled(content: Tensor, at: np.ndarray, samples: int) -> Tensor:
    """``[C, H, W]`` at points ``[h * samples, w * samples, 2]``, averaged to ``[C, h, w]``.

    Outside lie the edge's colors in the first three channels, and 0 in the others, which are masks.
    """
    x, y = (np.ascontiguousarray(at[..., axis], np.float32) for axis in (0, 1))
    low, high = content.amin((-2, -1)), content.amax((-2, -1))
    planes = []
    for number, plane in enumerate(content.cpu().numpy()):
        border = cv2.BORDER_REPLICATE if number < 3 else cv2.BORDER_CONSTANT
        sampled = cv2.remap(plane, x, y, cv2.INTER_CUBIC, borderMode=border)
        small = cv2.resize(sampled, (x.shape[1] // samples, x.shape[0] // samples), interpolation=cv2.INTER_AREA)
        # Bicubic interpolation overshoots.
        planes.append(torch.from_numpy(small).clamp(float(low[number]), float(high[number])))
    return torch.stack(planes)

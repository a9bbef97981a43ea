"""Restored faces finely aligned with the scene that they are blended into (PerFuSe, supplement 1: RANSAC-Flow).

A stage between restoring and blending: the warp of every face is found in the frame of its crop, against the same crop of the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..faces.align import take_crop
from ..faces.fine_align import Networks, Warp, fine_align
from ..faces.paste import unwarp
from ..vocabulary import Face, Faces, UserError
from .mask import own_mask

WITH, WITHOUT = "RANSAC-Flow's networks", "corners and gradients, without RANSAC-Flow's networks"


@dataclass(frozen=True)
class FaceWarps:
    """PR_WARP: the warp of every face of a batch.

    frames: as in ``Faces``, None for a face that is not blended in; used: what they were found with.
    """

    frames: tuple[tuple[Warp | None, ...], ...]
    used: str


def align_faces(
    scenes: Tensor,
    faces: Faces,
    networks: Networks | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FaceWarps:
    """The warps that bring every restored face onto its scene ``[B, 3, h, w]``, a whole multiple of the photographs' size.

    Without networks, corners and gradients take their place. The same seed gives the same warps.
    Raises UserError for scenes of another number or size.
    """
    factor = scale_of(scenes, faces, "Align Faces")
    found, done = [], 0
    for scene, frame in zip(scenes, faces.frames, strict=True):
        warps = []
        for face in frame:
            warps.append(
                None if face.restored is None or not face.strength else _align(scene, face, factor, networks, seed)
            )
            done += 1
            progress(done, len(faces))
        found.append(tuple(warps))
    return FaceWarps(tuple(found), WITHOUT if networks is None else WITH)


def _align(scene: Tensor, face: Face, factor: int, networks: Networks | None, seed: int) -> Warp:
    similarity = face.similarity if factor == 1 else face.similarity.scaled(factor)
    target, there = take_crop(scene, similarity)
    return fine_align(face.best, target, face.valid * there, networks, seed)


def warp_faces(faces: Faces, warps: FaceWarps) -> Faces:
    """The faces after their warps: what is restored, where it is known, and the mask are moved together.

    Raises UserError for the warps of other faces.
    """
    if [len(frame) for frame in warps.frames] != [len(frame) for frame in faces.frames]:
        raise UserError("Apply Warp: the warp belongs to other faces. Connect the faces that Align Faces got.")

    def moved(face: Face, warp: Warp | None) -> Face:
        if warp is None or warp.reason:
            return face
        parts = torch.cat([face.best, face.valid, own_mask(face)])
        if warp.flow.shape[-2:] != parts.shape[-2:]:
            raise UserError(
                "Apply Warp: the warp belongs to faces of another size. Connect the faces that Align Faces got."
            )
        restored, valid, mask = (warp.apply(part) for part in parts.split([3, 1, 1]))
        return replace(face, restored=restored, valid=valid, mask=mask)

    pairs = zip(faces.frames, warps.frames, strict=True)
    frames = tuple(tuple(moved(*one) for one in zip(*pair, strict=True)) for pair in pairs)
    return replace(faces, frames=frames)


def described_warps(warps: FaceWarps) -> str:
    """What was used, then one line for each face: how far it was moved, and how much better it agrees, or why it stays."""
    lines = [f"aligned with {warps.used}"]
    for number, warp in enumerate(one for frame in warps.frames for one in frame):
        if warp is None:
            lines.append(f"{number}: not restored, not aligned")
        elif warp.reason:
            lines.append(f"{number}: left as it is, {warp.reason}")
        else:
            far, (before, after) = float(warp.flow.norm(dim=0).mean()), warp.agreement
            lines.append(f"{number}: moved by {far:.1f} px of its crop, agreement {before:.2f} -> {after:.2f}")
    return "\n".join(lines)


def flow_pictures(faces: Faces, warps: FaceWarps) -> Tensor:
    """``[B, 3, H, W]`` in 0..1 at the photographs' size: direction as hue and length as saturation, white where nothing moves."""
    from torchvision.utils import flow_to_image  # takes a second to import

    shown = torch.zeros(len(faces.frames), 2, *faces.size)
    for picture, face, warp in _placed(faces, warps, shown):
        # The directions are those of the photograph, in which the crop may lie turned.
        linear = torch.from_numpy(np.linalg.inv(face.similarity.matrix[:, :2])).to(warp.flow)
        _lay(picture, torch.einsum("ij,jhw->ihw", linear, warp.flow), face)
    return torch.stack([flow_to_image(one) for one in shown]).float() / 255


def confidence_pictures(faces: Faces, warps: FaceWarps) -> Tensor:
    """``[B, 3, H, W]`` in 0..1 at the photographs' size: how sure the flow is, black where there is none."""
    shown = torch.zeros(len(faces.frames), 1, *faces.size)
    for picture, face, warp in _placed(faces, warps, shown):
        _lay(picture, warp.confidence, face)
    return shown.clamp(0, 1).expand(-1, 3, -1, -1)


def _placed(faces: Faces, warps: FaceWarps, shown: Tensor) -> Iterator[tuple[Tensor, Face, Warp]]:
    """The picture, the face and the warp of every face that has one."""
    for picture, frame, found in zip(shown, faces.frames, warps.frames, strict=True):
        yield from ((picture, face, warp) for face, warp in zip(frame, found, strict=True) if warp is not None)


def _lay(picture: Tensor, values: Tensor, face: Face) -> None:
    """Values ``[C, S, S]`` in the frame of a crop, laid into the photograph's."""
    region, valid, (x0, y0, x1, y1) = unwarp(values.cpu(), face.similarity, picture.shape[-2:])
    place = picture[:, y0:y1, x0:x1]
    place.copy_(torch.where(valid > 0.5, region, place))


def scale_of(scenes: Tensor, faces: Faces, node: str) -> int:
    """How many pixels of a scene ``[B, 3, h, w]`` a pixel of the photograph is. Raises UserError for scenes of another number or size."""
    if len(scenes) != len(faces.frames):
        raise UserError(
            f"{node}: {len(scenes)} scene(s), but faces from {len(faces.frames)} photograph(s). "
            "Provide one scene for each."
        )
    height, width = faces.size
    factor = round(scenes.shape[-1] / width)
    if factor < 1 or (height * factor, width * factor) != tuple(scenes.shape[-2:]):
        raise UserError(
            f"{node}: the scene is {scenes.shape[-1]}x{scenes.shape[-2]}, but the photograph was "
            f"{width}x{height}; the scene must be a whole multiple of the photograph."
        )
    return factor

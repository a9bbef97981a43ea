"""A given face put into a scene (Face2Scene, 4.3 and table 3: "GT Face Inserted")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.paste import unwarp
from ..vocabulary import Faces, UserError
from .face_warps import scale_of
from .mask import own_mask


def insert_faces(scenes: Tensor, sources: Tensor, faces: Faces) -> tuple[Tensor, Tensor]:
    """``M * source + (1 - M) * scene``, element by element, and M ``[B, h, w]``: 1 in the middle of a face, 0 at its edge.

    scenes: ``[B, 3, h, w]``, a whole multiple of the photographs' size; sources: the same pictures with the faces that are wanted, at
    the photographs' or the scenes' size; faces: where they are, each with the mask of its own or an oval.
    Raises UserError for pictures that do not belong together.
    """
    factor, size = scale_of(scenes, faces, "Insert Face"), (scenes.shape[-2], scenes.shape[-1])
    if len(sources) != len(scenes) or tuple(sources.shape[-2:]) not in (tuple(faces.size), size):
        raise UserError(
            f"Insert Face: source has {len(sources)} picture(s) of {sources.shape[-1]}x{sources.shape[-2]}, but it must show the same as "
            f"the scene, {len(scenes)} of {size[1]}x{size[0]}, or as the photograph, {faces.size[1]}x{faces.size[0]}."
        )
    if tuple(sources.shape[-2:]) != size:
        sources = F.interpolate(sources, size, mode="bicubic").clamp(0, 1)
    mask = torch.zeros(len(scenes), 1, *size)
    for number, frame in enumerate(faces.frames):
        for face in frame:
            similarity = face.similarity if factor == 1 else face.similarity.scaled(factor)
            own, valid, (x0, y0, x1, y1) = unwarp(own_mask(face), similarity, size)
            place = mask[number, :, y0:y1, x0:x1]
            torch.maximum(place, (own * valid).clamp(0, 1), out=place)
    return torch.lerp(scenes, sources, mask), mask[:, 0]

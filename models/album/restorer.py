"""The album restorer: what the damage took from a known face comes from the person's album, everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from weakref import finalize

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...lib.degradation.survival import band_survival, cutoff, power, survival
from ...lib.pictures.color import luma
from ...lib.vocabulary import Conditions, Reference
from .face_mesh import mesh_points
from .fusion import fuse_album, taken_unasked
from .gate import LEVELS, Candidates, Gate
from .registration import Frame, Registered

CROP = 512
# Sides at which a face is worked on, and how many of its pixels a pixel of the photograph has at least.
SIDES, LEAST_PIXEL = (128, 256), 1.15
# Every album photograph costs time: of a larger album those are taken whose large features lie most like the face's.
MOST_REFERENCES = 4
# What is listened to where the match is least sure.
LEAST_HEARD = 0.5

_meshes: dict[int, np.ndarray] = {}


@dataclass(frozen=True)
class AlbumRestorer:
    """load() gives the learned gate on its device; None fuses by rules alone.

    trust: 0 stays closest to the evidence, 1 is most like the album; strength: 0 changes nothing.
    """

    load: Callable[[], Gate] | None
    trust: float = 0.5
    strength: float = 1.0
    name: str = "album"
    native_size: int | None = CROP
    scale: int = 1
    tileable: bool = False
    needs_references: bool = True

    def restore(self, image: Tensor, conditions: Conditions) -> Tensor:
        """``[B, 3, 512, 512]`` aligned crops, after the scene restoration, to the same. Only the face itself changes."""
        photos = image if conditions.photo is None else conditions.photo
        out = [self._restore(face, photo, conditions) for face, photo in zip(image, photos, strict=True)]
        conditions.progress(1, 1)
        return torch.stack(out)

    def _restore(self, face: Tensor, photo: Tensor, conditions: Conditions) -> Tensor:
        side = working_side(conditions.pixel)
        pixel = conditions.pixel * side / CROP
        small, small_photo = (resized(one.float().cpu(), side) for one in (face, photo))
        chosen = likest(conditions.references, small)
        crops = [conditions.references[index].crop for index in chosen]
        scalars = None if conditions.code is None else conditions.code.scalars
        album = list(zip(crops, album_meshes(crops), strict=True))
        survives, frame, registered = laid_over(small, album, scalars, pixel)
        if self.load is None:
            parts = torch.from_numpy(frame.inside)[None]
            result, shares = fuse_album(small, registered, survives, frame.survives, parts, self.trust)
        else:
            result, shares = self._chosen(small, small_photo, registered, survives, frame)
        heard = self.strength * heard_at(conditions.certainty)
        change = resized(result - small, CROP) * heard
        told = torch.zeros(len(conditions.references), CROP, CROP)
        # Linear, so that the shares never add up to more than everything.
        told[chosen] = F.interpolate(shares[None], (CROP, CROP), mode="bilinear")[0] * heard
        conditions.borrow(told)
        return (face + change.to(face)).clamp(0, 1)

    def _chosen(
        self, face: Tensor, photo: Tensor, found: list[Registered], survives: Tensor, frame: Frame
    ) -> tuple[Tensor, Tensor]:
        """What the learned gate makes of it, and what is taken without asking it: result ``[3, S, S]`` and shares ``[K, S, S]``."""
        gate = self.load()
        seen = Candidates(
            face[None],
            photo[None],
            torch.stack([one.picture for one in found])[None],
            torch.stack([one.confidence for one in found])[None],
            torch.stack([one.agreement for one in found])[None],
            torch.from_numpy(frame.inside)[None, None],
            band_survival(survives, LEVELS)[None],
        )
        with torch.inference_mode():
            choice = gate(seen.to(gate.stem.weight.device), self.trust)
        detailed, origins, unasked = taken_unasked(face, found, survives, seen.parts[0], self.trust)
        result, shares = choice.result[0].float().cpu(), choice.shares[0].float().cpu()
        return result.lerp(detailed, unasked).clamp(0, 1), shares.lerp(origins, unasked)


def heard_at(certainty: float) -> float:
    """How far the album is listened to, 0..1, if the match is so certain."""
    return LEAST_HEARD + (1 - LEAST_HEARD) * certainty


def working_side(pixel: float) -> int:
    """Side of the crop that a face is worked on in. pixel: of the 512 px crop, per pixel of the photograph."""
    return next((side for side in SIDES if pixel * side / CROP >= LEAST_PIXEL), SIDES[-1])


def laid_over(
    face: Tensor, album: Sequence[tuple[Tensor, np.ndarray]], scalars: Mapping[str, float] | None, pixel: float
) -> tuple[Tensor, Frame, list[Registered]]:
    """What survived of a face ``[3, S, S]``, see ``survival``, its frame, and every album crop with its mesh laid over it.

    pixel: of the face's crop, per pixel of the photograph.
    """
    side = face.shape[-1]
    lights = torch.cat([resized(luma(crop.float()), side) for crop, _ in album])
    survives = survival(scalars, power(lights), side * 3 // 2, pixel)
    frame = Frame(face, mesh_of(face), cutoff(survives))
    return survives, frame, [frame.register(crop, mesh) for crop, mesh in album]


def likest(references: Sequence[Reference], face: Tensor) -> list[int]:
    """Which references are used, at most ``MOST_REFERENCES``: those whose large features lie most like the face's."""
    if len(references) <= MOST_REFERENCES:
        return list(range(len(references)))
    looks = torch.cat([luma(resized(one.crop.float(), 32)) for one in references])
    middle = (slice(None), slice(8, 28), slice(7, 25))
    own, theirs = luma(resized(face, 32))[middle].flatten(1), looks[middle].flatten(1)
    likeness = F.cosine_similarity(own - own.mean(), theirs - theirs.mean(1, keepdim=True))
    return sorted(likeness.argsort(descending=True)[:MOST_REFERENCES].tolist())


def mesh_of(crop: Tensor) -> np.ndarray:
    """The mesh of an aligned crop ``[3, S, S]``, float64 ``[468, 3]``."""
    return mesh_points(crop[None])[0].cpu().double().numpy()


def album_meshes(crops: Sequence[Tensor]) -> list[np.ndarray]:
    """The mesh of each crop of an album, kept as long as the crop is. One after the other: in a batch a mesh would differ in the last
    bits, and so would pixels, by what else was asked for at the same time."""
    for crop in crops:
        if id(crop) not in _meshes:
            _meshes[id(crop)] = mesh_of(crop)
            finalize(crop, _meshes.pop, id(crop))
    return [_meshes[id(crop)] for crop in crops]


def resized(picture: Tensor, side: int) -> Tensor:
    """``[C, S, S]`` to ``[C, side, side]``."""
    if picture.shape[-1] == side:
        return picture
    return F.interpolate(picture[None], (side, side), mode="bicubic", antialias=True)[0]

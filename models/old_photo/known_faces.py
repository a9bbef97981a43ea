"""Damaged places of a known face, filled with what the person's album shows there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...lib.faces.align import from_template, onto_template, take_crop, template_pixel
from ...lib.faces.embed import certainty
from ...lib.faces.paste import unwarp
from ...lib.vocabulary import Face, Library, Reference
from ..album.fusion import choose_patches, resemblance
from ..album.restorer import CROP, album_meshes, heard_at, laid_over, likest, resized, working_side
from .filler import smoothly_filled

# A pixel of the face counts as damaged from this share of damaged pixels of the photograph on.
DAMAGED = 0.05


def fill_known_faces(
    photo: Tensor, mask: Tensor, frame: Sequence[Face], library: Library, strength: float
) -> tuple[Tensor, tuple[Face, ...]]:
    """A photograph ``[3, H, W]`` and its faces, with masked places of known faces filled from the album.

    photo: with its masked places (``[1, H, W]``, above 0) filled somehow, as `fill_damage` does, so that the face can be found and
    registered. Whoever is not in the library, and every pixel that is not masked, stays as it is, bit for bit.
    """
    for face in frame:
        person = library.get(face.person)
        if person and person.references and strength > 0:
            heard = strength * heard_at(certainty(library.embedder, face.confidence))
            photo = filled_face(photo, mask, face, person.references, heard)
    return photo, tuple(_again(photo, face) for face in frame)


def filled_face(photo: Tensor, mask: Tensor, face: Face, references: Sequence[Reference], strength: float) -> Tensor:
    """The photograph ``[3, H, W]`` with the masked places of one face from its references.

    The album's picture is laid over the face and takes the face's own light: the difference between both around a hole is continued
    into it, as membranes do (Perez et al., Poisson image editing, 2003).
    """
    small, holes = (_on_template(face, picture) for picture in (photo, (mask > 0).float()))
    holes = (holes > DAMAGED).float()
    if not holes.any():
        return photo
    crops = [references[index].crop for index in likest(references, small)]
    pixel = template_pixel(face, small.shape[-1])
    _, shown, found = laid_over(small, list(zip(crops, album_meshes(crops), strict=True)), None, pixel)
    weights = choose_patches(found)
    album = sum(weight * one.picture for weight, one in zip(weights, found, strict=True))
    confidence = sum(weight * one.confidence for weight, one in zip(weights, found, strict=True))
    light = smoothly_filled(((small - album) * (1 - holes))[None], holes[None])[0]
    believed = torch.from_numpy(shown.inside)[None] * confidence * resemblance(found)
    change = from_template(face, resized(believed * (album + light - small), face.similarity.size))
    change, valid, (x0, y0, x1, y1) = unwarp(change, face.similarity, photo.shape[-2:])
    own, region = mask[:, y0:y1, x0:x1], photo[:, y0:y1, x0:x1]
    filled = photo.clone()
    filled[:, y0:y1, x0:x1] = torch.where(own > 0, (region + own * valid * strength * change).clamp(0, 1), region)
    return filled


def _on_template(face: Face, picture: Tensor) -> Tensor:
    """A picture ``[C, H, W]`` of the photograph's size as the aligned face, ``[C, S, S]`` at the size that the album is registered at."""
    crop = onto_template(face, take_crop(picture, face.similarity)[0])
    side = working_side(template_pixel(face, CROP))
    return F.interpolate(crop[None], (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def _again(photo: Tensor, face: Face) -> Face:
    """The face with its crop taken again; what was restored of it changes as the crop does."""
    crop = take_crop(photo, face.similarity)[0]
    restored = None if face.restored is None else (face.restored + crop - face.crop).clamp(0, 1)
    return replace(face, crop=crop, restored=restored)

"""Applies a restorer to faces and to whole scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from ..degradation.estimate import largest_face
from ..faces.align import from_template, onto_template, take_crop, template_pixel
from ..faces.embed import certainty
from ..faces.paste import covered_region
from ..fusion.mask import border_fade
from ..vocabulary import (
    Borrowed,
    Conditions,
    DegradationCode,
    Face,
    Faces,
    Library,
    Persona,
    Reference,
    Restorer,
    Similarity,
    UserError,
)

MARGIN = 16  # pixels of surroundings for a restorer that works at the photograph's scale


def restore_faces(
    photos: torch.Tensor,
    faces: Faces,
    restorer: Restorer,
    library: Library,
    *,
    strength: float = 1.0,
    seed: int = 0,
    code: DegradationCode | None = None,
    persona: Persona | None = None,
    wanted: Callable[[str | None], bool] = lambda person: True,
    only_largest: bool = False,
    scenes: torch.Tensor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    show: Callable[[int, Face], None] = lambda number, face: None,
) -> Faces:
    """Every face with a restored crop; a face that the restorer cannot handle (no album) is unchanged.

    photos: ``[B, 3, H, W]``. strength mixes the result with the previous crop; 0 changes nothing. wanted: says for a
    person's name (None for a stranger) whether this restorer applies. only_largest: it applies to one face of each photograph at
    most, the one from which the damage is read (`largest_face`). scenes: the photographs as this restorer has restored them, ``[B, 3,
    H * scale, W * scale]``, out of which the faces are cut instead of being restored again. A face that was already restored is restored
    further; a face with strength 0 is left unchanged. show: receives every restored face with the number of its
    photograph.
    """
    _check_scenes(scenes, photos, restorer)
    total, done = len(faces), 0
    largest = [largest_face(frame, faces.size) for frame in faces.frames] if only_largest else []

    def change(number: int, face: Face) -> Face:
        nonlocal done
        person = library.get(face.person)
        references = person.references if person else ()
        out = face
        able = references or not restorer.needs_references
        chosen = wanted(face.person) and (not only_largest or face is largest[number])
        if strength * face.strength > 0 and chosen and able:
            # Called between the steps of one face, so that it can be canceled in the middle.
            def inner(_step, _steps):
                return progress(done, total)

            conditions = Conditions(
                references,
                persona,
                code=None if code is None else code.of(number, len(photos)),
                seed=seed,
                progress=inner,
                person=face.person,
                certainty=certainty(library.embedder, face.confidence),
            )
            out = _restored(
                photos[number], None if scenes is None else scenes[number], face, restorer, conditions, strength
            )
            show(number, out)
        done += 1
        progress(done, total)
        return out

    frames = tuple(tuple(change(number, face) for face in frame) for number, frame in enumerate(faces.frames))
    return replace(faces, frames=frames)


def _restored(
    photo: torch.Tensor,
    scene: torch.Tensor | None,
    face: Face,
    restorer: Restorer,
    conditions: Conditions,
    strength: float,
) -> Face:
    """The face with its restored crop, and what of it came from the references. scene: see `restore_faces`."""
    shares: list[torch.Tensor] = []
    if scene is None:
        restored = restore_crop(photo, face, restorer, replace(conditions, borrow=shares.append))
    else:
        restored = take_crop(scene, face.similarity.scaled(restorer.scale))[0]
    return replace(
        face,
        restored=torch.lerp(face.best, restored, strength) if strength < 1 else restored,
        borrowed=_borrowed(face, conditions.references, shares, strength),
    )


def _check_scenes(scenes: torch.Tensor | None, photos: torch.Tensor, restorer: Restorer) -> None:
    if scenes is None:
        return
    if restorer.native_size is not None:
        raise UserError(
            f"Restore Faces: {restorer.name} restores faces only, so that no scene can come from it. Disconnect scene."
        )
    height, width = (side * restorer.scale for side in photos.shape[-2:])
    if scenes.shape != (len(photos), 3, height, width):
        raise UserError(
            f"Restore Faces: scene must be the photograph as {restorer.name} restores it, {width}x{height} px, but it is "
            f"{scenes.shape[-1]}x{scenes.shape[-2]} px ({len(scenes)} of {len(photos)}). Connect Restore Scene with the same restorer."
        )


def _borrowed(
    face: Face, references: tuple[Reference, ...], shares: list[torch.Tensor], strength: float
) -> Borrowed | None:
    """What was taken from the album, in the face's own frame; what an earlier restorer took stays known where this one takes nothing."""
    if not shares:
        return face.borrowed
    return Borrowed(tuple(one.name for one in references), from_template(face, shares[0]) * strength)


def restore_crop(photo: torch.Tensor, face: Face, restorer: Restorer, conditions: Conditions) -> torch.Tensor:
    """The face's crop ``[3, S, S]``, restored.

    A restorer without a native size receives the face at the photograph's own scale, where the damage has its original
    appearance. A restorer with a native size receives the face on the five-point template at that size; the area of a
    wider crop outside the template is unchanged.
    """
    size = face.similarity.size
    if restorer.native_size is not None:
        inside, found = (onto_template(face, picture)[None] for picture in (face.best, face.crop))
        if restorer.native_size != size:
            inside, found = (
                F.interpolate(one, (restorer.native_size,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
                for one in (inside, found)
            )
        pixel = template_pixel(face, restorer.native_size)
        out = restorer.restore(inside, replace(conditions, photo=found, pixel=pixel))
        if out.shape[-1] != size:
            out = F.interpolate(out, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        if face.template is None:
            return out[0]
        known = from_template(face, border_fade(size).to(out))
        return torch.lerp(face.best, from_template(face, out[0]), known)
    x0, y0, x1, y1 = covered_region(face.similarity.inverse, size, photo.shape[-2:], MARGIN)
    restored = restorer.restore(photo[None, :, y0:y1, x0:x1], conditions)[0]
    shifted = face.similarity.matrix.copy()
    shifted[:, 2] += shifted[:, :2] @ (x0, y0)
    return take_crop(restored, Similarity(shifted, size).scaled(restorer.scale))[0]


def restore_scene(
    photos: torch.Tensor,
    restorer: Restorer,
    conditions: Conditions,
    strength: float = 1.0,
    show: Callable[..., None] = lambda part, left, top, number: None,
) -> torch.Tensor:
    """``[B, 3, H, W]`` to ``[B, 3, H * scale, W * scale]``, one photograph after the other, each as if it were alone; strength
    mixes the result with the (enlarged) input; 0 returns the input.

    conditions: of all photographs; its progress is called after every one, too. show: as in `Conditions`, and
    receives the ``number`` of the photograph, too. Raises UserError for a restorer that handles only faces.
    """
    if strength > 0 and (restorer.needs_references or (restorer.native_size is not None and not restorer.tileable)):
        raise UserError(
            f"Restore Scene: {restorer.name} restores faces, not whole pictures. Connect it to Restore Faces, and use "
            "another restorer here."
        )
    if strength == 0 and restorer.scale == 1:
        return photos
    out, count = torch.empty(0), len(photos)
    for number, photo in enumerate(photos.split(1)):
        restored = photo if strength == 1 else _enlarged(photo, restorer.scale)
        steps = _Steps(number, count, conditions.progress)
        if strength > 0:
            code = None if conditions.code is None else conditions.code.of(number, count)
            own = replace(conditions, code=code, progress=steps, show=partial(show, number=number))
            found = restorer.restore(photo, own)
            restored = found if strength == 1 else torch.lerp(restored, found, strength)
        if not number:
            out = restored.new_empty(count, *restored.shape[1:])
        out[number] = restored[0]
        steps.finish()
    return out


class _Steps:
    """Turns the steps of one photograph of a batch into those of the whole batch. parts: how many a photograph has, as last heard."""

    def __init__(self, number: int, count: int, progress: Callable[[int, int], None]):
        self._number, self._count, self._progress, self._parts = number, count, progress, 1

    def __call__(self, done: int, total: int) -> None:
        self._parts = total
        self._progress(self._number * total + done, self._count * total)

    def finish(self) -> None:
        self(self._parts, self._parts)


def _enlarged(photo: torch.Tensor, scale: int) -> torch.Tensor:
    return photo if scale == 1 else F.interpolate(photo, scale_factor=scale, mode="bicubic").clamp(0, 1)

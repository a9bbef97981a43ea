"""Marks faces in a photograph for review and selection: box, number, name and confidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..pictures.files import from_pil, to_pil
from ..vocabulary import Box, Face, Faces
from .detection import Detection
from .paste import unwarp

KNOWN, STRANGER = (60, 170, 90), (215, 150, 40)
# Of album pictures, told apart by people who see red and green alike, too (Okabe and Ito 2008).
COLORS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]

CONTRADICTED, INVENTED = (213, 94, 0), (0, 114, 178)


def mark(picture: Image.Image, marks: Iterable[tuple[Box, str, bool]]) -> Image.Image:
    """A copy with each box, its label below (above where the picture ends), in green for known people, otherwise in
    amber."""
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    size = max(12, picture.width // 45)
    font = ImageFont.load_default(size)
    for box, label, known in marks:
        colour = KNOWN if known else STRANGER
        x0, y0, x1, y1 = (round(value) for value in box)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=max(2, picture.width // 300))
        y = y1 + 2 if y1 + 2 + size <= picture.height else max(y0 - size - 4, 0)
        x = max(min(x0, picture.width - round(draw.textlength(label, font))), 0)
        draw.text((x, y), label, colour, font, stroke_width=2, stroke_fill=(0, 0, 0))
    return marked


def dotted(photo: torch.Tensor, faces: Iterable[Detection]) -> torch.Tensor:
    """A copy of ``[3, H, W]`` with the landmarks of every face as dots, dlib's 68 as smaller ones, and its number."""
    faces = list(faces)
    picture = mark(to_pil(photo), ((face.box, str(number), True) for number, face in enumerate(faces)))
    draw = ImageDraw.Draw(picture)
    for face in faces:
        radius = max(1.0, (face.box[2] - face.box[0]) / 60)
        dots = [(point, radius, STRANGER) for point in face.landmarks]
        if face.points is not None:
            dots += [(point, radius / 2, KNOWN) for point in face.points]
        for (x, y), size, color in dots:
            draw.ellipse((x - size, y - size, x + size, y + size), color)
    return from_pil(picture)


def tinted(photo: torch.Tensor, faces: Iterable[Face]) -> torch.Tensor:
    """A copy of ``[3, H, W]``, grayed, that shows in a color per album picture where its detail went.

    Pictures are numbered in the order of each person's album, so a person's picture has one color in all faces.
    """
    shown = photo.mean(0, keepdim=True).expand(3, -1, -1) * 0.8 + 0.1
    shown = shown.clone()
    for face in faces:
        if face.borrowed is None:
            continue
        shares, known, (x0, y0, x1, y1) = unwarp(face.borrowed.shares, face.similarity, photo.shape[-2:])
        for number, share in enumerate(shares.clamp(0, 1) * known):
            color = shown.new_tensor(COLORS[number % len(COLORS)])[:, None, None] / 255
            shown[:, y0:y1, x0:x1] = torch.lerp(
                shown[:, y0:y1, x0:x1], color.expand(-1, *share.shape), 0.8 * share[None]
            )
    return shown


def judged(result: torch.Tensor, contradicted: torch.Tensor, silent: torch.Tensor) -> torch.Tensor:
    """``[3, h, w]`` in gray, with masks ``[h, w]`` of what the photograph contradicts and where it is silent in colors."""
    shown = result.mean(0, keepdim=True).expand(3, -1, -1) * 0.8 + 0.1
    for color, mask in ((INVENTED, silent), (CONTRADICTED, contradicted)):
        tint = shown.new_tensor(color)[:, None, None] / 255
        shown = torch.lerp(shown, tint * (0.4 + 0.6 * shown), 0.8 * mask[None])
    return shown


def face_label(number: int, face: Face) -> str:
    """``2 Anna 83%``: the number that an override names, the person or a question mark, the confidence of a match.

    A match that should be checked ends in a question mark. What the photograph says about the face follows, if it was asked.
    """
    name = f"{number} {face.person} {face.confidence:.0%}{' ?' * bool(face.doubt)}" if face.person else f"{number} ?"
    shares = face.supported
    return name if shares is None else f"{name}, {shares.invented:.0%} invented, {shares.contradicted:.0%} contradicted"


def album_label(face: Face) -> str:
    """``Anna: beach.jpg 21%, wedding.jpg 8%``: what the face's finest detail owes to the album."""
    named = [f"{name} {share:.0%}" for name, share in (face.borrowed.totals() if face.borrowed else {}).items()]
    return f"{face.person}: {', '.join(named) or 'nothing from the album'}"


def picker_data(faces: Faces) -> list[list[dict[str, Any]]]:
    """The picker data for each photograph and face: number, label, strength, and (left, top, width, height) of the box in
    fractions of the photograph's sides.
    """
    height, width = faces.size
    frames: list[list[dict[str, Any]]] = []
    number = 0
    for frame in faces.frames:
        frames.append([])
        for face in frame:
            x0, y0, x1, y1 = face.box
            box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
            shown = {"number": number, "label": face_label(number, face), "known": face.person is not None}
            frames[-1].append(shown | {"strength": face.strength, "box": [round(float(side), 4) for side in box]})
            number += 1
    return frames

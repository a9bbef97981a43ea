"""What ``keep_people`` did, for people and programs: how far an edit had moved each face, and which faces were put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..faces.align import onto_template
from ..faces.embed import Embedder
from ..fusion.edit import Registration
from ..pictures.files import from_pil, to_pil
from ..vocabulary import Library
from .keep import Kept, Result

TILE, GAP, LINE = 224, 10, 20
PAPER, INK, BACK, LEFT = (250, 250, 248), (40, 40, 40), (40, 130, 70), (150, 90, 20)


def table(results: Sequence[Result], library: Library, embedder: Embedder) -> dict[str, Any]:
    """How many features agree in each picture, and for each face what became of it and how far it was from whom.

    A distance is 1 minus the embedder's similarity, 0 (the same) to 1; ``same_person_below`` is where it stops to speak of one person.
    """
    usable = embedder if library.embedder == embedder.name else None
    every = [(kept, one.registration) for one in results for kept in one.people]
    faces = [row(number, *one, library, embedder, usable) for number, one in enumerate(every)]
    return {
        "edits": [
            {
                "registered": not one.registration.reason,
                "reason": one.registration.reason,
                "features": one.registration.features,
                "agreement": round(one.registration.agreement, 3),
            }
            for one in results
        ],
        "embedding": embedder.name,
        "same_person_below": round(1 - embedder.threshold, 3),
        "put_back": sum(face["put_back"] for face in faces),
        "faces": faces,
    }


def row(
    number: int, kept: Kept, found: Registration, library: Library, embedder: Embedder, of_album: Embedder | None
) -> dict[str, Any]:
    """One face; its ``box`` is in the edit. Distances are pairs, before and after; None where there is nothing to compare."""
    face = kept.face
    x0, y0, x1, y1 = face.box
    corners = found.to_edit(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    person = library.get(face.person)
    references = [one.embedding for one in person.references if one.embedding is not None] if person else []
    looks = [None if look is None else embedder.embed(onto_template(face, look)) for look in (kept.edited, kept.kept)]
    own = embedder.embed(onto_template(face, face.crop))

    def distances(known: list[np.ndarray]) -> list[float] | None:
        if not known or looks[0] is None:
            return None
        return [round(1 - float(embedder.similarity(look[None], np.stack(known)).max()), 3) for look in looks]

    return {
        "number": number,
        "person": face.person,
        "box": [round(float(side)) for side in (*corners.min(0), *corners.max(0))],
        "put_back": not kept.reason,
        "reason": kept.reason,
        "to_photograph": distances([own]),
        "to_album": distances(references) if of_album else None,
    }


def in_words(summary: dict[str, Any]) -> list[str]:
    """One line per face."""
    lines = []
    for face in summary["faces"]:
        said = "put back" if face["put_back"] else f"left as it is: {face['reason']}"
        moves = [
            f"to {name} {pair[0]:.2f} -> {pair[1]:.2f}"
            for name, pair in (("photograph", face["to_photograph"]), ("album", face["to_album"]))
            if pair
        ]
        lines.append(", ".join([f"{face['number']} {face['person'] or '?'}: {said}", *moves]))
    return lines


def sheet(results: Sequence[Result], library: Library, summary: dict[str, Any]) -> Tensor:
    """``[1, 3, H, W]``: a row per face with the photograph, the edit, the result and the album, and what the table says."""
    everyone, lines = _everyone(results), in_words(summary)
    tall, wide = TILE + LINE + GAP, 4 * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (wide, GAP + LINE + max(len(everyone), 1) * tall), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, title in enumerate(("photograph", "edit", "result", "album")):
        draw.text((GAP + column * (TILE + GAP), GAP // 2), title, INK, font)
    if not everyone:
        draw.text((GAP, GAP + LINE), "No faces.", INK, font)
    for number, (kept, words) in enumerate(zip(everyone, lines, strict=True)):
        top = GAP + LINE + number * tall
        person = library.get(kept.face.person)
        album = person.references[0].crop if person and person.references else None
        own = [
            None if look is None else onto_template(kept.face, look)
            for look in (kept.face.crop, kept.edited, kept.kept)
        ]
        for column, tile in enumerate((*own, album)):
            if tile is not None:
                small = F.interpolate(tile[None], (TILE, TILE), mode="bicubic", antialias=True)[0]
                canvas.paste(to_pil(small), (GAP + column * (TILE + GAP), top))
        draw.text((GAP, top + TILE + 2), words, LEFT if kept.reason else BACK, font)
    return from_pil(canvas)[None]


def _everyone(results: Sequence[Result]) -> list[Kept]:
    return [kept for one in results for kept in one.people]

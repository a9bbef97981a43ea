"""What a photograph's file holds beside the pixels of one frame: carried over to the result, or said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..lib.pictures.comfy_files import quarter_turns
from ..lib.pictures.opening import (
    complete,
    kept_exif,
    kept_profile,
    levels,
    opened_picture,
    orientation,
    upright,
)

# Orientations that the image loader, like ComfyUI's, knows, with its quarter turns counterclockwise.
TURNED = {3: 2, 6: 3, 8: 1}
# Formats and modes that it reads as they are meant; of an icon, for example, it takes another size than Pillow.
FORMATS = "JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"
PLAIN = "1", "L", "LA", "P", "PA", "RGB", "RGBA"
NAMED = 'name faces with --set "PR_MatchFaces.override=NUMBER=NAME, ..."'
SIDEWAYS = 45  # degrees from which a face does not lie upright
RESTORING = 60  # bytes per pixel: photograph, scene, result and what lies between, as floats


@dataclass(frozen=True)
class Photograph:
    """source: the file to load, a copy where the original is odd; size: width and height; exif, profile: for the result; alpha:
    its transparency or None; notes: what cannot be carried over, a sentence without its end each; frames: how many can be restored."""

    source: Path
    size: tuple[int, int]
    exif: bytes
    profile: bytes | None
    alpha: Image.Image | None
    notes: tuple[str, ...]
    frames: int = 1


def prepared_photograph(photo: Path, folder: Path, every_frame: Collection[str] = ()) -> Photograph:
    """Looks at a file before anything is computed; ``folder`` is for a copy. every_frame: the kinds of files, as Pillow calls them, of
    which the frames after the first are restored, too. Raises UserError if it cannot be restored."""
    with opened_picture(photo, RESTORING) as file:
        exif, lost = kept_exif(file.image)
        profile, unfit = kept_profile(file.image)
        image, cut = complete(photo, file.image)
        frames, note = _frames(file.image, every_frame if not cut else ())
        notes = [*file.notes, note, *lost, *unfit, cut]
        odd = bool(file.notes or cut) or frames > 1 or not _plain(image) or not _turned_right(photo, orientation(image))
        own = part(image, folder if odd else None)
        frames = frames if file.image.format in every_frame and not cut else 1
        return replace(
            own,
            source=own.source if odd else photo,
            exif=exif,
            profile=profile,
            notes=tuple(filter(None, notes)),
            frames=frames,
        )


def part(image: Image.Image, folder: Path | None) -> Photograph:
    """One frame, upright, as a photograph of its own, with a copy of its pixels in the folder."""
    picture = upright(image)
    alpha = picture.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    source = Path() if folder is None else _copy(picture, folder)
    return Photograph(source, picture.size, b"", None, alpha, ())


def with_file_of_edit(photograph: Photograph, edit: Photograph) -> Photograph:
    """The photograph with what belongs to the pixels of its edit, which are the result's: color profile and transparency."""
    notes = [f"of the edit: {note}" for note in edit.notes]
    for name, own, others in (
        ("color profile", photograph.profile, edit.profile),
        ("transparency", photograph.alpha, edit.alpha),
    ):
        if own != others:
            notes.append(
                f"the result has {'the' if others else 'no'} {name}{' of the edit' if others else ', as the edit'}"
            )
    return replace(photograph, profile=edit.profile, alpha=edit.alpha, notes=(*photograph.notes, *notes))


def with_transparency(photograph: Photograph, restored: Image.Image) -> Image.Image:
    """The restored picture with the photograph's transparency."""
    if photograph.alpha is None:
        return restored
    restored = restored.copy()
    restored.putalpha(photograph.alpha.resize(restored.size, Image.Resampling.BICUBIC))
    return restored


def noticed(report: dict[str, Any]) -> list[str]:
    """What a report says of the faces that somebody should know, a sentence without its end each."""
    if "faces" not in report:  # the workflow looks for none, or says nothing about it
        return []
    turns = [
        face["turn"] for face in report["faces"] if isinstance(face.get("turn"), int) and abs(face["turn"]) > SIDEWAYS
    ]
    if turns:
        said = ", ".join(f"{turn} degrees" for turn in turns)
        return [
            f"{len(turns)} face(s) do not lie upright: turned by {said} to be found and restored, and put back as they lay"
        ]
    return [] if report["faces"] else ["no face was found, so that only the scene is restored"]


def summary_line(report: dict[str, Any]) -> str:
    """Who was recognized and how the photograph is damaged, in a line; empty if the report says nothing of either."""
    faces = report.get("faces", [])
    known = [_recognized(face) for face in faces if face.get("person")]
    doubts = [
        f"face {n}: {face['doubt']}" for n, face in enumerate(faces) if not face.get("person") and face.get("doubt")
    ]
    unknown = f"{len(faces) - len(known)} not recognized" + (f" ({'; '.join([*doubts, NAMED])})" if doubts else "")
    people = [*known, *([unknown] if len(known) < len(faces) else [])]
    words = (report.get("damage") or {}).get("words")
    parts = [f"faces: {', '.join(people)}" if people else "", f"damage: {words}" if words else ""]
    return "; ".join(part for part in parts if part)


def _recognized(face: Mapping[str, Any]) -> str:
    """The person, with how much of the face came from the album and whether that is who it is, where the report says it."""
    album, doubt = face.get("album"), face.get("doubt")
    notes = [f"{sum(album.values()):.0%} of the face from the album"] if isinstance(album, dict) else []
    notes += [str(doubt)] if doubt else []
    return f"{face['person']} ({', '.join(notes)})" if notes else str(face["person"])


def _frames(image: Image.Image, every: Collection[str]) -> tuple[int, str]:
    """How many frames or pages there are, and a note. The pictures beside a phone's, of depth or light, are not frames."""
    if image.format == "MPO":
        return 1, ""
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # of a file that is cut off; Pillow's readers raise anything
        return 1, ""
    if count == 1:
        return 1, ""
    held = f"it holds {count} frames or pages"
    if image.format in every:
        return count, f"{held}, which are restored one by one"
    why = (
        ""
        if not every or image.format in Image.SAVE_ALL
        else f", because files of the kind {image.format} cannot be written with several"
    )
    return count, f"{held}, of which only the first is restored{why}"


def _turned_right(photo: Path, orientation: int) -> bool:
    """Whether the image loader turns the photograph as its EXIF says: it knows no mirrors, and its decoder reads less of a damaged EXIF."""
    return orientation == 1 or (orientation in TURNED and quarter_turns(photo) == TURNED[orientation])


def _plain(image: Image.Image) -> bool:
    known = image.mode in PLAIN or image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    return known and image.format in FORMATS


def _copy(image: Image.Image, folder: Path) -> Path:
    """A PNG of the pixels alone; gray with more than 8 bits keeps 16."""
    path, gray = folder / "photograph.png", levels(image)
    if gray is not None:
        image = Image.fromarray((gray * 65535).round().astype(np.uint16))
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.save(path, compress_level=1)
    return path

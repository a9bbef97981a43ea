"""What a photograph's file holds beside the pixels of one frame: carried over to the result, or said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
# Modes that it reads as they are meant.
PLAIN = "1", "L", "LA", "P", "PA", "RGB", "RGBA"
RESTORING = 60  # bytes per pixel: photograph, scene, result and what lies between, as floats


@dataclass(frozen=True)
class Photograph:
    """source: the file to load, a copy where the original is odd; size: width and height; exif, profile: for the result; alpha:
    its transparency or None; notes: what cannot be carried over, a sentence without its end each."""

    source: Path
    size: tuple[int, int]
    exif: bytes
    profile: bytes | None
    alpha: Image.Image | None
    notes: tuple[str, ...]


def prepared_photograph(photo: Path, folder: Path) -> Photograph:
    """Looks at a file before anything is computed; ``folder`` is for a copy. Raises UserError if it cannot be restored."""
    with opened_picture(photo, RESTORING) as file:
        frames, note = _frames(file.image)
        exif, lost = kept_exif(file.image)
        profile, unfit = kept_profile(file.image)
        image, cut = complete(photo, file.image)
        notes = [*file.notes, note, *lost, *unfit, cut]
        odd = bool(file.notes or cut) or frames > 1 or not _plain(image) or not _turned_right(photo, orientation(image))
        picture = upright(image)
        alpha = picture.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        if alpha is not None and alpha.getextrema() == (255, 255):
            alpha = None
        source = _copy(picture, folder) if odd else photo
        return Photograph(source, picture.size, exif, profile, alpha, tuple(filter(None, notes)))


def with_transparency(photograph: Photograph, restored: Image.Image) -> Image.Image:
    """The restored picture with the photograph's transparency."""
    if photograph.alpha is None:
        return restored
    restored = restored.copy()
    restored.putalpha(photograph.alpha.resize(restored.size, Image.Resampling.BICUBIC))
    return restored


def _frames(image: Image.Image) -> tuple[int, str]:
    """How many frames or pages there are, and a note. The pictures beside a phone's, of depth or light, are not frames."""
    if image.format == "MPO":
        return 1, ""
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # of a file that is cut off; Pillow's readers raise anything
        return 1, ""
    return count, f"it holds {count} frames or pages, of which only the first is restored" if count > 1 else ""


def _turned_right(photo: Path, orientation: int) -> bool:
    """Whether the image loader turns the photograph as its EXIF says: it knows no mirrors, and its decoder reads less of a damaged EXIF."""
    return orientation == 1 or (orientation in TURNED and quarter_turns(photo) == TURNED[orientation])


def _plain(image: Image.Image) -> bool:
    return image.mode in PLAIN or image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _copy(image: Image.Image, folder: Path) -> Path:
    """A PNG of the pixels alone; gray with more than 8 bits keeps 16."""
    path, gray = folder / "photograph.png", levels(image)
    if gray is not None:
        image = Image.fromarray((gray * 65535).round().astype(np.uint16))
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.save(path, compress_level=1)
    return path

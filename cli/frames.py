"""Files of several frames or pages: each is restored by itself, and all are saved together in a file of the same kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..lib.pictures.opening import opened_picture
from .photograph import RESTORING, Photograph, part, with_transparency

# What Pillow writes with several frames, and the ending of such a file.
ENDINGS = {"GIF": ".gif", "WEBP": ".webp", "PNG": ".png", "TIFF": ".tif", "AVIF": ".avif"}
OPTIONS: dict[str, dict[str, Any]] = {
    "GIF": {"disposal": 2},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 95},
}
SUBFILE, REDUCED = 254, 1  # a tag of TIFF, and its value for the small copy of another page


@dataclass(frozen=True)
class Frame:
    """photograph: of this frame alone; duration: in milliseconds, 0 if the file says nothing."""

    photograph: Photograph
    duration: float


@dataclass(frozen=True)
class Together:
    """What the frames have in common. kind: Pillow's name of the format; loop: None if the file says nothing; default_image: the
    first frame of an animated PNG is only for those that show no animation."""

    kind: str
    loop: int | None
    default_image: bool

    @property
    def ending(self) -> str:
        return ENDINGS[self.kind]


def further(photo: Path, photograph: Photograph, folder: Path) -> Iterator[Frame]:
    """The frames of a file after the first one, one by one, with their pixels in ``folder``. One that cannot be read ends them, with
    a line that says so; the small copies that a TIFF may hold of its pages are left out."""
    with opened_picture(photo, RESTORING) as file:
        image = file.image
        for number in range(1, photograph.frames):
            try:
                image.seek(number)
                image.load()
                if image.format == "TIFF" and int(image.getexif().get(SUBFILE, 0)) & REDUCED:
                    print(
                        f"note: {photo.name}: page {number + 1} is a small copy of another one and is left out.",
                        flush=True,
                    )
                    continue
                own = folder / str(number)
                own.mkdir()
                one = part(image, own)
            except Exception as error:  # Pillow's readers raise anything
                print(f"note: {photo.name}: frame {number + 1} and the rest cannot be read ({error}).", flush=True)
                return
            yield Frame(one, duration_of(image))


def together(photo: Path) -> tuple[Together, float]:
    """What the frames of a file have in common, and the duration of the first."""
    with opened_picture(photo, RESTORING) as file:
        image = file.image
        image.load()
        loop = image.info.get("loop")
        common = Together(
            str(image.format), loop if isinstance(loop, int) else None, bool(image.info.get("default_image"))
        )
        return common, duration_of(image)


def duration_of(image: Image.Image) -> float:
    value = image.info.get("duration", 0)
    return float(value) if isinstance(value, int | float) and 0 < value < 1e7 else 0.0


def options(common: Together, durations: list[float], rest: list[Image.Image]) -> dict[str, Any]:
    """What Pillow is to be told to save the frames after the first one, too."""
    told: dict[str, Any] = {"save_all": True, "append_images": rest, **OPTIONS.get(common.kind, {})}
    if any(durations):
        told["duration"] = durations[1:] if common.default_image else durations
    if common.loop is not None:
        told["loop"] = common.loop
    return told | ({"default_image": True} if common.default_image else {})


def put_aside(photograph: Photograph, after: Image.Image, path: Path) -> Path:
    """A restored frame, put aside until all are saved together."""
    with_transparency(photograph, after).save(path, compress_level=1)
    return path

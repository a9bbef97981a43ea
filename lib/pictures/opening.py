"""Opens picture files whatever is odd about them, and says what of them cannot be used.

Pillow's readers raise errors of any class on malformed files (struct.error, TypeError, KeyError, ...): here, and only here, all of
them are caught and become a `UserError` or a note.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import ExifTags, Image, ImageFile
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from ..vocabulary import UserError

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"
DEFLATE = 1032  # how many bytes one byte of a PNG can stand for, at most
READING = 20  # bytes per pixel while a picture is read
NESTED = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


@dataclass
class Opened:
    """image: not yet loaded, and not upright; notes: what had to be left out of the file to open it."""

    image: Image.Image
    notes: tuple[str, ...] = ()


@contextmanager
def opened_picture(path: Path, per_pixel: int = READING) -> Iterator[Opened]:
    """A picture file; the block is to read its pixels. per_pixel: bytes of memory that each of them is going to need.

    Raises UserError, naming the file but not its folder, for what cannot be opened or read, or would not fit into memory.
    """
    with _named(path):
        found = _open(path)
        with found.image:
            _check_size(path, found.image, per_pixel)
            yield found


def check_claims(path: Path) -> None:
    """Raises UserError for a file that says it has more pixels than it, or memory, can hold. Whether it can be read is not asked."""
    try:
        with large_pictures(), _open(path).image as image:
            _check_size(path, image, READING)
    except UserError:
        raise
    except Exception:
        return


@contextmanager
def large_pictures() -> Iterator[None]:
    """Inside the block memory alone limits the size of a picture (`opened_picture` looks at it), not Pillow's fixed number of pixels."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where there is none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """With EXIF's orientation applied. Unlike Pillow's own function, it leaves the other tags alone, whatever is wrong with them."""
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def complete(path: Path, image: Image.Image) -> tuple[Image.Image, str]:
    """The first frame with all its pixels, or with those that a file holds that is cut off, and a note about it."""
    try:
        image.seek(0)
        image.load()
        return image, ""
    except Exception as error:
        reason = error
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        image = _open(path).image
        image.load()
    except Exception:
        raise reason from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    missing = _flat_rows(image) / image.height
    if missing > 0.99:
        raise UserError(f"{path.name} is cut off and holds no part of its picture. Get the whole file.")
    share = f"about {missing:.0%} of the picture is missing" if missing else "its last details are missing"
    return image, f"the file is cut off: {share}"


def levels(image: Image.Image) -> np.ndarray | None:
    """float32 ``[H, W]`` in 0..1 of a gray picture with more than 8 bits; None for any other.

    Integers of 32 bits are scaled by the smallest usual range that holds them, and so are floats. Raises UserError for values
    that no usual range holds, or that are no numbers.
    """
    if not image.mode.startswith(("I", "F")):
        return None
    values = np.asarray(image)
    if image.mode.startswith("I;16") or image.format == "PNG":
        return values.astype(np.float32).clip(0, 65535) / 65535
    if not np.isfinite(values).all():
        raise UserError("some of its values are not numbers (NaN or infinite). Repair it, or save it again as PNG")
    low, high = float(values.min()), float(values.max())
    ranges = (255, 65535, 2**31 - 1) if image.mode == "I" else (1, 255, 65535)
    full = next((one for one in ranges if high <= one), None)
    if low < -0.01 * (full or 1) or full is None or (full > 65535 and high < full / 256):
        raise UserError(
            f"its values go from {low:g} to {high:g}, and the file does not say which is white. Save it with 8 or 16 bits"
        )
    return (values / full).clip(0, 1).astype(np.float32)


def kept_exif(image: Image.Image) -> tuple[bytes, list[str]]:
    """The EXIF block for an upright copy, without what cannot be written; and notes about what that is."""
    try:
        exif = image.getexif()
        empty = not len(exif) and bool(image.info.get("exif"))
        values = {tag: exif[tag] for tag in exif if tag != ORIENTATION}
    except Exception:
        empty = True
    if empty:
        return b"", ["its EXIF data cannot be read and was left out"]
    kept, lost = Image.Exif(), []
    for tag, value in values.items():
        one = Image.Exif()
        try:
            one[tag] = value if tag not in NESTED else exif.get_ifd(tag)
            one.tobytes()
            kept[tag] = one[tag]
        except Exception:
            lost.append(ExifTags.TAGS.get(tag, hex(tag)))
    notes = [f"EXIF data that cannot be written was left out: {', '.join(lost)}"] if lost else []
    try:
        return kept.tobytes() if len(kept) else b"", notes
    except Exception:
        return b"", ["its EXIF data cannot be written and was left out"]


def kept_profile(image: Image.Image) -> tuple[bytes | None, list[str]]:
    """The color profile for an RGB copy, if that is what it is for; and a note where it is not."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None, []
    # A larger one could not be read again.
    if profile[16:20] == b"RGB " and profile[36:40] == b"acsp" and len(profile) <= MAX_TEXT_CHUNK:
        return profile, []
    return None, ["its color profile is too large, damaged, or not for RGB, and was left out"]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if str(error).startswith(path.name):
            raise
        raise UserError(f"{path.name}: {error}.") from error
    except MemoryError as error:
        raise UserError(f"{path.name}: there is not enough memory for this picture. Make it smaller.") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path.name}: {error} Make the picture smaller.") from error
    except FileNotFoundError as error:
        raise UserError(f"{path.name}: there is no such file. Check the path.") from error
    except Exception as error:
        reason = "not a picture that can be opened"
        raise UserError(f"{path.name}: {reason}. Save it again as JPEG or PNG, or remove it.") from error


def _open(path: Path) -> Opened:
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise UserError(f"{path.name}: this is no file. Choose a picture.")
    try:
        return Opened(Image.open(path))
    except (OSError, ValueError, SyntaxError, zlib.error):
        content = path.read_bytes() if path.is_file() else b""
        if not content.startswith(PNG):
            raise
    return Opened(
        Image.open(io.BytesIO(_pixels_only(content))), ("its texts or its profile cannot be read and were left out",)
    )


def _pixels_only(png: bytes) -> bytes:
    """A PNG without the chunks that pixels do not need."""
    kept, place = [PNG], len(PNG)
    while place + 8 <= len(png):
        end = place + 12 + int.from_bytes(png[place : place + 4])
        name = png[place + 4 : place + 8]
        if not name[0] & 0x20 or name == b"tRNS":  # in capitals: critical
            kept.append(png[place:end])
        place = end
    return b"".join(kept)


def _check_size(path: Path, image: Image.Image, per_pixel: int) -> None:
    pixels = image.width * image.height
    size = path.stat().st_size
    if image.format == "PNG" and pixels // 8 > size * DEFLATE:
        raise UserError(
            f"{path.name} says that it has {image.width} x {image.height} pixels, which its {size} bytes cannot hold. "
            "Get the whole file."
        )
    free = psutil.virtual_memory().available
    if pixels * per_pixel > free:
        raise UserError(
            f"{path.name} has {image.width} x {image.height} pixels, which need about {pixels * per_pixel / 1e9:.1f} GB of "
            f"memory; {free / 1e9:.1f} GB are free. Make the picture smaller, or close other programs."
        )


def _flat_rows(image: Image.Image) -> int:
    """How many rows at the end of the file's own order are of one color, which is what a decoder fills in."""
    pixels = np.asarray(image).reshape(image.height, -1)
    width = pixels.shape[1] // image.width
    flat = (pixels == np.tile(pixels[-1, :width], image.width)).all(1)
    return image.height if flat.all() else int(flat[::-1].argmin())

"""Picture files of every mode and format, whole, cut off and overwritten: finite pixels of the right size, or refused with words."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache

import torch
from hypothesis import strategies as st
from personal_restore.cli.photograph import prepared_photograph
from personal_restore.cli.restore import is_result
from personal_restore.lib.pictures.comfy_files import load_image, quarter_turns
from personal_restore.lib.pictures.files import read_picture
from personal_restore.tests.fuzzing import damaged, fuzzed, refused_with_words
from PIL import Image

MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "I;16",
    "I;16B",
)
FORMATS = "PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "TGA", "AVIF", "JPEG2000", "ICO", "MPO"
EXIF_BLOCKS = (
    b"",
    b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
)
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "MPO": "jpg"}


@lru_cache
def drawn(mode: str, kind: str, size: tuple[int, int], frames: int, exif: bytes) -> bytes:
    """A picture in one of Pillow's modes as a file, or nothing where the format does not know the mode."""
    picture = Image.radial_gradient("L").resize(size)
    try:
        picture = (
            picture.convert(mode)
            if mode not in ("F", "I")
            else picture.convert(mode).point(lambda value: value * 3 + 1)
        )
        more = [picture.copy() for _ in range(frames - 1)]
        several = {"save_all": True, "append_images": more} if more else {}
        with io.BytesIO() as file:
            picture.save(file, kind, **several, **({"exif": exif} if exif else {}))
            return file.getvalue()
    except (ValueError, OSError, KeyError, TypeError, SystemError):
        return b""


FILES = st.builds(
    lambda kind, *rest: (kind, drawn(rest[0], kind, *rest[1:])),
    st.sampled_from(FORMATS),
    st.sampled_from(MODES),
    st.sampled_from([(1, 1), (3, 40), (33, 17), (48, 48)]),
    st.integers(1, 3),
    st.sampled_from(EXIF_BLOCKS),
).filter(lambda file: bool(file[1]))


@st.composite
def picture_files(draw: st.DrawFn) -> tuple[str, bytes]:
    kind, content = draw(FILES)
    return ENDINGS.get(kind, kind.lower()), draw(damaged(st.just(content)))


@fuzzed("picture files", 120, file=picture_files())
def test_a_picture_file_is_read_or_refused(tmp_path_factory, file):
    ending, content = file
    folder = tmp_path_factory.getbasetemp()
    path = folder / f"fuzzed.{ending}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of which there are many
        with refused_with_words():
            picture = read_picture(path)
            assert picture.ndim == 3 and len(picture) == 3 and picture.dtype == torch.float32
            assert torch.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 1
        with refused_with_words():
            pictures, mask = load_image(path)
            assert pictures.ndim == 4 and pictures.shape[-1] == 3 and len(pictures) and mask.ndim == 3
            quarter_turns(path)
        with refused_with_words():
            photograph = prepared_photograph(path, folder)
            pictures, _ = load_image(photograph.source)
            assert torch.isfinite(pictures).all()
            assert (pictures.shape[2], pictures.shape[1]) == photograph.size
        is_result(path)


def test_every_mode_and_every_format_is_drawn():
    assert all(any(drawn(mode, kind, (33, 17), 1, b"") for kind in FORMATS) for mode in MODES)
    assert all(any(drawn(mode, kind, (33, 17), 1, b"") for mode in MODES) for kind in FORMATS)

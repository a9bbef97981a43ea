"""Album pictures with odd files: used, or skipped and named."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from personal_restore.lib.pictures import comfy_files, opening
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.vocabulary import UserError
from PIL import Image, PngImagePlugin

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def picture(size=(64, 48)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(pixels).resize(size)


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    out = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return b"Exif\0\0" + out + b"".join(struct.pack("<HHI", *e[:3]) + e[3].ljust(4, b"\0") for e in entries) + bytes(4)


def test_an_orientation_beside_tags_that_cannot_be_written_is_applied(tmp_path):
    turn = (0x112, 3, 1, struct.pack("<H", 6))
    picture().save(tmp_path / "a.jpg", exif=exif(turn, (0x11A, 2, 3, b"72\0")), quality=95)
    picture().save(tmp_path / "b.jpg", quality=95)
    assert torch.equal(read_picture(tmp_path / "a.jpg"), read_picture(tmp_path / "b.jpg").rot90(3, (1, 2)))


@pytest.mark.parametrize("value", [b"6\0", b"\xff\xff"])
def test_an_orientation_that_means_nothing_is_none(tmp_path, value):
    picture().save(tmp_path / "a.jpg", exif=exif((0x112, 2 if value[0] == 54 else 3, len(value) // 2 or 1, value)))
    assert read_picture(tmp_path / "a.jpg").shape == (3, 48, 64)


def test_a_png_with_a_megabyte_of_text_or_profile_is_read(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "1," * 2_000_000, zip=True)
    picture().save(tmp_path / "a.png", pnginfo=info)
    picture().save(tmp_path / "b.png", icc_profile=struct.pack(">I", 3 << 20) + bytes((3 << 20) - 4))
    picture().save(tmp_path / "c.png")
    a, b, c = (read_picture(tmp_path / f"{name}.png") for name in "abc")
    assert torch.equal(a, c) and torch.equal(b, c)


def test_every_way_to_cut_a_picture_off_is_a_picture_or_a_user_error(tmp_path):
    for kind, options in (
        ("PNG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("BMP", {}),
    ):
        buffer = io.BytesIO()
        picture().save(buffer, kind, **options)
        content = buffer.getvalue()
        for length in range(0, len(content), max(len(content) // 40, 1)):
            path = tmp_path / f"cut.{kind.lower()}"
            path.write_bytes(content[:length])
            try:
                assert read_picture(path).shape == (3, 48, 64)
            except UserError as error:
                assert str(error).startswith(path.name) and str(tmp_path) not in str(error)


def test_noise_in_a_picture_is_a_picture_or_a_user_error(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "TIFF", "GIF"):
        buffer = io.BytesIO()
        picture().save(buffer, kind, **({"exif": exif((0x112, 3, 1, b"\6\0"))} if kind == "JPEG" else {}))
        for _ in range(40):
            content = bytearray(buffer.getvalue())
            for place in rng.integers(0, min(len(content), 400), 6):
                content[place] = rng.integers(0, 256)
            path = tmp_path / f"noise.{kind.lower()}"
            path.write_bytes(content)
            try:
                read_picture(path)
            except UserError as error:
                assert str(error).startswith(path.name)


def test_deep_gray_in_an_album_is_neither_white_nor_black(tmp_path):
    gray = np.linspace(0, 65535, 64 * 48).reshape(48, 64)
    for values, name in ((gray.astype(np.int32), "int.tif"), ((gray / 65535).astype(np.float32), "float.tif")):
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_allclose(read_picture(tmp_path / name)[0].numpy(), gray / 65535, atol=1e-4)


def test_a_file_that_claims_more_pixels_than_it_can_hold_is_refused_before_it_is_decoded(tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 11000, 8, 2, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(opening.PNG + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    for read in (read_picture, comfy_files.load_image):
        with pytest.raises(UserError, match="16000 x 11000 pixels, which its"):
            read(path)


def test_a_picture_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")
    monkeypatch.setattr(opening.psutil, "virtual_memory", lambda: type("", (), {"available": 1000}))
    for read in (read_picture, comfy_files.load_image):
        with pytest.raises(UserError, match=r"a\.png has 64 x 48 pixels.*GB"):
            read(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="pipe.jpg: this is no file"):
        read_picture(tmp_path / "pipe.jpg")

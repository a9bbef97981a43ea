"""``run.py restore`` on files as people have them: what can be saved is saved, what is lost is said, and the rest goes on."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from personal_restore.cli import restore as command
from personal_restore.cli.main import main
from personal_restore.cli.own import without_previews
from personal_restore.cli.photograph import prepared_photograph, with_file_of_edit
from personal_restore.lib.standin import host
from personal_restore.tests.bundled import bundled
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin, TiffImagePlugin

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "make_inputs.py"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}, "_meta": {"title": "Photograph"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    "3": {"class_type": "ImageCompare", "inputs": {"image_a": ["1", 0], "image_b": ["1", 0], "compare_view": ""}},
}


@pytest.fixture(autouse=True)
def graph(tmp_path, monkeypatch) -> Path:
    """A workflow that gives the photograph back, so that only files matter."""
    monkeypatch.setattr(host, "folders", host.Folders(tmp_path / "none", tmp_path / "none"))
    monkeypatch.setattr(command, "folders", host.folders)
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(GRAPH))
    return path


@pytest.fixture
def photos_folder(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def restore(tmp_path, *folders, out: Path | None = None) -> int:
    """Restores the files of folders, each by its name."""
    photos = [file for folder in folders for file in sorted(folder.iterdir())]
    given = [*map(str, photos), "--workflow", str(tmp_path / "copy.json"), "--out", str(out or tmp_path / "out")]
    return main(["restore", *given])


def picture(size=(64, 48)) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 200, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


def block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block with entries (tag, type, count, bytes) exactly as given."""
    out = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return b"Exif\0\0" + out + b"".join(struct.pack("<HHI", *e[:3]) + e[3].ljust(4, b"\0") for e in entries) + bytes(4)


TURN = (0x112, 3, 1, struct.pack("<H", 6))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.mark.parametrize(
    "entry",
    [(0x11A, 2, 3, b"72\0"), (0x128, 4, 1, struct.pack("<I", 70000)), (0x8769, 4, 1, struct.pack("<I", 9999))],
    ids=["resolution is text", "unit of 70000", "a part that is not there"],
)
def test_exif_that_cannot_be_written_is_left_out_and_said(tmp_path, photos_folder, capsys, entry):
    artist = (0x13B, 2, 4, b"Ann\0")
    picture().save(photos_folder / "a.jpg", exif=block(TURN, entry, artist))
    picture().save(photos_folder / "b.jpg")
    assert restore(tmp_path, photos_folder) == 0
    result = opened(tmp_path / "out" / "a_restored.png")
    assert result.size == (48, 64) and result.getexif().get(0x13B) == "Ann"
    assert (tmp_path / "out" / "b_restored.png").is_file() and "error" not in capsys.readouterr().err


def test_garbage_where_exif_belongs_is_left_out_and_said(tmp_path, photos_folder, capsys):
    picture().save(photos_folder / "a.png", exif=b"Exif\0\0 not a TIFF at all, only noise")
    assert restore(tmp_path, photos_folder) == 0
    assert "EXIF" in capsys.readouterr().out and (tmp_path / "out" / "a_restored.png").is_file()


def test_metadata_that_is_too_large_is_left_out_and_said(tmp_path, photos_folder, capsys):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "1," * 2_000_000, zip=True)
    picture().save(photos_folder / "text.png", pnginfo=info)
    profile = struct.pack(">I", 3 << 20) + bytes((3 << 20) - 4)
    for name in ("profile.png", "profile.jpg"):
        picture().save(photos_folder / name, icc_profile=profile)
    assert restore(tmp_path, photos_folder) == 0
    assert capsys.readouterr().out.count("left out") == 3
    for name in ("text", "profile", "profile_2"):
        assert "icc_profile" not in opened(tmp_path / "out" / f"{name}_restored.png").info


def test_a_bad_file_is_named_and_the_others_are_restored(tmp_path, photos_folder, capsys):
    (photos_folder / "a text.jpg").write_text("no picture")
    (photos_folder / "empty.png").touch()
    picture().save(photos_folder / "good.png")
    assert restore(tmp_path, photos_folder) == 1
    said = capsys.readouterr().err
    assert "2 of 3 failed" in said and "a text.jpg" in said and "empty.png" in said
    assert (tmp_path / "out" / "good_restored.png").is_file() and "Traceback" not in said


def test_an_error_that_nobody_thought_of_ends_one_photograph_not_the_batch(
    tmp_path, photos_folder, monkeypatch, capsys
):
    for name in "ab":
        picture().save(photos_folder / f"{name}.png")
    real = command.comparison
    monkeypatch.setattr(
        command, "comparison", lambda *given: 1 / 0 if not list(tmp_path.glob("out/a_rep*")) else real(*given)
    )
    assert restore(tmp_path, photos_folder) == 1
    assert "2 of 2 failed" in capsys.readouterr().err


def test_a_picture_that_is_cut_off_is_restored_with_a_line_about_what_is_missing(tmp_path, photos_folder, capsys):
    for name, orientation in (("plain", 1), ("mirrored", 5)):
        tags, buffer = Image.Exif(), io.BytesIO()
        tags[0x112] = orientation
        picture((256, 192)).save(buffer, "JPEG", quality=95, exif=tags)
        (photos_folder / f"{name}.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert restore(tmp_path, photos_folder) == 0
    said = capsys.readouterr().out
    assert said.count("cut off: about") == 2 and said.index("cut off") < said.index("->")
    assert opened(tmp_path / "out" / "mirrored_restored.png").size == (192, 256)
    notes = json.loads((tmp_path / "out" / "plain_report.json").read_text())["notes"]
    assert any("cut off" in note for note in notes)


@pytest.mark.parametrize("orientation", [1, 5])
def test_cmyk_is_restored_in_its_colors(tmp_path, photos_folder, orientation):
    tags = Image.Exif()
    tags[0x112] = orientation
    picture().convert("CMYK").save(photos_folder / "a.jpg", quality=95, exif=tags)
    assert restore(tmp_path, photos_folder) == 0
    result = opened(tmp_path / "out" / "a_restored.png").convert("RGB")
    expected = picture() if orientation == 1 else picture().transpose(Image.Transpose.TRANSPOSE)
    assert np.abs(np.asarray(result, float) - np.asarray(expected, float)).mean() < 8


def test_transparency_is_carried_over(tmp_path, photos_folder):
    alpha = Image.new("L", (64, 48))
    ImageDraw.Draw(alpha).ellipse([10, 10, 50, 40], fill=255)
    image = picture()
    image.putalpha(alpha)
    image.save(photos_folder / "a.png")
    image.save(photos_folder / "b.webp", lossless=True)
    tags = Image.Exif()
    tags[0x112] = 2
    image.save(photos_folder / "c.png", exif=tags)
    assert restore(tmp_path, photos_folder) == 0
    for name in "abc":
        result = opened(tmp_path / "out" / f"{name}_restored.png")
        turned = alpha.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if name == "c" else alpha
        assert result.mode == "RGBA" and np.array_equal(result.getchannel("A"), turned)


def test_profile_and_transparency_are_those_of_the_edit(tmp_path):
    """The result has the edit's pixels, in its frame."""
    alpha = Image.new("L", (32, 24), 100)
    picture().save(tmp_path / "photo.png", icc_profile=PROFILE)
    cropped = picture().crop((0, 0, 32, 24))
    cropped.putalpha(alpha)
    cropped.save(tmp_path / "edit.png")
    photo, edit = (prepared_photograph(tmp_path / f"{name}.png", tmp_path) for name in ("photo", "edit"))
    of_edit, of_photo = with_file_of_edit(photo, edit), with_file_of_edit(edit, photo)
    assert of_edit.source == photo.source and of_edit.profile is None and of_edit.alpha == alpha
    assert of_edit.notes == (
        "the result has no color profile, as the edit",
        "the result has the transparency of the edit",
    )
    assert of_photo.profile == PROFILE and of_photo.alpha is None
    assert with_file_of_edit(photo, photo) == photo


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.tif", "a.png"])
def test_every_frame_is_restored_and_saved_in_the_same_kind_of_file(tmp_path, photos_folder, capsys, name):
    frames = [picture(), picture().rotate(180), picture().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    timing = {} if name == "a.tif" else {"duration": [100, 200, 300], "loop": 0}
    frames[0].save(photos_folder / name, save_all=True, append_images=frames[1:], **timing)
    assert restore(tmp_path, photos_folder) == 0
    said = capsys.readouterr().out
    assert said.index("3 frames or pages, which are restored one by one") < said.index("[1/")
    first = opened(tmp_path / "out" / "a_restored.png").convert("RGB")
    assert np.abs(np.asarray(first, float) - np.asarray(frames[0], float)).mean() < 20
    with (
        Image.open(tmp_path / "out" / f"a_restored{Path(name).suffix}") as result,
        Image.open(photos_folder / name) as source,
    ):
        assert (
            result.format == source.format
            and result.n_frames == 3
            and result.info.get("loop") == source.info.get("loop")
        )
        for number in range(3):
            for one in (result, source):
                one.seek(number)
                one.load()
            assert result.info.get("duration") == source.info.get("duration")
            apart = np.asarray(result.convert("RGB"), float) - np.asarray(source.convert("RGB"), float)
            assert np.abs(apart).mean() < 3
    report = json.loads((tmp_path / "out" / "a_report.json").read_text())
    assert len(report["further_frames"]) == 2
    pictures = [file for file in (tmp_path / "out").iterdir() if file.suffix != ".json"]
    assert len(pictures) >= 2 and all(map(command.is_result, pictures)), (
        "a later run takes none of them for a photograph"
    )


def test_pages_of_different_sizes_and_small_copies(tmp_path, photos_folder, capsys):
    plain, small = TiffImagePlugin.ImageFileDirectory_v2(), TiffImagePlugin.ImageFileDirectory_v2()
    small[254] = 1
    with TiffImagePlugin.AppendingTiffWriter(str(photos_folder / "a.tif"), True) as file:
        for page, tags in ((picture(), plain), (picture((8, 6)), small), (picture((40, 80)), plain)):
            page.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    assert restore(tmp_path, photos_folder) == 0
    assert "page 2 is a small copy" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "a_restored.tif") as result:
        sizes = [result.size for number in range(result.n_frames) if result.seek(number) is None]
    assert sizes == [(64, 48), (40, 80)]


def test_a_file_cut_off_between_its_frames_gives_the_frames_that_are_there(tmp_path, photos_folder, capsys):
    frames = [Image.effect_noise((64, 48), 80).convert("RGB") for _ in range(3)]
    frames[0].save(tmp_path / "whole.tif", save_all=True, append_images=frames[1:])
    content = bytearray((tmp_path / "whole.tif").read_bytes())
    with Image.open(tmp_path / "whole.tif") as image:
        image.seek(2)
        offset = image.tag_v2[273][0]
    (photos_folder / "a.tif").write_bytes(content[: offset + 100])
    assert restore(tmp_path, photos_folder) == 0
    assert "frame 3 and the rest cannot be read" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "a_restored.tif") as result:
        assert result.n_frames == 2


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        ([], "no face was found"),
        ([{"turn": 3}], ""),
        ([{"turn": -88}, {"turn": 2}], "1 face(s) do not lie upright: turned by -88 degrees"),
        (None, ""),
    ],
)
def test_faces_that_were_turned_or_not_found_are_said(tmp_path, photos_folder, capsys, faces, words):
    report = {"damage": None} | (
        {} if faces is None else {"faces": [one | {"box": [1, 1, 9, 9], "person": None} for one in faces]}
    )
    shown = {"4": {"class_type": "PreviewAny", "inputs": {"source": json.dumps(report)}}} if faces is not None else {}
    (tmp_path / "copy.json").write_text(json.dumps(GRAPH | shown))
    picture().save(photos_folder / "a.png")
    assert restore(tmp_path, photos_folder) == 0
    said = capsys.readouterr().out
    assert words in said and (words or "note" not in said)
    assert (
        any(words in note for note in json.loads((tmp_path / "out" / "a_report.json").read_text())["notes"])
        or not words
    )


@pytest.mark.parametrize(
    ("values", "full"),
    [(np.int32, 65535), (np.int32, 255), (np.float32, 1), (np.float32, 255), (np.uint16, 65535)],
)
def test_deep_gray_is_scaled_to_what_its_values_can_be(tmp_path, photos_folder, values, full):
    gray = np.linspace(0, full, 64 * 48).reshape(48, 64)
    Image.fromarray(gray.astype(values)).save(photos_folder / "a.tif")
    assert restore(tmp_path, photos_folder) == 0
    result = np.asarray(opened(tmp_path / "out" / "a_restored.png").convert("L"), float)
    assert np.abs(result - gray / full * 255).max() < 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -7.0])
def test_floats_without_a_meaning_are_refused_with_words(tmp_path, photos_folder, capsys, value):
    gray = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    gray[3, 4] = value
    Image.fromarray(gray).save(photos_folder / "a.tif")
    assert restore(tmp_path, photos_folder) == 1
    assert "a.tif: " in (said := capsys.readouterr().err) and "values" in said
    assert not list(tmp_path.glob("out/*"))


def test_a_name_that_is_too_long_for_the_results_is_shortened(tmp_path, photos_folder):
    for name in ("x" * 248, "ü" * 124):
        picture().save(photos_folder / f"{name}.png")
    assert restore(tmp_path, photos_folder) == 0
    assert restore(tmp_path, photos_folder) == 0
    results = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(results) == 12 and max(len(os.fsencode(name)) for name in results) <= 255


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_name_in_another_encoding_is_restored_and_printed(tmp_path, photos_folder):
    picture().save(Path(os.fsdecode(os.fsencode(photos_folder) + b"/gr\xfc\xdfe.png")))
    tags = Image.Exif()
    tags[0x112] = 4
    picture().save(Path(os.fsdecode(os.fsencode(photos_folder) + b"/m\xfctze.jpg")), exif=tags)
    assert restore(tmp_path, photos_folder) == 0
    names = [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()]
    assert b"gr\xfc\xdfe_restored.png" in names and b"m\xfctze_report.json" in names
    for report in (tmp_path / "out").glob("*.json"):
        json.loads(report.read_text(encoding="utf-8"))


def test_a_console_that_cannot_print_a_name_prints_something_else(tmp_path, photos_folder, monkeypatch):
    picture().save(photos_folder / "Übergröße 日本.png")
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert restore(tmp_path, photos_folder) == 0
    console.flush()
    assert rb"gr\xf6\xdfe" in console.buffer.getvalue()


def test_an_output_folder_that_cannot_be_written_is_noticed_before_anything_is_computed(
    tmp_path, photos_folder, capsys
):
    picture().save(photos_folder / "a.png")
    (tmp_path / "file").write_text("text")
    assert restore(tmp_path, photos_folder, out=tmp_path / "file") == 1
    said = capsys.readouterr()
    assert "--out" in said.err and "Choose another folder" in said.err and "[1/" not in said.out


def test_a_disk_that_fills_up_during_the_work_is_a_user_error_without_leftovers(
    tmp_path, photos_folder, monkeypatch, capsys
):
    picture().save(photos_folder / "a.png")

    def full(*given) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_whole", full)
    assert restore(tmp_path, photos_folder) == 1
    assert "No space left on device" in (said := capsys.readouterr().err) and "Traceback" not in said


def test_results_get_their_names_when_they_are_complete(tmp_path, photos_folder, monkeypatch):
    picture().save(photos_folder / "a.png")
    monkeypatch.setattr(
        Image.Image, "save", lambda *given, **more: (_ for _ in ()).throw(OSError(5, "Input/output error"))
    )
    assert restore(tmp_path, photos_folder) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_picture_over_pillows_limit_is_restored(tmp_path, photos_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture().save(photos_folder / "a.png")
    assert restore(tmp_path, photos_folder) == 0
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_picture_that_memory_cannot_hold_is_refused_with_its_size(tmp_path, photos_folder, monkeypatch, capsys):
    from personal_restore.lib.pictures import opening

    picture().save(photos_folder / "a.png")
    monkeypatch.setattr(opening.psutil, "virtual_memory", lambda: type("", (), {"available": 100_000}))
    assert restore(tmp_path, photos_folder) == 1
    assert "a.png has 64 x 48 pixels, which need about" in capsys.readouterr().err


def test_a_small_file_that_says_it_is_huge_is_refused_at_once(tmp_path, photos_folder, capsys):
    (photos_folder / "a.png").write_bytes(huge())
    assert restore(tmp_path, photos_folder) == 1
    assert "16000 x 11000 pixels, which its" in capsys.readouterr().err


def huge() -> bytes:
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 11000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_previews_do_not_outlive_their_photograph(tmp_path, photos_folder, monkeypatch):
    for name in "ab":
        picture().save(photos_folder / f"{name}.png")
    left = []
    real = command.comparison
    monkeypatch.setattr(
        command, "comparison", lambda *given: (left.append(list(host.folders.temp.iterdir())), real(*given))[1]
    )
    assert restore(tmp_path, photos_folder) == 0
    assert left == [[], []]


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[1]", '{"faces": 3}', '{"faces": [{"box": "x"}, {"person": 1, "box": [1, 2, 3, 4]}]}', "[" * 9999],
)
def test_a_text_that_is_no_report_does_not_stop_a_restoration(tmp_path, photos_folder, text):
    show = {"class_type": "PreviewAny", "inputs": {"source": text}, "_meta": {"title": "/home/me/report"}}
    (tmp_path / "copy.json").write_text(json.dumps(GRAPH | {"4": show}))
    picture().save(photos_folder / "a.png")
    assert restore(tmp_path, photos_folder) == 0
    report = (tmp_path / "out" / "a_report.json").read_text()
    assert "/home/me" not in report


def test_every_case_of_the_collection_ends_as_it_should(tmp_path, capsys):
    if not CASES.is_file():
        pytest.skip(f"no collection of odd inputs at {CASES}")
    spec = importlib.util.spec_from_file_location("make_inputs", CASES)
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    cases.main(tmp_path / "cases")
    for folder in sorted((tmp_path / "cases").iterdir()):
        bad = {"text", "empty"} if folder.name == "cut_off" else set()
        assert restore(tmp_path, folder, out=tmp_path / folder.name) == int(bool(bad)), folder.name
        made = {path.name.removesuffix("_restored.png") for path in (tmp_path / folder.name).glob("*_restored.png")}
        assert made == {path.stem for path in folder.iterdir()} - bad
    assert "Traceback" not in capsys.readouterr().err
    for name in ("int32", "rgb16", "cutout", "cmyk"):
        pixels = np.asarray(opened(tmp_path / "depths" / f"{name}_restored.png").convert("RGB"), float)
        assert 60 < pixels.mean() < 200


def test_what_only_the_editor_shows_is_not_computed():
    graph = bundled("face2scene")
    used = graph | {"own": {"class_type": "SaveImage", "inputs": {"images": ["23", 0], "filename_prefix": "a"}}}
    assert graph["23"]["class_type"] == "PreviewImage" and "image" in graph["35:11"]["inputs"]
    for given, kept in ((graph, set()), (used, {"23"})):
        left = without_previews(given)
        assert {id for id, node in left.items() if node["class_type"] == "PreviewImage"} == kept
        assert "image" not in left["35:11"]["inputs"]
        assert {"20", "19", "22"} <= left.keys(), "the result, the comparison and the report"
    assert "image" in graph["35:11"]["inputs"]

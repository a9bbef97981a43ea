"""Albums and picture files as people really keep them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import detect, embed, gate, library, mtcnn
from personal_restore.lib.faces.embed import Classical
from personal_restore.lib.pictures.files import read_picture, to_pil
from personal_restore.lib.standin import host
from personal_restore.lib.vocabulary import Library, Person, Reference, UserError
from PIL import Image, ImageFilter

needs_detector = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)


@pytest.fixture
def portrait(astronaut) -> Image.Image:
    pixels = (astronaut[0, :, :260, 90:350] * 255).round().byte()[:, ::2, ::2]
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def save(image: Image.Image, path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def test_every_mode_becomes_three_channels(tmp_path, portrait):
    expected = read_picture_of(portrait, tmp_path / "rgb.png")
    assert expected.shape == (3, 130, 130) and expected.dtype == torch.float32
    grey = read_picture_of(portrait.convert("L"), tmp_path / "grey.png")
    assert grey.shape == expected.shape and torch.equal(grey[0], grey[2])
    rgba = portrait.convert("RGBA")
    rgba.putalpha(100)
    assert torch.equal(read_picture_of(rgba, tmp_path / "rgba.png"), expected)
    palette = read_picture_of(portrait.convert("P"), tmp_path / "palette.png")
    assert (palette - expected).abs().mean() < 0.08
    cmyk = read_picture_of(portrait.convert("CMYK"), tmp_path / "cmyk.tif")
    assert (cmyk - expected).abs().mean() < 0.02


def read_picture_of(image: Image.Image, path) -> torch.Tensor:
    image.save(path)
    return read_picture(path)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    picture = read_picture(tmp_path / "deep.png")
    torch.testing.assert_close(picture[1], torch.from_numpy(ramp.astype(np.float32) / 65535))


@needs_detector
def test_a_large_jpeg_is_read_with_fewer_pixels_if_its_face_has_enough_of_them(tmp_path, astronaut, monkeypatch):
    """Measured: the crop differs by .19 levels in the mean, the landmarks by .01 pixels."""
    large = torch.nn.functional.interpolate(astronaut[:, :, :260, 90:350], size=(2568, 2568), mode="bicubic")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = torch.rot90(large[0], 1, (1, 2))
    save(to_pil(turned), tmp_path / "someone" / "large.jpg", quality=95, exif=exif)
    (reduced,) = library.load_library(tmp_path, Classical()).people[0].references
    monkeypatch.setattr(library, "REDUCED_CROP", 10**6)
    (whole,) = library.load_library(tmp_path, Classical()).people[0].references
    assert not torch.equal(reduced.crop, whole.crop)
    assert (reduced.crop - whole.crop).abs().mean() < 1 / 255
    assert reduced.embedding @ whole.embedding > 0.999


@needs_detector
def test_a_small_face_in_a_large_jpeg_is_read_with_all_pixels(tmp_path, astronaut):
    large = torch.full((3, 2560, 2560), 0.5)
    large[:, 600:1112, 600:1112] = astronaut[0]
    save(to_pil(large), tmp_path / "small.jpg", quality=95)
    picture, found = library._read_portrait(tmp_path / "small.jpg", None)
    assert torch.equal(picture, read_picture(tmp_path / "small.jpg"))
    assert [600 < place < 1112 for place in found[0].box] == [True] * 4


def test_exif_orientation_is_applied(tmp_path, portrait):
    exif = Image.Exif()
    exif[0x0112] = 6
    portrait.crop((0, 0, 120, 60)).save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png").shape == (3, 120, 60)


@pytest.mark.parametrize(("name", "content"), [("note.jpg", b"dear diary"), ("empty.png", b""), ("gone.png", None)])
def test_a_file_that_is_no_picture_is_named_without_its_folder(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as error:
        read_picture(tmp_path / name)
    assert str(tmp_path) not in str(error.value)


def test_a_cut_off_picture_is_a_user_error(tmp_path, portrait):
    save(portrait, tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.jpg"):
        read_picture(tmp_path / "cut.jpg")


@needs_detector
def test_an_album_of_everything_gives_people_and_names_what_was_skipped(tmp_path, portrait):
    album = tmp_path / "Ordner mit Bildern"
    save(portrait, album / "Zoë Müller" / "mit leerzeichen ß.jpg")
    save(portrait.convert("RGBA"), album / "Zoë Müller" / "alpha.png")
    save(portrait.convert("L"), album / "Zoë Müller" / "sub" / "grey.png")
    save(Image.new("RGB", (200, 200), "teal"), album / "Zoë Müller" / "wall.png")
    (album / "Zoë Müller" / "letter.jpg").write_text("not a picture")
    (album / "Zoë Müller" / "notes.txt").write_text("ignored")
    (album / "Zoë Müller" / "._alpha.png").write_text("resource fork")
    save(portrait, album / "stray.png")
    (album / "nobody here").mkdir()

    result = library.load_library(album, Classical())
    assert [person.name for person in result.people] == ["Zoë Müller"]
    references = result.people[0].references
    assert sorted(reference.name for reference in references) == ["alpha.png", "grey.png", "mit leerzeichen ß.jpg"]
    for reference in references:
        assert reference.crop.shape == (3, 512, 512)
        assert np.linalg.norm(reference.embedding) == pytest.approx(1, abs=1e-5)
        assert reference.landmarks.min() > 0 and reference.landmarks.max() < 512
    assert result.embedder == "classical"
    notes = "\n".join(result.notes)
    assert "letter.jpg" in notes and "wall.png, no face" in notes and "stray.png" in notes
    assert len(result.notes) == 3 and str(tmp_path) not in notes


@needs_detector
def test_a_folder_of_pictures_is_one_person_named_after_it(tmp_path, portrait):
    save(portrait, tmp_path / "Eileen" / "one.png")
    result = library.load_library(tmp_path / "Eileen", None)
    assert [person.name for person in result.people] == ["Eileen"]
    assert result.embedder == "none" and result.people[0].references[0].embedding is None
    assert any("only 1 usable" in note for note in result.notes)


@needs_detector
def test_only_the_ten_most_detailed_references_are_kept(tmp_path, portrait):
    for number in range(12):
        side = 130 if number < 10 else 110
        save(portrait.resize((side, side)), tmp_path / "Eileen" / f"{number:02}.png")
    result = library.load_library(tmp_path / "Eileen", None)
    assert {reference.name for reference in result.people[0].references} == {f"{number:02}.png" for number in range(10)}
    assert any("the 10 largest and sharpest of 12 pictures" in note for note in result.notes)


@needs_detector
def test_of_several_faces_the_largest_is_taken_and_noted(tmp_path, portrait):
    wide = Image.new("RGB", (300, 140), "grey")
    wide.paste(portrait.resize((70, 70)), (10, 70))
    wide.paste(portrait, (140, 0))
    save(wide, tmp_path / "Eileen" / "two.png")
    alone = Image.new("RGB", (300, 140), "grey")
    alone.paste(portrait, (140, 0))
    save(alone, tmp_path / "Alone" / "one.png")
    both = library.load_library(tmp_path, None)
    assert any("two.png shows 2 faces" in note for note in both.notes)
    one, two = (both.get(name).references[0].crop for name in ("Alone", "Eileen"))
    assert (one - two)[:, 128:384, 128:384].abs().mean() < 0.02


def test_an_empty_album_is_an_empty_library_with_a_note(tmp_path):
    result = library.load_library(tmp_path, Classical())
    assert result.people == () and "empty" in result.notes[0]


def test_a_missing_album_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        library.load_library(tmp_path / "nowhere", None)


@needs_detector
def test_pictures_from_the_graph_make_a_library_too(astronaut):
    images = torch.cat([astronaut, astronaut.flip(3), torch.full_like(astronaut, 0.3)])
    result = library.library_from_images(images, "Eileen", Classical())
    assert [reference.name for reference in result.people[0].references] == ["image 0", "image 1"]
    assert any("image 2, no face" in note for note in result.notes)


def test_the_fingerprint_changes_exactly_when_the_album_does(tmp_path, portrait):
    album = tmp_path / "Zoë M"
    save(portrait, album / "a.png")
    first = library.album_fingerprint(album)
    assert library.album_fingerprint(album) == first
    (album / "notes.txt").write_text("no picture")
    assert library.album_fingerprint(album) == first

    save(portrait, album / "sub" / "b.png")
    added = library.album_fingerprint(album)
    os.utime(album / "a.png", (1, 1))
    changed = library.album_fingerprint(album)
    shutil.move(album / "a.png", album / "c.png")
    renamed = library.album_fingerprint(album)
    (album / "c.png").unlink()
    removed = library.album_fingerprint(album)
    assert len({first, added, changed, renamed, removed}) == 5
    assert library.album_fingerprint(tmp_path / "nowhere") == library.album_fingerprint(tmp_path / "neither")


def test_a_person_whose_folder_is_a_link_is_read_and_watched(tmp_path, portrait):
    save(portrait, tmp_path / "elsewhere" / "a.png")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "Eileen").symlink_to(tmp_path / "elsewhere")
    seen = [library.album_fingerprint(tmp_path / "album")]
    save(portrait, tmp_path / "elsewhere" / "b.png")
    seen.append(library.album_fingerprint(tmp_path / "album"))
    (tmp_path / "elsewhere" / "a.png").unlink()
    seen.append(library.album_fingerprint(tmp_path / "album"))
    (tmp_path / "album" / "Eileen").rename(tmp_path / "album" / "Zoë")
    seen.append(library.album_fingerprint(tmp_path / "album"))
    assert len(set(seen)) == 4


def test_a_picture_that_was_replaced_by_one_of_the_same_size_and_time_is_noticed(tmp_path):
    for number, path in enumerate(("Eileen/a.png", "other.png")):
        save(Image.new("RGB", (8, 8), ("red", "blue")[number]), tmp_path / path)
    path = tmp_path / "Eileen" / "a.png"
    status, before = path.stat(), library.album_fingerprint(tmp_path / "Eileen")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size and library.album_fingerprint(tmp_path / "Eileen") != before


def test_links_that_form_a_circle_or_lead_nowhere_do_no_harm(tmp_path):
    (tmp_path / "Eileen").mkdir()
    (tmp_path / "Eileen" / "up").symlink_to(tmp_path)
    (tmp_path / "Eileen" / "gone.png").symlink_to(tmp_path / "nothing.png")
    library.album_fingerprint(tmp_path)
    assert library.load_library(tmp_path, None).people == ()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_an_album_with_names_in_another_encoding_has_a_fingerprint(tmp_path):
    (tmp_path / os.fsdecode(b"Zo\xeb")).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / os.fsdecode(b"Zo\xeb/m\xfc.png"))
    assert library.album_fingerprint(tmp_path)


@pytest.mark.parametrize("link", ["Eileen", "Eileen/b.png"])
def test_a_link_out_of_the_allowed_folders_is_skipped_and_named(tmp_path, portrait, monkeypatch, link):
    monkeypatch.setattr(host, "folders", host.Folders(tmp_path / "input", tmp_path / "output"))
    secret = tmp_path / "secret"
    save(portrait, secret / "b.png")
    save(portrait, tmp_path / "input" / "album" / "Neil" / "a.png")
    target = tmp_path / "input" / "album" / link
    target.parent.mkdir(exist_ok=True)
    target.symlink_to(secret if link == "Eileen" else secret / "b.png")
    result = library.load_library(host.resolve_input("album"), None, allowed=host.resolve_input)
    assert "Eileen" not in [person.name for person in result.people]
    assert any("Eileen: skipped b.png, it is a link that leads out" in note for note in result.notes)


class Hue:
    """Tells people by whether red or blue is stronger in their pictures."""

    name, threshold, alone, proposes = "hue", 0.5, 0.5, False

    def embed(self, crop: torch.Tensor) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[int(crop[2].mean() > crop[0].mean())]

    def similarity(self, faces: np.ndarray, references: np.ndarray) -> np.ndarray:
        return faces @ references.T


def tinted(portrait: Image.Image, other: bool) -> Image.Image:
    red, green, blue = portrait.split()
    red, blue = (red.point(lambda v: v // 2), blue) if other else (red, blue.point(lambda v: v // 2))
    return Image.merge("RGB", (red, green, blue))


@needs_detector
def test_pictures_that_show_somebody_else_are_named_and_not_used(tmp_path, portrait):
    for number in range(5):
        save(tinted(portrait, other=number in (1, 3)), tmp_path / "Eileen" / f"{number}.png")
    result = library.load_library(tmp_path, Hue())
    assert [reference.name for reference in result.people[0].references] == ["0.png", "2.png", "4.png"]
    assert [note for note in result.notes if "in the other pictures" in note] == [
        f"Eileen: skipped {number}.png, it does not look like the person in the other pictures." for number in (1, 3)
    ]


@needs_detector
@pytest.mark.skipif(
    detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat") is None,
    reason="dlib's network is not installed; python run.py test installs it",
)
@pytest.mark.parametrize(("man", "other"), [("obama", "biden"), ("biden", "obama")])
def test_another_man_among_two_real_pictures_is_named(photos, tmp_path, man, other):
    for name in (f"{man}_{man}", f"{man}_{man}2", f"{other}_{other}"):
        shutil.copy(photos / "face_recognition" / f"{name}.jpg", tmp_path)
    result = library.load_library(tmp_path, embed.by_name("dlib"))
    assert [reference.name for reference in result.people[0].references] == [f"{man}_{man}.jpg", f"{man}_{man}2.jpg"]
    assert any(f"skipped {other}_{other}.jpg, it does not look like" in note for note in result.notes)


@needs_detector
@pytest.mark.parametrize("embedder", [Hue(), Classical()], ids=["knows", "proposes"])
def test_where_no_majority_agrees_all_are_used(tmp_path, portrait, embedder):
    for number in range(4):
        save(tinted(portrait, other=number < 2), tmp_path / "Eileen" / f"{number}.png")
    result = library.load_library(tmp_path, embedder)
    assert len(result.people[0].references) == 4
    assert any("do not look like the same person" in note for note in result.notes) == (not embedder.proposes)


@needs_detector
def test_small_and_blurred_pictures_are_named_with_the_reason_and_not_used(tmp_path, portrait):
    for number in range(3):
        save(portrait, tmp_path / "Eileen" / f"{number}.png")
    save(portrait.resize((60, 60)), tmp_path / "Eileen" / "small.png")
    large = portrait.resize((520, 520), Image.Resampling.BICUBIC)
    save(large.filter(ImageFilter.GaussianBlur(12)), tmp_path / "Eileen" / "blurred.png")
    result = library.load_library(tmp_path, None)
    assert len(result.people[0].references) == 3 and len(result.notes) == 2
    assert any("small.png, the face is too small" in note for note in result.notes)
    assert any("blurred.png, the face is blurred" in note for note in result.notes)


def similarities(*groups: int) -> np.ndarray:
    of = np.repeat(np.arange(len(groups)), groups)
    return np.where(of[:, None] == of, 0.7, 0.3)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [((), None), ((1,), []), ((4,), []), ((2, 1), [2]), ((1, 2), [0]), ((5, 2), [5, 6]), ((3, 1, 1), [3, 4])]
    + [((1, 1), None), ((2, 2), None), ((1, 1, 1), None), ((3, 2, 2), None)],
)
def test_outliers_are_those_that_a_majority_does_not_look_like(groups, expected):
    found = gate.outliers(similarities(*groups), 0.5)
    assert found == expected or sorted(found) == expected


def test_a_flat_picture_is_not_sharp():
    assert gate.crop_sharpness(torch.full((3, 512, 512), 0.5)) == 0


def people(*names: str, count: int) -> Library:
    references = tuple(Reference(f"{index}.png", torch.rand(3, 512, 512), np.zeros((5, 2))) for index in range(count))
    return Library(tuple(Person(name, references) for name in names))


def test_a_merged_person_keeps_at_most_ten_references():
    first, second = people("Zoë", count=6), people("Zoë", "Ann", count=6)
    merged = library.merge_libraries(first, second)
    assert [len(person.references) for person in merged.people] == [10, 6]
    assert any("the 10 largest and sharpest of 12 pictures" in note for note in merged.notes)

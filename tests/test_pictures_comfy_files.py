"""Reading and writing pictures. That the bytes are ComfyUI's is tested in tests/comfyui."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from personal_restore.lib.pictures import comfy_files as images
from personal_restore.lib.standin import host
from personal_restore.lib.standin.core_nodes import as_text, without_paths
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.vocabulary import UserError
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)


@pytest.fixture
def folders(tmp_path, monkeypatch) -> host.Folders:
    made = host.Folders(tmp_path / "input", tmp_path / "output")
    made.input.mkdir()
    monkeypatch.setattr(host, "folders", made)
    return made


def test_a_png_is_read_exactly(tmp_path):
    Image.fromarray(PIXELS[..., :3]).save(tmp_path / "a b.png")
    image, mask = images.load_image(tmp_path / "a b.png")
    assert torch.equal(image, torch.from_numpy(PIXELS[None, ..., :3]).float() / 255)
    assert mask.shape == (1, 64, 64) and not mask.any()


def test_alpha_becomes_the_mask_upside_down(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "alpha.png")
    image, mask = images.load_image(tmp_path / "alpha.png")
    assert image.shape == (1, 5, 7, 3)
    assert torch.equal(mask, 1 - torch.from_numpy(PIXELS[None, ..., 3]).float() / 255)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_turned_photograph_is_set_upright(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.fromarray(PIXELS[..., :3]).resize((48, 32), Image.BICUBIC)
    smooth.save(tmp_path / "plain.jpg", quality=95)
    smooth.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    plain, turned = (images.load_image(tmp_path / name)[0] for name in ("plain.jpg", "turned.jpg"))
    assert torch.equal(turned, plain.rot90(turns, (1, 2)))


@pytest.mark.parametrize("name", ["text.jpg", "text.png", "text.webp", "text", "empty.jpg"])
def test_a_file_that_is_no_picture_is_named(tmp_path, name):
    (tmp_path / name).write_text("" if name.startswith("empty") else "shopping list: eggs, milk\n" * 20)
    with pytest.raises(UserError, match=f"^{name} cannot be read as a picture"):
        images.load_image(tmp_path / name)


def test_pictures_are_numbered_on_and_never_overwritten(tmp_path):
    batch = torch.rand(2, 4, 4, 3)
    (tmp_path / "x_00007_.png").touch()
    (tmp_path / "xy_00099_.png").touch()
    assert [file["filename"] for file in images.save_images(batch, "x", tmp_path)] == ["x_00008_.png", "x_00009_.png"]
    assert [file["filename"] for file in images.save_images(batch, "x", tmp_path)] == ["x_00010_.png", "x_00011_.png"]
    assert (tmp_path / "x_00007_.png").stat().st_size == 0


def test_a_picture_survives_being_saved_and_read(tmp_path):
    image = torch.from_numpy(PIXELS[None, ..., :3]).float() / 255
    (saved,) = images.save_images(image, "sub/%width%x%height%", tmp_path, {"prompt": "{}"})
    assert saved == {"filename": "7x5_00001_.png", "subfolder": "sub"}
    assert torch.equal(images.load_image(tmp_path / "sub" / "7x5_00001_.png")[0], image)


def test_a_prefix_that_leads_out_of_the_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="leads out of the output folder"):
        images.save_images(torch.zeros(1, 2, 2, 3), "../x", tmp_path / "output")
    assert not list(tmp_path.glob("*.png"))


def test_a_graph_of_core_nodes_copies_a_photograph(folders):
    Image.fromarray(PIXELS[..., :3]).save(folders.input / "photo.png")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "ImageCompare", "inputs": {"image_a": ["1", 0], "compare_view": ""}},
    }
    results = run_graph(graph, ())
    assert results.ui["2"] == {"images": [{"filename": "copy_00001_.png", "subfolder": "", "type": "output"}]}
    with Image.open(folders.output / "copy_00001_.png") as copy:
        assert np.array_equal(np.array(copy), PIXELS[..., :3])
    (preview,) = results.ui["3"]["images"]
    assert preview["type"] == "temp" and (folders.temp / preview["filename"]).is_file()
    assert len(results.ui["4"]["a_images"]) == 1 and results.ui["4"]["b_images"] == []


def test_a_photograph_that_is_not_there_is_told_before_anything_runs(folders):
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }
    with pytest.raises(UserError, match=r"node 1 \(LoadImage\), input image: There is no 'photo.png' in"):
        run_graph(graph, ())
    assert not folders.output.exists()


def test_metadata_carries_the_graph_without_paths(folders):
    Image.fromarray(PIXELS).save(folders.input / "photo.png")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": str(folders.input / "photo.png")}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
    }
    run_graph(graph, ())
    with Image.open(folders.output / "copy_00001_.png") as copy:
        prompt = json.loads(copy.text["prompt"])
    assert prompt["1"]["inputs"] == {"image": "photo.png"} and prompt["2"] == graph["2"]


def test_windows_paths_are_shortened_too_and_other_text_is_not():
    inputs = {"a": "C:\\Users\\me\\mum.jpg", "b": "a / b", "c": "sub/x.png", "d": 3}
    graph = without_paths({"1": {"class_type": "X", "inputs": inputs}})
    assert graph["1"]["inputs"] == inputs | {"a": "mum.jpg"}


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (1.5, "1.5"), (True, "True"), (None, "None"), ({"ä": 1}, '{\n    "ä": 1\n}'), ({1}, "{1}")],
)
def test_values_are_previewed_as_core_does(value, text):
    assert as_text(value) == text

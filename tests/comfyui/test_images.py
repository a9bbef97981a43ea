"""LoadImage and SaveImage without ComfyUI give the bytes that they give in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.pictures import comfy_files as images
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.comfyui


def made_pictures(folder: Path) -> None:
    """One small picture of every kind that takes a way of its own through the decoders."""
    random = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(random.integers(0, 256, (9, 11, 4), np.uint8)).resize((75, 53), Image.BICUBIC))
    color, alpha = Image.fromarray(smooth[..., :3]), Image.fromarray(smooth)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        color.save(folder / f"orientation {orientation}.jpg", exif=exif)
    for subsampling in range(3):
        color.save(folder / f"subsampling {subsampling}.jpg", subsampling=subsampling, quality=70)
    color.convert("L").save(folder / "grey.jpg")
    color.convert("CMYK").save(folder / "cmyk.jpg")
    color.save(folder / "progressive.jpg", progressive=True)
    color.save(folder / "color.png")
    color.convert("L").save(folder / "grey.png")
    color.convert("P").save(folder / "palette.png")
    color.convert("1").save(folder / "black and white.png")
    alpha.save(folder / "alpha.png")
    alpha.convert("LA").save(folder / "grey alpha.png")
    Image.fromarray(smooth[..., 0].astype(np.uint16) * 257).save(folder / "grey 16 bit.png")
    color.save(folder / "lossy.webp", quality=80)
    alpha.save(folder / "alpha lossless.webp", lossless=True)
    color.save(folder / "animated.webp", save_all=True, append_images=[color.rotate(180)], duration=100)
    color.save(folder / "animated.gif", save_all=True, append_images=[color.rotate(180)], duration=100)
    color.save(folder / "color.bmp")
    color.save(folder / "color.tiff")
    truncated = (folder / "progressive.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(truncated[: len(truncated) * 2 // 3])


@pytest.fixture
def differences(inside, tmp_path):
    """differences(folder) are the names of the files in a folder that ComfyUI's LoadImage reads otherwise than ours."""

    def compare(folder: Path) -> list[str]:
        files, out = sorted(folder.iterdir()), tmp_path / "read.safetensors"
        inside(f"""
            import safetensors.torch
            before = folder_paths.get_input_directory()
            folder_paths.set_input_directory({str(folder)!r})
            tensors = {{}}
            for index, name in enumerate({[file.name for file in files]!r}):
                image, mask = nodes.LoadImage().load_image(name)
                tensors |= {{f"image{{index}}": image.contiguous(), f"mask{{index}}": mask.contiguous()}}
            folder_paths.set_input_directory(before)
            safetensors.torch.save_file(tensors, {str(out)!r})
        """)
        theirs = load_file(out)
        ours = [images.load_image(file) for file in files]
        return [
            file.name
            for index, (file, (image, mask)) in enumerate(zip(files, ours, strict=True))
            if not (torch.equal(image, theirs[f"image{index}"]) and torch.equal(mask, theirs[f"mask{index}"]))
        ]

    return compare


def test_photographs_are_read_to_the_same_bytes(differences, photos, tmp_path):
    (tmp_path / "input").mkdir()
    chosen = sorted(photos.rglob("*.jpg"), key=lambda path: (path.stat().st_size, path))[::5]
    for index, source in enumerate(chosen):
        (tmp_path / "input" / f"{index} {source.name}").write_bytes(source.read_bytes())
    assert chosen and differences(tmp_path / "input") == []


def test_every_kind_of_picture_is_read_to_the_same_bytes(differences, tmp_path):
    (tmp_path / "input").mkdir()
    made_pictures(tmp_path / "input")
    assert differences(tmp_path / "input") == []


def test_saved_files_have_the_names_and_pixels_of_comfyui(comfyui, tmp_path, monkeypatch):
    from personal_restore.lib.standin import host
    from personal_restore.lib.standin.runner import run_graph

    monkeypatch.setattr(host, "folders", host.Folders(tmp_path / "input", tmp_path / "output"))
    (tmp_path / "input").mkdir()
    made_pictures(tmp_path / "input")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "animated.webp"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a b/%width%_x%batch_num%"}},
    }
    comfyui.upload(tmp_path / "input" / "animated.webp")
    for _ in range(2):
        graph["2"]["inputs"]["filename_prefix"] += "_"
        _, theirs = comfyui.queue(graph)
        ours = run_graph(graph, ()).ui["2"]["images"]
        assert [Path(file["subfolder"], file["filename"]) for file in ours] == [
            file.path.relative_to(comfyui.base / "output") for file in theirs
        ]
        for file, reference in zip(ours, theirs, strict=True):
            path = tmp_path / "output" / file["subfolder"] / file["filename"]
            with Image.open(path) as a, Image.open(reference.path) as b:
                assert a.mode == b.mode and np.array_equal(np.array(a), np.array(b))
                assert json.loads(a.text["prompt"]) == graph == without_fingerprints(json.loads(b.text["prompt"]))


def without_fingerprints(graph: dict) -> dict:
    """ComfyUI notes beside the inputs what its cache goes by."""
    return {id: {key: value for key, value in node.items() if key != "is_changed"} for id, node in graph.items()}

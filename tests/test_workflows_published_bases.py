"""The workflows on published bases: with narrow random weights in the published layouts of the files, and without any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.cli import own
from personal_restore.lib.standin.host import allow_folder, folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.models.gen2res import adm_unet
from personal_restore.models.shared.catalogue import entry
from personal_restore.nodes import NODES
from personal_restore.nodes import generation as generation_nodes
from personal_restore.tests import tiny_published
from personal_restore.tests.bundled import WORKFLOWS, bundled, node
from personal_restore.tests.photographs import picture, pixels

pytestmark = pytest.mark.usefixtures("separate_folders")
NEEDED = {
    "pfstorer_stablesr": ["stablesr-512"],
    "dualpivot_diffbir": ["sd21-base", "diffbir-v1-face", "diffbir-swinir-face"],
    "gen2res_published": ["gen2res-256"],
    "train_bases": ["stablesr-512"],
    "face2scene_stages": ["sd-turbo", "vgg16", "lpips-vgg", "dino", "dino-config"],
}
RUN = ["pfstorer_stablesr", "dualpivot_diffbir", "gen2res_published"]


def small_graph(name: str, folder: Path, small) -> dict:
    """The bundled workflow with a photograph and an album of 128 px."""
    picture(folder / "album" / "Somebody" / "1.png", small)
    photo = allow_folder(picture(folder / "photo.png", small[..., 10:138, 60:188]))
    return own.with_album(own.with_photo(bundled(name), photo), allow_folder(folder / "album"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_it_trains_and_restores_as_published_with_the_published_kinds_of_files(name, small, tmp_path, monkeypatch):
    tiny_published.write_public_files(name, tmp_path / "models", tmp_path / "models")
    tiny_published.narrow(monkeypatch)
    tiny_published.few_steps(monkeypatch)
    graph = small_graph(name, tmp_path, small)
    results = run_graph(graph, NODES)
    file = results.ui[node(graph, "SaveImage")]["images"][0]
    assert np.ptp(pixels(folders.output / file["filename"])) > 0
    shown = [results.ui[id]["text"][0] for id, one in graph.items() if one["class_type"] == "PreviewAny"]
    if name == "gen2res_published":
        assert any("equation 3" in text and "200 of 1000" in text for text in shown)
    else:
        assert any("preset published, steps 1" in text for text in shown)
        (saved,) = (tmp_path / "models" / "personas").glob("*.safetensors")
        assert saved.stem in ("pfstorer stablesr", "dual pivot diffbir")


@pytest.mark.parametrize("name", RUN)
def test_without_its_files_it_is_one_error_that_says_what_belongs_where(name, small, tmp_path):
    with pytest.raises(Exception) as said:
        run_graph(small_graph(name, tmp_path, small), NODES)
    for needed in NEEDED[name]:
        assert f"{entry(needed).file} is missing" in str(said.value)


@pytest.mark.parametrize("name", NEEDED)
def test_the_canvas_says_which_files_it_needs(name):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text())
    notes = " ".join(one["widgets_values"][0] for one in workflow["nodes"] if one["type"] == "MarkdownNote")
    for needed in NEEDED[name]:
        weights = entry(needed)
        for part in (weights.file, weights.size, f"models/{weights.folder}", weights.licence, f"`{needed}`"):
            assert part in notes, part


def test_the_512_px_generator_of_table_1_goes_through_the_node(tmp_path, monkeypatch):
    """Its file is known by its width; the network itself is too large to be made here."""
    made = []
    monkeypatch.setattr(
        adm_unet,
        "load_adm_unet",
        lambda path, **flags: made.append(flags) or adm_unet.ADMUNet(32, 32, 1, channel_mult="1,1"),
    )
    path = tmp_path / "models" / "generators" / "faces.pt"
    path.parent.mkdir(parents=True)
    torch.save({"time_embed.0.weight": torch.zeros(1024, 256)}, path)
    restorer = generation_nodes.RestorationByGeneration.execute(0.2, 0.0, "faces.pt", "published, 512 px").args[0]
    assert made == [adm_unet.SIZES[512]] and restorer.native_size == 512 and restorer.denoise == 0.3
    assert restorer.skip_guidance is None and restorer.control == 0 and restorer.steps == 1000

"""The bundled workflows in a real ComfyUI and headless: the same pixels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from personal_restore.headless import own
from personal_restore.headless.graph import load_graph
from personal_restore.headless.host import folders
from personal_restore.headless.runner import run_graph
from personal_restore.nodes import NODES
from personal_restore.tests.test_workflows import TRAINING
from PIL import Image

pytestmark = pytest.mark.comfyui

WORKFLOWS = Path(__file__).parents[2] / "workflows" / "api"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
QUICK_FIRST = [pytest.param(name, marks=pytest.mark.slow) if name in TRAINING else name for name in NAMES]


def saved(graph: dict) -> str:
    return next(id for id, node in graph.items() if node["class_type"] == "SaveImage")


def assert_same_pixels(comfyui, graph: dict, tmp_path, monkeypatch):
    _, pictures = comfyui.queue(graph)
    live = next(picture.path for picture in pictures if picture.node == saved(graph))
    monkeypatch.setattr(folders, "input", comfyui.base / "input")
    monkeypatch.setattr(folders, "output", tmp_path)
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    file = run_graph(graph, NODES).ui[saved(graph)]["images"][0]
    ours = tmp_path / file["subfolder"] / file["filename"]
    assert np.array_equal(*(np.asarray(Image.open(path)) for path in (live, ours)))


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_a_bundled_workflow_gives_the_same_pixels(comfyui, name, tmp_path, monkeypatch):
    assert_same_pixels(comfyui, load_graph(WORKFLOWS / f"{name}.json"), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "photo", "album"),
    [
        ("face2scene", "codeformer/00.jpg", ("pulid/lecun.jpg", "pulid/hinton.jpeg")),
        ("perfuse", "codeformer/04.jpg", ("diffbir/whole_img_Audrey_Hepburn.jpg",)),
    ],
)
def test_a_photograph_gives_the_same_pixels(comfyui, photos, name, photo, album, tmp_path, monkeypatch):
    uploaded = comfyui.upload(photos / photo)
    for number, picture in enumerate(album):
        folder = comfyui.base / "input" / "people" / f"person {number}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / picture, folder)
    graph = own.with_album(own.with_photo(load_graph(WORKFLOWS / f"{name}.json"), Path(uploaded)), Path("people"))
    try:
        assert_same_pixels(comfyui, graph, tmp_path, monkeypatch)
    finally:
        shutil.rmtree(comfyui.base / "input" / "people")


def test_a_rerun_recomputes_only_what_changed(comfyui, tmp_path):
    """Another blend does not restore again; another picture in the album does."""
    graph = load_graph(WORKFLOWS / "perfuse.json")
    Image.fromarray(np.asarray(Image.open(sample(tmp_path)))).save(comfyui.base / "input" / "rerun.png")
    (comfyui.base / "input" / "rerun").mkdir()
    shutil.copy(comfyui.base / "input" / "rerun.png", comfyui.base / "input" / "rerun" / "1.png")
    graph = own.with_album(own.with_photo(graph, Path("rerun.png")), Path("rerun"))
    blend = next(id for id, node in graph.items() if node["class_type"] == "PR_BlendFaces")
    restore = [id for id, node in graph.items() if node["class_type"] == "PR_RestoreFaces"]
    comfyui.queue(graph)
    graph[blend]["inputs"]["strength"] = 0.5
    ran = comfyui.executed(graph)
    assert blend in ran and not set(restore) & ran
    shutil.copy(comfyui.base / "input" / "rerun.png", comfyui.base / "input" / "rerun" / "2.png")
    assert "album" in comfyui.executed(graph)


def sample(folder: Path) -> Path:
    from personal_restore.samples import photograph

    path = folder / "sample.png"
    pixels = (photograph()[0].permute(1, 2, 0) * 255).byte().numpy()[:256, 80:336]
    Image.fromarray(pixels).save(path)
    return path

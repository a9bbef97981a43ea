"""The bundled workflows that need published weights: with tiny random ones, and without any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from personal_restore.cli.main import main
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.storage.names import shown_folder
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.shared.catalogue import entry
from personal_restore.nodes import NODES, training
from personal_restore.tests import tiny_published
from personal_restore.tests.bundled import WORKFLOWS, bundled, node
from personal_restore.tests.photographs import picture, pixels, restore

pytestmark = pytest.mark.usefixtures("separate_folders")


@pytest.fixture
def tiny_public_files(tmp_path, monkeypatch) -> Path:
    """SD-Turbo as one file and S3Diff's two, narrow and random, where the workflow looks for them."""
    folder = tmp_path / "models"
    tiny_published.write_public_files("s3diff_scene", folder, folder)
    tiny_published.narrow(monkeypatch)
    return folder


def test_s3diff_restores_a_scene_from_the_public_files(tiny_public_files, tmp_path, small):
    """With its own prompts, and no node of ComfyUI's core that loads or samples."""
    photo = picture(tmp_path / "photo.png", small)
    out = tmp_path / "out"

    def change(text):
        return ("--set", f"PR_S3DiffRestorer.{text}")

    for options in ((), change("cfg=1"), change("scale=2"), ("--seed", 1), ("--strength", 0)):
        assert restore(photo, "--workflow", "s3diff_scene", "--out", out, *options) == 0
    report = json.loads((out / "photo_report.json").read_text())
    assert report["faces"] == [] and "S3Diff" in report["seconds"]
    usual, unguided, large, seeded, untouched = (pixels(path) for path in in_order(out))
    assert usual.shape == (256, 256, 3) and large.shape == (512, 512, 3)
    for changed in (unguided, seeded, untouched):
        assert not np.array_equal(usual, changed)
    assert np.array_equal(untouched, pixels(photo))


def test_face2scene_is_trained_in_a_graph_stopped_and_taken_up_again(tiny_public_files, small, tmp_path, monkeypatch):
    """What comes out restores in the node; the number of steps is what the graph says, in one piece or in two."""
    for number in range(2):
        picture(tmp_path / "photographs" / f"{number}.png", small.roll(number, -1))
    graph = bundled("face2scene_train")
    (id,) = (id for id, one in graph.items() if one["class_type"] == "PR_TrainFace2Scene")
    graph[id]["inputs"] |= {"steps": 3, "batch": 1, "crop": 64}
    made = tiny_public_files / "face2scene" / "face2scene.safetensors"
    monkeypatch.setattr(training, "SAVE_EVERY", 1)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "progress", lambda total: stop)
        with pytest.raises(KeyboardInterrupt):
            run_graph(graph, NODES)
    assert not made.exists()
    graph[id]["inputs"]["crop"] = 128
    with pytest.raises(
        Exception,
        match="'face2scene' was started with different values of data.crop. Restore the old settings, choose another name",
    ):
        run_graph(graph, NODES)
    graph[id]["inputs"]["crop"] = 64
    assert "3 steps" in run_graph(graph, NODES).ui["4"]["text"][0]
    assert not (made.parent / "training" / made.stem).exists()
    graph[id]["inputs"]["photographs"] = "empty"  # fails before anything is learnt, and so commits to nothing
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="no pictures"):
        run_graph(graph, NODES)
    graph[id]["inputs"]["photographs"] = "photographs"
    run_graph(graph, NODES)
    weights = face2scene.read_face2scene(made)
    assert weights.provenance["config"]["schedule"]["steps"] == 3 and weights.provenance["data"] == "2 photographs"
    scene = bundled("s3diff_scene")
    slot = node(scene, "PR_S3DiffRestorer")
    scene[slot] = {"class_type": "PR_Face2SceneRestorer", "inputs": {"checkpoint": "sd_turbo.safetensors", "model": made.name,
                   "cfg": 1.0, "scale": 1}}  # fmt: skip
    assert run_graph(scene, NODES).ui[node(scene, "SaveImage")]["images"]


def test_s3diff_converted_to_one_file_restores_the_same(tiny_public_files, tmp_path, small, capsys):
    photo, out = picture(tmp_path / "photo.png", small[..., :128, :128]), tmp_path / "out"
    assert restore(photo, "--workflow", "s3diff_scene", "--out", out) == 0
    assert main(["models", "convert", "s3diff"]) == 0
    for name in ("s3diff.pkl", "de_net.pth"):
        (tiny_public_files / name).unlink()
    assert restore(photo, "--workflow", "s3diff_scene", "--out", out) == 0
    before, after, *_ = in_order(out)
    assert np.array_equal(pixels(before), pixels(after))
    assert main(["models", "convert", "s3diff"]) == 1 and "s3diff.pkl is missing" in capsys.readouterr().err


def in_order(folder: Path) -> list[Path]:
    return [folder / f"photo{number}_restored.png" for number in ("", "_2", "_3", "_4", "_5")]


def test_s3diff_without_its_weights_is_one_error_that_says_what_belongs_where(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    photo = picture(tmp_path / "photo.png", small)
    assert restore(photo, "--workflow", "s3diff_scene", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    for file, size, licence, folder in (
        ("sd_turbo.safetensors", "5.2 GB", "Stability AI Community License", tmp_path / "models" / "checkpoints"),
        ("s3diff.pkl", "138 MB", "Apache-2.0", tmp_path / "models"),
        ("de_net.pth", "9 MB", "Apache-2.0", tmp_path / "models"),
    ):
        line = next(line for line in said.splitlines() if f"{file} is missing" in line)
        assert all(
            part in line
            for part in (size, licence, f"It belongs in {shown_folder(folder)}.", "python run.py models get")
        )
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*restored*"))


def test_the_canvas_says_which_weights_s3diff_needs_and_where_they_go():
    notes = " ".join(
        node["widgets_values"][0]
        for node in json.loads((WORKFLOWS / "s3diff_scene.json").read_text())["nodes"]
        if node["type"] == "MarkdownNote"
    )
    for name in ("sd-turbo", "s3diff", "s3diff-degradation"):
        weights = entry(name)
        for part in (weights.file, weights.size, weights.repository, f"models/{weights.folder}", weights.licence, name):
            assert part in notes, part

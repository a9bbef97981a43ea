"""PerFuSe as published: with the public architectures' random weights, and without any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from personal_restore.cli import own
from personal_restore.lib.standin.host import allow_folder, folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.models.shared.catalogue import entry
from personal_restore.nodes import NODES
from personal_restore.tests import tiny_perfuse
from personal_restore.tests.bundled import WORKFLOWS, bundled, node
from personal_restore.tests.photographs import picture, pixels
from personal_restore.tests.test_workflows import FALLBACKS

pytestmark = pytest.mark.usefixtures("separate_folders")
PUBLISHED = {
    "detector": "mtcnn",
    "landmarks": "dlib's 68 points in 1 of 1 faces",
    "crop": "2 % of the crop (PerFuSe)",
    "face restorers": "RealESRGAN Compact for everybody, 1 of 1 faces; album for known, 1 of 1 faces",
    "masks": "yolov8n-seg found",
    "alignment": "aligned with RANSAC-Flow's networks",
    "scene restorer": "RealESRGAN Compact at 2x from RealESRGAN_x2plus.pth",
}


def small_graph(folder: Path, small) -> dict:
    """The bundled workflow with a photograph and an album of 128 px."""
    picture(folder / "album" / "Somebody" / "1.png", small)
    photo = allow_folder(picture(folder / "photo.png", small[..., 10:138, 60:188]))
    return own.with_album(own.with_photo(bundled("perfuse_published"), photo), allow_folder(folder / "album"))


def run(graph: dict) -> tuple[np.ndarray, dict]:
    results = run_graph(graph, NODES)
    file = results.ui[node(graph, "SaveImage")]["images"][0]
    return pixels(folders.output / file["filename"]), json.loads(results.ui[node(graph, "PreviewAny")]["text"][0])


def test_every_published_part_is_used_where_it_is_and_every_replacement_is_named(small, tmp_path):
    pytest.importorskip("ultralytics")
    graph = small_graph(tmp_path, small)
    without, report = run(graph)
    assert all(part in report["used"][stage] for stage, part in FALLBACKS.items()), report["used"]
    models = tmp_path / "models"
    tiny_perfuse.write_public_files(models, models / "upscale_models", small)
    published, report = run(graph)
    assert all(part in report["used"][stage] for stage, part in PUBLISHED.items()), report["used"]
    assert published.shape == without.shape == (256, 256, 3) and not np.array_equal(published, without)


def test_the_canvas_says_which_files_it_looks_for():
    workflow = json.loads((WORKFLOWS / "perfuse_published.json").read_text())
    notes = " ".join(one["widgets_values"][0] for one in workflow["nodes"] if one["type"] == "MarkdownNote")
    for name in ("ransac-flow", "ransac-flow-coarse", "realesrgan-x2plus", "yolov8n-seg"):
        weights = entry(name)
        assert weights.file in notes and f"models/{weights.folder}" in notes and weights.licence in notes

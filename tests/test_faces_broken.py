"""What is installed but broken costs its feature and one warning; the next backend takes over, and reports say which."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from personal_restore.lib.faces import broken, detect, embed, mtcnn, outline
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.yolo import segment
from personal_restore.nodes import faces as nodes
from personal_restore.nodes import report as report_node
from personal_restore.nodes.faces import DetectFaces

needs_mtcnn = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """What was found to be broken, and what was loaded, is forgotten before and after."""
    loaders = (
        detect._load_scrfd,
        detect._load_dlib,
        embed._load_dlib,
        embed._load_arcface,
        mtcnn.load_mtcnn,
        outline._predictor,
    )
    for loader in loaders:
        loader.cache_clear()
    monkeypatch.setattr(broken, "_failed", {})
    yield
    for loader in loaders:
        loader.cache_clear()


@pytest.fixture
def fails_on_import(monkeypatch, tmp_path):
    """Makes a library raise when it is imported."""

    def make(name: str, error: str) -> None:
        for module in [one for one in sys.modules if one.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text(f"raise {error}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")

    return make


def nobody() -> torch.Tensor:
    return torch.full((3, 96, 96), 0.5)


@needs_mtcnn
@pytest.mark.parametrize("content", [b"", b"\x08\x07\x12\x04cut off", bytes(5000)])
def test_a_model_file_that_is_cut_off_costs_one_warning_and_mtcnn_takes_over(tmp_path, caplog, monkeypatch, content):
    pytest.importorskip("insightface")
    for name in ("det_10g.onnx", "w600k_r50.onnx"):
        (tmp_path / name).write_bytes(content)
    for _ in range(3):
        assert detect.get_detector(model_folder=tmp_path).name == "mtcnn"
        assert embed.best_embedder(tmp_path).name != "arcface"
    warnings = [record.getMessage() for record in caplog.records if "broken" in record.getMessage()]
    assert len(warnings) == 2 and "insightface is installed but broken" in warnings[0] and "arcface" in warnings[1]
    assert str(tmp_path) not in "".join(warnings)
    with pytest.raises(UserError, match="insightface is not available. It is installed, but broken"):
        detect.get_detector("insightface", tmp_path)
    with pytest.raises(UserError, match="arcface is not available. It is installed, but broken"):
        embed.by_name("arcface", tmp_path)
    for module in (nodes, report_node):
        monkeypatch.setattr(module, "weight_folders", lambda kind: [tmp_path])
    faces, report = DetectFaces.execute(nobody()[None].movedim(1, -1), 0.0).args
    assert "detector: mtcnn;" in report and "The face detector insightface is installed but broken" in report
    picture = nobody()[None].movedim(1, -1)
    used = json.loads(report_node.Report.execute(picture, picture, faces).args[0])["backends"]
    assert used["detector"] == "mtcnn" and "The identity embedding arcface" in used["broken"]


@needs_mtcnn
@pytest.mark.parametrize(
    "error", ["OSError('libcudart.so.12: cannot open')", "ImportError('numpy ABI')", "ValueError(1)"]
)
def test_a_library_that_fails_on_import_gives_way(tmp_path, caplog, fails_on_import, error):
    fails_on_import("insightface", error)
    (tmp_path / "det_10g.onnx").write_bytes(b"whole")
    assert detect.get_detector(model_folder=tmp_path).name == "mtcnn"
    assert sum("insightface is installed but broken" in record.getMessage() for record in caplog.records) == 1


def test_without_dlib_people_are_known_and_outlines_estimated(fails_on_import, astronaut, caplog):
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("dlib's models are not installed; python run.py test installs them")
    fails_on_import("dlib", "RuntimeError('cudaGetDevice() failed')")
    assert embed.best_embedder().name == "dlib"  # of its network only the file is needed
    with pytest.raises(UserError, match="cudaGetDevice"):
        detect.get_detector("dlib")
    eyes = detect.Detection((170, 60, 280, 190), detect.TYPICAL_LANDMARKS * 110 + [170, 60], 1.0)
    assert outline.outline(detect.make_face(astronaut[0], eyes)).shape == (27, 2)
    assert {name.split()[0] for name in broken.reasons()} == {"The", "dlib's"} and len(caplog.records) == 2


def test_detector_weights_that_are_cut_off_give_way_to_the_next(tmp_path, monkeypatch, caplog):
    for name in mtcnn.SHA256:
        (tmp_path / f"{name}.pt").write_bytes(b"PK\x03\x04cut off")
    monkeypatch.setattr(mtcnn, "weight_folder", lambda: tmp_path)
    expected = "dlib" if all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))) else None

    def name_of_next():
        found = detect.get_detector()
        return found and found.name

    assert name_of_next() == expected
    assert "mtcnn is installed but broken" in caplog.text
    (tmp_path / "pnet.pt").unlink()
    assert name_of_next() == expected


def test_what_was_repaired_is_used_again(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"broken")

    def load() -> str:
        if file.read_bytes() == b"broken":
            raise ValueError
        return "loaded"

    assert broken.attempt("It", load, file) is None and broken.reasons() == {"It": "ValueError: "}
    file.write_bytes(b"repaired")
    assert broken.attempt("It", load, file) == "loaded" and not broken.reasons()


def test_a_lack_of_memory_is_no_broken_file():
    def load() -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    with pytest.raises(torch.OutOfMemoryError):
        broken.attempt("It", load)
    assert not broken.reasons()


def test_a_broken_ultralytics_is_a_clear_error(tmp_path, fails_on_import, monkeypatch):
    fails_on_import("ultralytics", "OSError('libGL.so.1: cannot open')")
    monkeypatch.setattr(segment, "require", lambda *names: None)
    segment.load_segmenter.cache_clear()
    with pytest.raises(UserError, match=r"installed, but does not start \(OSError: libGL"):
        segment.load_segmenter(Path(tmp_path / "yolov8n-seg.pt"))

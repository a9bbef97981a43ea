"""Finding faces, one function over several detectors, and faces that the graph brings along."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces import align, detect, mtcnn
from personal_restore.lib.faces.detection import main_face
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.vocabulary import UserError

needs_mtcnn = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)
# Eileen Collins's pupils in the portrait, read off by eye.
EYES = np.array([[203.5, 100.4], [246, 102.6]])
FACE_BOX = {"x": 170, "y": 60, "width": 110, "height": 130}


def resized(photo: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(photo[None], scale_factor=factor, mode="bilinear", antialias=True)[0].clamp(0, 1)


def detection(x0, y0, x1, y1, score=1.0) -> detect.Detection:
    return detect.Detection((x0, y0, x1, y1), np.zeros((5, 2)), score)


@needs_mtcnn
def test_the_portrait_has_one_face_with_the_eyes_in_place(astronaut):
    found = detect.detect_faces(astronaut[0], "mtcnn")
    assert len(found) == 1
    assert np.abs(found[0].landmarks[:2] - EYES).max() < 4
    assert found[0].landmarks.dtype == np.float64 and 0.9 < found[0].score <= 1


@needs_mtcnn
def test_a_grey_picture_gives_the_same_face(astronaut):
    grey = astronaut[0].mean(0, keepdim=True).repeat(3, 1, 1)
    found = detect.detect_faces(grey, "mtcnn")
    assert len(found) == 1 and np.abs(found[0].landmarks[:2] - EYES).max() < 4


@needs_mtcnn
@pytest.mark.parametrize("width", [30, 20])
def test_a_tiny_face_is_found(astronaut, width):
    factor = width / 100
    found = detect.detect_faces(resized(astronaut[0], factor), "mtcnn")
    assert len(found) == 1
    assert np.abs((found[0].landmarks[:2] + 0.5) / factor - 0.5 - EYES).max() < 8


@needs_mtcnn
def test_a_mirrored_picture_gives_mirrored_landmarks(astronaut):
    straight = detect.detect_faces(astronaut[0], "mtcnn")[0].landmarks
    mirrored = detect.detect_faces(astronaut[0].flip(2), "mtcnn")[0].landmarks
    back = np.stack([511 - mirrored[:, 0], mirrored[:, 1]], 1)[[1, 0, 2, 4, 3]]
    assert np.abs(back - straight).max() < 4


@needs_mtcnn
@pytest.mark.parametrize("size", [(3, 5), (30, 200), (256, 256)])
def test_a_picture_without_faces_gives_none(size):
    assert detect.detect_faces(torch.full((3, *size), 0.4), "mtcnn") == []


@needs_mtcnn
def test_a_face_becomes_an_aligned_crop(astronaut):
    face = detect.make_face(astronaut[0], detect.detect_faces(astronaut[0], "mtcnn")[0])
    assert face.crop.shape == (3, 512, 512) and face.valid.shape == (1, 512, 512)
    matrix = face.similarity.matrix
    placed = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(placed - align.TEMPLATE_512).mean() < 12


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_ends_of_the_threshold_are_no_error(astronaut, threshold):
    for name, build in detect.DETECTORS.items():
        if build(None) is not None:
            assert bool(detect.detect_faces(astronaut[0], name, threshold)) == (threshold == 0), name


def test_dlib_agrees_with_the_known_eyes(astronaut):
    if detect.dlib_file("shape_predictor_68_face_landmarks.dat") is None:
        pytest.skip("dlib or its models are not installed; python run.py test installs it")
    found = detect.detect_faces(astronaut[0], "dlib")
    assert min(np.abs(face.landmarks[:2] - EYES).max() for face in found) < 6


def test_an_unknown_detector_is_a_user_error(astronaut):
    with pytest.raises(UserError, match="mtcnn"):
        detect.detect_faces(astronaut[0], "crystal ball")


def test_a_missing_detector_says_how_to_get_it(astronaut, tmp_path):
    with pytest.raises(UserError, match="det_"):
        detect.detect_faces(astronaut[0], "insightface", model_folder=tmp_path)


def test_auto_without_any_detector_finds_nothing_and_goes_on(astronaut, monkeypatch):
    monkeypatch.setattr(detect, "DETECTORS", {name: lambda folder: None for name in detect.DETECTORS})
    assert detect.detect_faces(astronaut[0]) == []
    guessed = detect.detections_from_boxes(astronaut[0], [FACE_BOX])
    assert guessed[0].score == detect.GUESSED_SCORE


def test_a_small_picture_is_scanned_at_twice_its_size_too(monkeypatch):
    sizes = []

    def scan(photo, threshold):
        sizes.append(tuple(photo.shape[-2:]))
        landmarks = detect.TYPICAL_LANDMARKS * 40 + [10, 20]
        return [detect.Detection((10, 20, 50, 60), landmarks, 0.8 + 0.001 * photo.shape[-1])]

    monkeypatch.setattr(detect, "get_detector", lambda *_: detect.Detector("fake", 0.5, scan))
    found = detect.detect_faces(torch.zeros(3, 40, 60))
    assert sizes == [(40, 60), (80, 120)]
    small = [face for face in found if face.box == (5, 10, 25, 30)]
    np.testing.assert_allclose(small[0].landmarks, detect.TYPICAL_LANDMARKS * 20 + [4.75, 9.75])


@needs_mtcnn
@pytest.mark.parametrize("turns", [0, 1])
def test_a_portrait_gives_the_main_face_that_all_faces_give(astronaut, turns):
    """Measured on 22 photographs of people: the same numbers."""
    photo = torch.rot90(astronaut[0, :, :400, 60:400], turns, (1, 2))
    one, other = (main_face(find(photo), photo.shape[-2:]) for find in (detect.detect_portrait, detect.detect_faces))
    assert np.abs(one.landmarks - other.landmarks).max() < 1e-3 and one.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize(("width", "scanned"), [(60, ["large"]), (20, ["large", "all"]), (None, ["large", "all"])])
def test_small_faces_of_a_portrait_are_looked_for_if_no_large_one_must_be_the_main_one(monkeypatch, width, scanned):
    looks: list[str] = []

    def scan(kind: str, width: int | None) -> list[detect.Detection]:
        looks.append(kind)
        return [] if width is None else [detection(10, 10, 10 + width, 10 + width)]

    detector = detect.Detector(
        "fake", 0.5, lambda photo, threshold: scan("all", 300), large=lambda photo, threshold: scan("large", width)
    )
    monkeypatch.setattr(detect, "get_detector", lambda *_: detector)
    monkeypatch.setattr(detect, "search", lambda scan, looks, *_: scan(looks[0]))
    monkeypatch.setattr(detect, "search_upright", lambda scan, looks: scan(looks[0]))
    found = detect.detect_portrait(torch.zeros(3, 400, 700))
    assert sorted(set(looks), reverse=True) == sorted(scanned, reverse=True)
    assert max(face.box[2] for face in found) == (70 if scanned == ["large"] else 310)


def test_reading_order_is_rows_from_the_top_each_from_the_left():
    boxes = [(100, 12, 140, 52), (10, 0, 50, 40), (60, 5, 90, 45), (5, 90, 45, 130)]
    people = [detection(*box) for box in boxes]
    ordered = detect.reading_order(people)
    assert [face.box[0] for face in ordered] == [10, 60, 100, 5]
    assert detect.reading_order(people[::-1]) == ordered


def test_the_same_face_seen_twice_is_merged_into_the_surer_one():
    twice = [detection(0, 0, 100, 100, 0.9), detection(4, 4, 104, 104, 0.99), detection(300, 0, 400, 100, 0.9)]
    assert [face.score for face in detect.merge_detections(twice)] == [0.99, 0.9]


def test_a_false_face_inside_of_a_larger_one_goes():
    nested = [detection(0, 0, 500, 600, 0.95), detection(300, 200, 400, 320, 0.97)]
    assert [face.box for face in detect.merge_detections(nested)] == [nested[0].box]


@needs_mtcnn
def test_a_box_from_the_user_gives_the_face_inside(astronaut):
    found = detect.detections_from_boxes(astronaut[0], [FACE_BOX], "mtcnn")
    assert np.abs(found[0].landmarks[:2] - EYES).max() < 8


def test_a_box_without_a_visible_face_gets_typical_landmarks_and_a_low_score():
    box = {"x": 50, "y": 20, "width": 100, "height": 120, "label": "face"}
    found = detect.detections_from_boxes(torch.full((3, 200, 300), 0.5), [box])[0]
    assert found.box == (50, 20, 150, 140) and found.score < 0.2
    assert (found.landmarks > [50, 20]).all() and (found.landmarks < [150, 140]).all()
    assert found.landmarks[0, 0] < found.landmarks[2, 0] < found.landmarks[1, 0]


@pytest.mark.parametrize("change", [{"width": 0}, {"height": -4}, {"x": 900}, {"y": -500}])
def test_a_box_that_covers_nothing_is_a_user_error(change):
    with pytest.raises(UserError, match="Box 0"):
        detect.detections_from_boxes(torch.zeros(3, 200, 300), [FACE_BOX | change])


@pytest.mark.parametrize("count", [468, 478])
def test_the_mesh_of_the_graph_is_reduced_to_five_points(count):
    points = np.random.default_rng(0).uniform(0, 200, (478, 2)).astype(np.float32)
    points[[33, 133]], points[[362, 263]] = [[40, 50], [60, 52]], [[90, 50], [110, 52]]
    points[468], points[473], points[[1, 61, 291]] = [50, 51], [100, 51], [[75, 80], [55, 110], [95, 110]]
    box = np.array([20, 10, 130, 150], np.float32)
    mesh = {"bbox_xyxy": box, "landmarks_xy": points[:count], "score": np.float32(0.8)}
    found = detect.detections_from_mesh([mesh], (200, 200))[0]
    np.testing.assert_allclose(found.landmarks, [[50, 51], [100, 51], [75, 80], [55, 110], [95, 110]])
    assert found.box == (20, 10, 130, 150) and found.score == pytest.approx(0.8)


@pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None,
    reason="insightface is not installed; python run.py test installs it",
)
def test_scrfd_is_used_where_its_model_lies(tmp_path):
    onnx = pytest.importorskip("onnx")
    # A detector that sees one face, always at the same anchor: cell (20, 10) of stride 16 in its 640 px input.
    outputs = []
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            values = np.zeros((2 * (640 // stride) ** 2, width), np.float32)
            if stride == 16:
                seen = {"score": 0.9, "box": 3, "points": [-1, -1, 1, -1, 0, 0, -1, 1, 1, 1]}
                values[2 * (20 * 40 + 10)] = seen[kind]
            outputs.append((f"{kind}{stride}", values))
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(values))
        for name, values in outputs
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "fake",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, 640, 640])],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, v.shape) for name, v in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "pack").mkdir()
    onnx.save(model, tmp_path / "pack" / "det_10g.onnx")

    photo = torch.zeros(3, 640, 640)
    found = detect.get_detector("auto", tmp_path)
    assert found.name == "insightface"
    face = found.scan(photo, 0.5)[0]
    assert face.box == (112, 272, 208, 368) and face.score == pytest.approx(0.9)
    np.testing.assert_allclose(face.landmarks, [[144, 304], [176, 304], [160, 320], [144, 336], [176, 336]])


@needs_mtcnn
def test_a_scene_without_people_gives_no_face(photos):
    assert detect.detect_faces(read_picture(photos / "compreface" / "017_0.jpg"), "mtcnn") == []


@needs_mtcnn
@pytest.mark.slow
def test_nearly_all_faces_of_the_photographs_are_found(photos):
    def overlap(a, b):
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    known = json.loads((photos / "faces_dev.json").read_text())
    total = hits = surplus = 0
    for name, boxes in known.items():
        found = [face.box for face in detect.detect_faces(read_picture(photos / name), "mtcnn")]
        total += len(boxes)
        hits += sum(any(overlap(box, seen) > 0.3 for seen in found) for box in boxes)
        surplus += sum(not any(overlap(box, seen) > 0.3 for box in boxes) for seen in found)
    # The boxes are another detector's; two of its faces are none, and it missed four that are.
    assert hits / total > 0.97
    assert surplus <= 8


def test_crops_and_suppression_are_those_of_torchvision():
    """Which takes more than a second to import, and is therefore not used."""
    from torchvision.ops import nms, roi_align

    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(1, 3, 200, 301, generator=generator)
    corners = torch.rand(80, 2, generator=generator) * torch.tensor([340.0, 240.0]) - 20
    boxes = torch.cat([corners, corners + torch.rand(80, 1, generator=generator) * 100 + 5], 1)
    expected = roi_align(picture, [boxes], 24, spatial_scale=1.0, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(mtcnn._cut(picture, boxes, 24), expected, atol=1e-3, rtol=0)  # measured: 2e-4
    scores = torch.rand(80, generator=generator)
    for overlap in (0.1, 0.5, 0.7):
        assert torch.equal(mtcnn.nms(boxes, scores, overlap), nms(boxes, scores, overlap))
    assert len(mtcnn.nms(boxes[:0], scores[:0], 0.5)) == 0

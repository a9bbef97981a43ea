"""Identity embeddings: unit vectors that know their own limits."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import align, detect, embed, library, match, mtcnn
from personal_restore.lib.faces.dlib_network import load_dlib_network
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.vocabulary import Faces, UserError

AVAILABLE = [
    pytest.param("dlib", marks=pytest.mark.skipif(
        detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat") is None,
        reason="dlib's network is not installed; python run.py test installs it",
    )),
    "classical",
]  # fmt: skip


@pytest.fixture
def crop(astronaut) -> torch.Tensor:
    landmarks = np.array([[203.5, 100.4], [246, 102.6], [224, 126.4], [203, 139.5], [243.9, 140.8]])
    return align.crop_face(astronaut[0], landmarks)[0]


@pytest.mark.parametrize("name", AVAILABLE)
def test_embeddings_are_unit_vectors_and_deterministic(name, crop):
    embedder = embed.by_name(name)
    first = embedder.embed(crop)
    assert first.dtype == np.float32 and first.ndim == 1
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(first, embedder.embed(crop))


@pytest.mark.parametrize("name", AVAILABLE)
def test_light_does_not_change_who_it_is_but_another_picture_does(name, crop):
    embedder = embed.by_name(name)
    views = [crop, (crop * 0.7 + 0.05).clamp(0, 1), crop.flip(1)]
    alike = embedder.similarity(*(np.stack([embedder.embed(view) for view in views]),) * 2)
    assert alike.shape == (3, 3) and alike.min() >= 0 and alike.max() <= 1
    assert alike[0, 1] > embedder.threshold
    assert alike[0, 2] < alike[0, 1]


def test_dlib_s_network_gives_what_dlib_computes_itself(crop):
    """Measured: 4e-7 of numbers up to .4."""
    dlib = pytest.importorskip("dlib")
    path = detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat")
    if path is None:
        pytest.skip("dlib's network is not installed; python run.py test installs it")
    chip = crop[:, 100:400:2, 100:400:2].mul(255).round()
    views = torch.stack([chip, chip.flip(2), 255 - chip, chip.roll(40, 1), (chip / 9).round()])
    model = dlib.face_recognition_model_v1(str(path))
    theirs = [model.compute_face_descriptor(view.byte().permute(1, 2, 0).contiguous().numpy()) for view in views]
    assert np.abs(load_dlib_network(path)(views).numpy() - np.array(theirs)).max() < 1e-5


def test_a_damaged_file_of_dlib_s_network_is_refused(tmp_path):
    path = detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat")
    if path is None:
        pytest.skip("dlib's network is not installed; python run.py test installs it")
    content = path.read_bytes()
    named = content[: content.index(b"con_4") + 5]  # ends where a layer's numbers would begin
    for damaged in (
        b"",
        named,
        content[:5000],
        content[: len(content) // 2],
        content[:340] + bytes(20) + content[360:],
    ):
        (tmp_path / "damaged.dat").write_bytes(damaged)
        with pytest.raises(ValueError, match="layer"):
            load_dlib_network(tmp_path / "damaged.dat")


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", AVAILABLE)
def test_an_empty_crop_gives_finite_numbers(name, value):
    embedder = embed.by_name(name)
    vector = embedder.embed(torch.full((3, 512, 512), value))[None]
    assert np.isfinite(embedder.similarity(vector, vector)).all()


def test_the_classical_descriptor_only_proposes(crop):
    classical = embed.by_name("classical")
    vector = classical.embed(crop)[None]
    assert classical.proposes and classical.similarity(vector, vector)[0, 0] == pytest.approx(0.5)


def test_dlib_distance_of_six_tenths_is_the_threshold():
    # Two vectors of dlib's usual length at that distance.
    angle = 2 * np.arcsin(embed.DLIB_DISTANCE / embed.DLIB_NORM / 2)
    vectors = np.array([[1, 0], [np.cos(angle), np.sin(angle)]])
    assert embed.DlibFace.similarity(vectors[:1], vectors[1:])[0, 0] == pytest.approx(embed.DlibFace.threshold)


def test_unknown_and_missing_embedders_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="classical"):
        embed.by_name("palm reading")
    with pytest.raises(UserError, match="w600k"):
        embed.by_name("arcface", tmp_path)


def test_there_is_always_an_embedder(monkeypatch, tmp_path):
    monkeypatch.setattr(embed, "dlib_file", lambda name: None)
    assert embed.best_embedder(tmp_path).name == "classical"


@pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None,
    reason="insightface is not installed; python run.py test installs it",
)
def test_arcface_is_used_where_its_model_lies(tmp_path, crop):
    onnx = pytest.importorskip("onnx")
    # A network that returns the mean of every column of the 112 px chip.
    nodes = [
        onnx.helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2], keepdims=0),
        onnx.helper.make_node("Flatten", ["mean"], ["output"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "fake",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1, 3, 112, 112])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 336])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "w600k_r50.onnx")
    embedder = embed.best_embedder(tmp_path)
    assert embedder.name == "arcface"
    red = torch.zeros(3, 512, 512)
    red[0] = 1
    # RGB order, values in -1..1: the first third of the vector is red.
    vector = embedder.embed(red)
    assert (vector[:112] > 0).all() and (vector[112:] < 0).all()
    assert embedder.similarity(vector[None], embedder.embed(crop)[None]).shape == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(
    detect.dlib_file("dlib_face_recognition_resnet_model_v1.dat") is None or mtcnn.weight_folder() is None,
    reason="dlib's network or the detector is not installed; python run.py test installs it",
)
def test_two_known_men_are_recognised_and_the_child_beside_them_is_not(photos):
    embedder, people = embed.by_name("dlib"), photos / "face_recognition"
    albums = {"obama": ("obama_obama.jpg", "obama_obama2.jpg"), "biden": ("biden_biden.jpg", "biden_biden2.jpg")}
    known = library.Library(embedder="dlib")
    for name, files in albums.items():
        one = [library.library_from_images(read_picture(people / file)[None], name, embedder) for file in files]
        references = tuple(reference for album in one for reference in album.people[0].references)
        known = library.Library((*known.people, library.Person(name, references)), "dlib")
    photo = read_picture(people / "obama_and_biden.jpg")
    frame = tuple(detect.make_face(photo, found) for found in detect.detect_faces(photo))
    matched = match.match_faces(Faces((frame,), photo.shape[-2:]), known, embedder)
    assert [face.person for face in matched.frames[0]] == ["biden", "obama", None]

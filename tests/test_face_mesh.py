"""The dense face mesh: where its points are, how far damage moves them, and that nothing about it is left to chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.faces.align import crop_face
from personal_restore.lib.faces.detect import detect_faces
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.album import face_mesh
from personal_restore.models.album.face_mesh import FaceMesh, five_of_mesh, mesh_points


@pytest.fixture(scope="module")
def face(astronaut) -> tuple[torch.Tensor, np.ndarray]:
    """The aligned crop [1, 3, 512, 512] of the portrait and the detector's five points in it."""
    found = max(detect_faces(astronaut[0]), key=lambda one: one.score)
    crop, _, similarity = crop_face(astronaut[0], found.landmarks)
    points = found.landmarks @ similarity.matrix[:, :2].T + similarity.matrix[:, 2]
    return crop[None], points


def distance(a, b) -> np.ndarray:
    return np.linalg.norm(np.asarray(a)[..., :2] - np.asarray(b)[..., :2], axis=-1)


def test_the_points_of_a_good_face_lie_where_the_detector_sees_eyes_and_mouth(face):
    crop, detected = face
    found = five_of_mesh(mesh_points(crop)[0].numpy())
    assert distance(found, detected)[[0, 1, 3, 4]].max() < 12


@pytest.mark.parametrize("family", ["trial", "s3diff_x4"])
def test_damage_moves_the_points_a_little_only(astronaut, face, family):
    good = mesh_points(face[0])[0]
    found = max(detect_faces(astronaut[0]), key=lambda one: one.score)
    damaged = FAMILIES[family](3).apply(astronaut)
    crop, _, _ = crop_face(damaged[0], found.landmarks)
    assert distance(mesh_points(crop[None])[0], good).mean() < 10


def test_a_crop_that_is_shifted_and_askew_is_read_as_well(face):
    crop, _ = face
    angle = np.radians(8)
    turn = 1.08 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, 255.5 - turn @ np.full(2, 255.5) + [18, -14]])
    from personal_restore.lib.faces.align import moved, warp

    expected = moved(mesh_points(crop)[0, :, :2].double().numpy(), matrix)
    found = mesh_points(warp(crop[0], matrix, (512, 512))[None])[0]
    assert distance(found, expected).mean() < 10


def test_a_mirrored_face_has_the_mirrored_mesh(face):
    crop, _ = face
    mirrored = mesh_points(crop.flip(-1))[0].numpy()[face_mesh.mirror_index()]
    assert np.abs(mirrored * [-1, 1, 1] + [511, 0, 0] - mesh_points(crop)[0].numpy()).max() < 1e-1


def test_the_same_crop_gives_the_same_points_alone_and_in_a_batch(face):
    crop, _ = face
    once, batch = mesh_points(crop), mesh_points(torch.cat([crop, crop.flip(-1), crop]))
    assert torch.equal(once, mesh_points(crop))
    assert torch.allclose(once[0], batch[0], atol=0.05) and torch.allclose(batch[0], batch[2], atol=0.05)


def test_points_scale_with_the_crop(face):
    crop, _ = face
    small = torch.nn.functional.interpolate(crop, size=256, mode="bilinear", antialias=True)
    points = mesh_points(small)[0]
    points[:, :2] += 0.5
    large = mesh_points(crop)[0]
    large[:, :2] += 0.5
    assert (points * 2 - large).abs().mean() < 3


def test_the_nose_is_nearer_than_the_outline(face):
    z = mesh_points(face[0])[0, :, 2]
    assert z[face_mesh.NOSE_TIP] < z[list(face_mesh.FACE_OVAL)].mean() - 50


def test_the_parts_lie_on_their_sides_and_mirror_onto_each_other():
    mean, mirror = face_mesh.mean_shape(), face_mesh.mirror_index()
    assert (mirror[mirror] == np.arange(468)).all()
    for left, right in ((face_mesh.LEFT_EYE, face_mesh.RIGHT_EYE), (face_mesh.LEFT_BROW, face_mesh.RIGHT_BROW)):
        assert mean[list(left), 0].max() < 256 < mean[list(right), 0].min()
        assert set(mirror[list(left)]) == set(right)
    for part in (face_mesh.LIPS_OUTER, face_mesh.LIPS_INNER, face_mesh.NOSE, face_mesh.FACE_OVAL):
        assert set(mirror[list(part)]) == set(part)
    assert np.abs(mean[mirror] * [-1, 1, 1] + [511, 0, 0] - mean).max() < 1e-2
    assert len(face_mesh.mesh_triangles()) > 850 and set(face_mesh.mesh_triangles().ravel()) == set(range(468))


def test_the_weights_are_small_and_say_where_they_come_from():
    assert face_mesh.WEIGHTS.stat().st_size <= 2.5e6
    from safetensors import safe_open

    with safe_open(face_mesh.WEIGHTS, "pt") as file:
        assert "pictures" in file.metadata()["provenance"]


def test_folding_the_norms_changes_nothing():
    torch.manual_seed(0)
    network = FaceMesh(norm=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    network.eval()
    x = torch.rand(2, 3, 128, 128)
    assert torch.allclose(network(x), network.folded().eval()(x), atol=1e-4)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "face_mesh.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="face_mesh.safetensors"):
        face_mesh.load_face_mesh(tmp_path / "face_mesh.safetensors")

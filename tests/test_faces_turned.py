"""Faces that lie on their side or stand on their head: found, cut out upright, and put back as they lay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.faces import detect, mtcnn, turned
from personal_restore.lib.faces.align import moved
from personal_restore.lib.faces.detection import Detection
from personal_restore.lib.faces.paste import unwarp
from personal_restore.lib.pictures.files import from_pil, read_picture, to_pil
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import Faces
from personal_restore.nodes.faces import DetectFaces, describe_faces

needs_mtcnn = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)


def rotated(photo: torch.Tensor, angle: float) -> torch.Tensor:
    return from_pil(to_pil(photo).rotate(angle, expand=True, fillcolor=(128, 128, 128)))


def around(points: np.ndarray, angle: float, before, after) -> np.ndarray:
    """Where Pillow's rotation brings points."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    centre, middle = (np.array([(size[-1] - 1) / 2, (size[-2] - 1) / 2]) for size in (before, after))
    return (points - centre) @ np.array([[cos, -sin], [sin, cos]]) + middle


@pytest.mark.parametrize("angle", [0, 45, 90, 135, 180, 225, 270, 315])
def test_points_go_where_the_picture_goes(angle):
    photo = torch.zeros(3, 50, 80)
    photo[:, 20:23, 60:63] = 1
    picture, matrix = turned.turned(photo, angle)
    y, x = np.unravel_index(int(picture[0].argmax()), picture.shape[-2:])
    np.testing.assert_allclose(moved(np.array([[61.0, 21.0]]), matrix)[0], [x, y], atol=1.5)
    there = Detection((50.0, 11.0, 72.0, 31.0), np.full((5, 2), 20.0), 0.9).placed(matrix)
    assert (there.box[2] - there.box[0]) * (there.box[3] - there.box[1]) == pytest.approx(440, rel=0.02)


def test_a_large_photograph_is_reduced_where_it_must_be_resampled():
    picture, matrix = turned.turned(torch.zeros(3, 1600, 3200), 45)
    assert max(picture.shape[-2:]) < 1800
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), 0.25)


@needs_mtcnn
@pytest.mark.parametrize("angle", [30, 45, 75, 90, 135, 180, 230, 270, 315])
def test_a_portrait_turned_by_any_angle_gives_the_same_crop(astronaut, angle):
    upright = detect.make_face(astronaut[0], detect.detect_faces(astronaut[0], "mtcnn")[0])
    photo = rotated(astronaut[0], angle)
    found = detect.detect_faces(photo, "mtcnn")
    assert len(found) == 1
    expected = around(upright.landmarks, angle, astronaut.shape, photo.shape)
    eyes = np.linalg.norm(upright.landmarks[0] - upright.landmarks[1])
    assert np.abs(found[0].landmarks - expected).max() < 0.15 * eyes, "left is still left"
    face = detect.make_face(photo, found[0])
    assert abs((face.turn + angle - upright.turn + 180) % 360 - 180) < 6
    small = [
        F.interpolate(one.crop[None, :, 96:480, 96:416], scale_factor=0.125, mode="area") for one in (face, upright)
    ]
    assert psnr(*small) > 20, "upright in its crop"
    region, valid, (x0, y0, x1, y1) = unwarp(face.crop, face.similarity, photo.shape[-2:])
    inside = valid > 0.99
    assert (region - photo[:, y0:y1, x0:x1]).abs()[inside.expand(3, -1, -1)].mean() < 0.02, "put back as it lay"


@needs_mtcnn
def test_the_node_finds_a_face_that_stands_on_its_head_and_says_so(astronaut):
    photo = torch.rot90(astronaut, 2, (2, 3)).movedim(1, -1)
    faces, report = DetectFaces.execute(photo, 0.0).args
    assert len(faces) == 1 and abs(abs(faces.frames[0][0].turn) - 180) < 8
    assert "turned by" in report and "upside down" not in describe_faces(Faces((), (4, 4)))
    upright = DetectFaces.execute(astronaut.movedim(1, -1), 0.0).args[1]
    assert "turned by" not in upright


@needs_mtcnn
def test_a_box_around_a_face_on_its_side_gives_its_landmarks(astronaut):
    photo = torch.rot90(astronaut[0], 1, (1, 2))
    expected = around(detect.detect_faces(astronaut[0], "mtcnn")[0].landmarks, 90, astronaut.shape, photo.shape)
    box = {"x": 60, "y": 512 - 280, "width": 130, "height": 110}
    found = detect.detections_from_boxes(photo, [box], "mtcnn")[0]
    assert np.abs(found.landmarks - expected).max() < 10


def test_a_photograph_with_a_certain_face_is_not_turned():
    looks = []

    def scan(picture):
        looks.append(tuple(picture.shape))
        return [Detection((2, 2, 30, 30), np.array([[10.0, 12], [20, 12], [15, 16], [11, 22], [19, 22]]), 0.9)]

    assert len(turned.search(scan, [torch.zeros(3, 40, 60)], 0.5, 0.75)) == 1 and looks == [(3, 40, 60)]
    turned.search(scan, [torch.zeros(3, 40, 60)], 0.5, 0.95)
    assert looks[1:] == [(3, 40, 60), (3, 60, 40), (3, 40, 60), (3, 60, 40)], "an uncertain one: by quarters only"


@pytest.mark.parametrize(("score", "count"), [(0.6, 0), (0.99, 1)])
def test_one_doubtful_face_is_not_enough_to_turn_a_photograph(score, count):
    eyes = np.array([[10.0, 12], [20, 12], [15, 16], [11, 22], [19, 22]])

    def scan(picture):
        return [] if picture.shape[-1] > picture.shape[-2] else [Detection((2, 2, 30, 30), eyes, score)]

    assert len(turned.search(scan, [torch.zeros(3, 40, 60)], 0.5, 0.75)) == count


@needs_mtcnn
@pytest.mark.slow
def test_photographs_turned_by_quarters_keep_their_faces_and_upright_ones_stay(photos):
    """Damaged, too, where scores are low: with the tested share of faces that are found at all."""
    total = right = surplus = 0
    for number, path in enumerate(sorted((photos / "compreface").glob("*.jpg"))[::4][:8]):
        photo = read_picture(path)
        photo = F.interpolate(photo[None], scale_factor=640 / max(photo.shape), mode="bilinear", antialias=True)
        for picture in (photo[0], FAMILIES["trial"](number).apply(photo)[0]):
            found = [face for face in detect.detect_faces(picture, "mtcnn") if face.score > 0.995]
            for quarters in (1, 2, 3):
                seen = detect.detect_faces(torch.rot90(picture, quarters, (1, 2)), "mtcnn")
                _, matrix = turned.turned(picture, 90 * quarters)
                eyes = [np.linalg.norm(face.landmarks[0] - face.landmarks[1]) for face in found]
                hits = [
                    any(np.abs(face.placed(matrix).landmarks - one.landmarks).max() < 0.3 * eye for one in seen)
                    for face, eye in zip(found, eyes, strict=True)
                ]
                total, right, surplus = total + len(found), right + sum(hits), surplus + (not found and bool(seen))
    assert total > 12 and right >= 0.9 * total, f"{right} of {total}"
    assert surplus <= 3

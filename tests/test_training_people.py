"""The data of the learned gate, on drawn stand-ins: made-up people, portraits, pairs across years, second views."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from personal_restore.lib.faces.align import template
from personal_restore.lib.faces.detection import Detection
from personal_restore.lib.vocabulary import UserError
from personal_restore.training.album import (
    face_points,
    made_up_people,
    photographs,
    piecewise,
    portraits,
    relief,
    test_pairs,
)
from personal_restore.training.album import second_view as views

SIDE = 420


def drawn_points(rng: np.random.Generator, smile: float) -> np.ndarray:
    """189 points of a drawn face: a grid of features around the five of the template, the rest on circles."""
    five = template(300) + 60 + rng.normal(0, 3, (5, 2))
    points = np.zeros((189, 2))
    angle = np.linspace(0, 2 * np.pi, 189, endpoint=False)
    points[:] = [210, 240] + np.stack([np.cos(angle), np.sin(angle)], 1) * (70 + 40 * (np.arange(189) % 3))[:, None]
    for rows, center in ((face_points.LEFT_EYE, five[0]), (face_points.RIGHT_EYE, five[1])):
        around = np.linspace(0, 2 * np.pi, len(rows), endpoint=False)
        points[rows] = center + np.stack([12 * np.cos(around), 6 * np.sin(around)], 1)
    points[[54, 60, 55]] = five[2] + [[-8, -2], [8, -2], [0, 4]]
    points[face_points.MOUTH_CORNERS] = five[3:] + [[-smile, -smile], [smile, -smile]]
    return points + rng.normal(0, 0.3, points.shape)


def drawn_face(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 ``[SIDE, SIDE, 3]`` with eyes and a mouth at the points, on a textured ground."""
    noise = cv2.GaussianBlur(rng.uniform(60, 200, (SIDE, SIDE, 3)).astype(np.float32), (0, 0), 5)
    picture = np.ascontiguousarray((noise - noise.mean()) * 4 + rng.uniform(90, 170, 3)).clip(0, 255).astype(np.uint8)
    for center in face_points.five_of_189(points):
        cv2.circle(picture, tuple(np.round(center).astype(int).tolist()), 7, (20, 20, 30), -1, cv2.LINE_AA)
    return picture


@pytest.fixture
def london(tmp_path):
    """The London set's folders with three drawn people; both expressions have their points."""
    for number, name in enumerate(["001", "004", "010"]):
        rng = np.random.default_rng(number)
        for folder, end, smile in (("neutral_front", "_03", 0), ("smiling_front", "_08", 6)):
            (tmp_path / "inst" / folder).mkdir(parents=True, exist_ok=True)
            points = drawn_points(rng, smile)
            photographs.write_jpeg(tmp_path / "inst" / folder / f"{name}{end}.jpg", drawn_face(points, rng))
            lines = ["189", *(f"{x}\t{y}" for x, y in points), "0"]
            (tmp_path / "inst" / folder / f"{name}{end}.tem").write_text("\n".join(lines))
    return tmp_path


def test_weights_are_convex_depend_on_the_seed_and_on_their_own_number_only():
    weights = made_up_people.draw_weights(9, 40, 3)
    assert np.allclose(weights.sum(1), 1) and (weights >= 0).all()
    assert np.array_equal(weights[:9], np.eye(9))
    assert weights[9:].max() <= 0.75 + 1e-9
    assert set((weights[9:] > 0).sum(1)) <= {2, 3}
    assert np.array_equal(made_up_people.draw_weights(9, 10, 3), weights[:19])
    assert not np.array_equal(made_up_people.draw_weights(9, 40, 4)[9:], weights[9:])


def test_people_are_the_same_combination_in_both_expressions(london, tmp_path):
    out = tmp_path / "people"
    assert made_up_people.make_people(london, out, 3, seed=1) == 6
    with np.load(out / "people.npz") as kept:
        weights, points, landmarks = kept["weights"], kept["points"], kept["landmarks"]
        assert kept["original"].tolist() == [True] * 3 + [False] * 3
        assert kept["donor"].tolist() == weights.argmax(1).tolist()
    assert weights.shape == (6, 3) and points.shape == (6, 2, 189, 2)
    # The five landmarks lie on the template, as near as the person's proportions allow.
    assert np.abs(landmarks - template(made_up_people.SIZE)).max() < 20
    sources = made_up_people.read_people(london)
    for column, expression in enumerate(made_up_people.EXPRESSIONS):
        mixed = np.tensordot(weights[4].astype(float), sources.points[expression], 1)
        again = mixed @ made_up_people.crop_matrix(mixed)[:, :2].T + made_up_people.crop_matrix(mixed)[:, 2]
        assert np.allclose(again, points[4, column], atol=0.01)


def test_one_person_alone_keeps_shape_and_pixels(london):
    sources = made_up_people.read_people(london)
    faces = made_up_people.mean_triangles(sources, "smiling")
    picture, shape = made_up_people.combined(sources, "smiling", np.array([0.0, 1.0, 0.0]), faces)
    assert np.allclose(shape, sources.points["smiling"][1])
    assert np.abs(picture - sources.pictures["smiling"][1]).mean() < 0.5


def test_people_are_made_again_alike_and_go_on_where_they_stopped(london, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    made_up_people.make_people(london, first, 2, seed=5)
    made_up_people.make_people(london, second, 1, seed=5)
    marked = second / "00000_neutral.jpg"
    marked.write_bytes(b"was here")
    made_up_people.make_people(london, second, 2, seed=5)
    assert marked.read_bytes() == b"was here"
    for number in (3, 4):
        name = f"{number:05d}_smiling.jpg"
        assert (first / name).read_bytes() == (second / name).read_bytes()
    with np.load(first / "people.npz") as one, np.load(second / "people.npz") as other:
        assert np.array_equal(one["points"], other["points"])
    with pytest.raises(UserError, match="other settings"):
        made_up_people.make_people(london, second, 2, seed=6)


def test_points_follow_a_mesh_into_the_other_expression(london):
    (london / "inst" / "smiling_front" / "001_08.tem").unlink()
    with pytest.raises(UserError, match="no face mesh"):
        made_up_people.read_people(london)
    rng = np.random.default_rng(0)
    points = drawn_points(rng, 0)
    mesh = rng.uniform(90, 330, (468, 2))
    shifted = face_points.carried(points, mesh, mesh + [7, -4])
    assert np.allclose(shifted, points + [7, -4], atol=1e-6)
    lower = mesh.copy()
    lower[face_points.MESH_LOWER] += [0, 15]
    opened = (face_points.carried(points, mesh, lower) - points)[:, 1]
    assert np.abs(opened[face_points.UPPER_LIP]).max() < 1e-9 < opened[face_points.LOWER_LIP].min()


def test_a_piecewise_warp_brings_points_to_their_places():
    rng = np.random.default_rng(2)
    border = piecewise.border_points(120)
    source = np.concatenate([rng.uniform(30, 90, (12, 2)), border])
    target = source + np.concatenate([rng.uniform(-4, 4, (12, 2)), np.zeros_like(border)])
    where = piecewise.sampling_map(source, target, piecewise.delaunay(source), 120, step=1)
    found = cv2.remap(where, target[:12, None].astype(np.float32), None, cv2.INTER_LINEAR)[:, 0]
    assert np.abs(found - source[:12]).max() < 1
    still = piecewise.sampling_map(source, source, piecewise.delaunay(source), 120)
    y, x = np.mgrid[:120, :120]
    assert np.abs(still - np.stack([x, y], -1)).max() < 0.01


def test_a_blend_keeps_both_sides():
    inside, outside = np.full((64, 64, 3), 200, np.float32), np.full((64, 64, 3), 40, np.float32)
    mask = np.zeros((64, 64), np.float32)
    mask[:, 32:] = 1
    blended = piecewise.pyramid_blend(inside, outside, mask, levels=2)
    assert np.allclose(blended[:, :8], 40, atol=1) and np.allclose(blended[:, -8:], 200, atol=1)


def test_second_view_is_deterministic_and_different():
    rng = np.random.default_rng(0)
    crop = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    first, at = views.second_view(crop, template(96), np.random.default_rng(7))
    again, at_again = views.second_view(crop, template(96), np.random.default_rng(7))
    other, _ = views.second_view(crop, template(96), rng)
    assert torch.equal(first, again) and np.array_equal(at, at_again)
    assert first.shape == crop.shape and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 1
    assert (first - other).abs().mean() > 0.02


@pytest.mark.parametrize("size", [128, 256])
def test_points_move_with_their_pixels(size):
    """A dot at a landmark is found where the map says, for the strongest of many turns."""
    landmarks = template(size)
    for seed in range(12):
        pose = views.draw_pose(np.random.default_rng(seed))
        backward, _ = views.view_map(size, landmarks, pose)
        predicted = relief.follow(landmarks, backward)
        for point, expected in zip(landmarks, predicted, strict=True):
            y, x = np.mgrid[:size, :size]
            dot = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 8).astype(np.float32)
            moved = cv2.remap(dot, backward, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            found = np.array([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
            assert np.hypot(*(found - expected)) < 1.5


def test_a_drawn_dot_ends_where_the_second_view_says(monkeypatch):
    for seed in range(8):
        size, landmarks = 192, template(192)
        crop = torch.full((3, size, size), 0.75)
        y, x = np.mgrid[:size, :size]
        dot = np.exp(-((x - landmarks[3, 0]) ** 2 + (y - landmarks[3, 1]) ** 2) / 8)
        crop[:, :, :] -= torch.from_numpy(0.7 * dot).float()
        monkeypatch.setattr(views.drawn, "with_occluder", lambda picture, *_: picture)
        monkeypatch.setattr(views.drawn, "with_glasses", lambda picture, *_: picture)
        monkeypatch.setattr(views.drawn, "with_mark", lambda picture, *_: picture)
        view, points = views.second_view(crop, landmarks, np.random.default_rng(seed))
        around = ((x - points[3, 0]) ** 2 + (y - points[3, 1]) ** 2) < 15**2
        dark = (view.mean(0).numpy().max(initial=0, where=around) - view.mean(0).numpy()).clip(0) ** 4 * around
        found = np.array([(dark * x).sum(), (dark * y).sum()]) / dark.sum()
        assert np.hypot(*(found - points[3])) < 1.5


def test_a_head_turned_right_moves_its_nose_right_of_its_eyes():
    landmarks = template(256)
    still = dict(
        pitch=0,
        roll=0,
        near=0,
        radial=0,
        zoom=1,
        shift=np.zeros(2),
        corners=np.zeros((2, 2)),
        brows=np.zeros(2),
        lids=0,
    )
    backward, _ = views.view_map(256, landmarks, views.Pose(yaw=0.3, **still))
    moved = relief.follow(landmarks, backward) - landmarks
    assert moved[2, 0] - moved[:2, 0].mean() > 3
    unmoved, _ = views.view_map(256, landmarks, views.Pose(yaw=0, **still))
    assert np.abs(relief.follow(landmarks, unmoved) - landmarks).max() < 0.05


def test_portraits_leave_out_the_tested_and_those_without_a_clear_face(tmp_path, monkeypatch):
    congress = tmp_path / "congress"
    congress.mkdir()
    for name, value in (("A000001", 90), ("B000002", 10), ("C000003", 150)):
        photographs.write_jpeg(congress / f"{name}.jpg", np.full((275, 225, 3), value, np.uint8))
    landmarks = template(225) + [0, 20]
    calls = []

    def face(picture):
        calls.append(picture.mean())
        return None if picture.mean() < 50 else Detection((40.0, 40.0, 180.0, 220.0), landmarks, 0.99)

    monkeypatch.setattr(photographs, "clear_face", face)
    assert portraits.prepare(congress, tmp_path / "out", {"C000003"}) == ["A000001"]
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == ["B000002"]
    with np.load(tmp_path / "out" / "points.npz") as kept:
        assert np.allclose(kept["points"][0], template(256), atol=0.01)
        assert kept["eye_distance"][0] == pytest.approx(photographs.landmark_eye_distance(landmarks))
    before = len(calls)
    portraits.prepare(congress, tmp_path / "out", {"C000003"})
    assert len(calls) == before + 1  # only the skipped one is looked at again


def test_pairs_join_by_id_and_the_same_shot_is_dropped(tmp_path):
    (tmp_path / "congress").mkdir()
    people = {"senate": [("X000001", "ann-one")], "house": [("Y000002", "ben-two"), ("Z000003", "cat-three")]}
    for body, members in people.items():
        folder = tmp_path / body / f"us-{body}"
        headshots = folder / "images" / "headshots" / "1024x1024"
        headshots.mkdir(parents=True)
        (folder / "data").mkdir()
        rows = [{"bioguide": key, "name_slug": slug} for key, slug in members]
        (folder / "data" / f"us-{body}.json").write_text(json.dumps(rows))
        for _, slug in members:
            (headshots / f"{slug}.jpg").touch()
    for key in ("X000001", "Y000002", "W000009"):
        (tmp_path / "congress" / f"{key}.jpg").touch()
    joined = test_pairs.joined_people(tmp_path / "congress", tmp_path / "senate", tmp_path / "house")
    assert [pair.id for pair in joined] == ["X000001", "Y000002"]
    measured = [test_pairs.Pair(p.id, p.congress, p.headshot, r) for p, r in zip(joined, (0.95, 0.4), strict=True)]
    assert [pair.id for pair in test_pairs.different([*measured, joined[0]])] == ["Y000002"]


def test_the_same_shot_correlates_although_it_was_cropped_and_lit_otherwise():
    rng = np.random.default_rng(4)
    first, other = (cv2.GaussianBlur(rng.random((128, 128)).astype(np.float32), (0, 0), 3) * 4 for _ in range(2))
    matrix = np.array([[1.02, 0.03, -2.5], [-0.03, 1.02, 1.5]])
    again = 0.6 * cv2.warpAffine(first, matrix, (128, 128), borderMode=cv2.BORDER_REFLECT) + np.linspace(
        0, 0.3, 128, dtype=np.float32
    )
    assert test_pairs.face_correlation(first, again) > 0.9
    assert test_pairs.face_correlation(first, other) < 0.6


def test_no_clear_face_where_there_is_none_or_more_than_one(monkeypatch):
    faces = [
        Detection((10.0, 10.0, 60.0, 70.0), template(60), 0.99),
        Detection((0.0, 0.0, 8.0, 9.0), template(8), 0.99),
    ]
    monkeypatch.setattr(photographs, "detect_faces", lambda *_: faces)
    assert photographs.clear_face(np.zeros((100, 100, 3), np.uint8)).box == faces[0].box
    faces[1] = Detection((40.0, 10.0, 90.0, 70.0), template(60), 0.95)
    assert photographs.clear_face(np.zeros((100, 100, 3), np.uint8)) is None
    faces.clear()
    assert photographs.clear_face(np.zeros((100, 100, 3), np.uint8)) is None

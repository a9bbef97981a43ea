"""A batch is restored photograph by photograph: each as if it were alone, with a code of its own, canceled after any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.estimate import face_pairs
from personal_restore.lib.faces import align, detect
from personal_restore.lib.fusion.compose import compose_faces
from personal_restore.lib.restoring.apply import restore_faces, restore_scene
from personal_restore.lib.vocabulary import Conditions, DegradationCode, Face, Faces, Library, Similarity, UserError
from personal_restore.nodes.estimate import EstimateDegradation
from personal_restore.nodes.layout import to_image
from personal_restore.nodes.restore import RestoreScene


class Counting:
    """Brightens by what the code says, and notes what it was given."""

    name, native_size, scale, tileable, needs_references = "counting", None, 1, True, False

    def __init__(self, scale: int = 1):
        self.scale, self.given = scale, []

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        self.given.append((len(image), conditions.code))
        more = 0.0 if conditions.code is None else conditions.code.scalars["blur_sigma"]
        conditions.progress(1, 2)
        conditions.show(image, 0, 0)
        conditions.progress(2, 2)
        return torch.nn.functional.interpolate(image + more, scale_factor=self.scale, mode="nearest")


def code(blur: float, frames=()) -> DegradationCode:
    return DegradationCode(torch.zeros(1), torch.zeros(1, 21, 4), "test", {"blur_sigma": blur}, frames)


def faces_in(photos: torch.Tensor, *present: bool) -> Faces:
    """One restored face of 48 px in each photograph, or none."""
    size, corner = 48, 8
    similarity = Similarity(np.array([[1.0, 0, -corner], [0, 1, -corner]]), size)
    frames = []
    for photo, there in zip(photos, present, strict=True):
        crop = photo[:, corner : corner + size, corner : corner + size]
        box = (corner, corner, corner + size, corner + size)
        face = Face(box, np.zeros((5, 2)), 1.0, similarity, crop, torch.ones(1, size, size), restored=crop * 0.9)
        frames.append((face,) if there else ())
    return Faces(tuple(frames), tuple(photos.shape[-2:]))


def test_of_faces_restored_for_their_pair_alone_the_largest_is_enough():
    """And it is one restoration a photograph, although in the first the largest face is cut off by the border and two are equal."""
    photos = torch.rand(3, 3, 150, 400, generator=torch.Generator().manual_seed(0))
    sides = ((20, 20, 60), (90, 40, 70), (200, 60, 70), (330, -80, 150)), (), ((50, 50, 12),)

    def found(photo: torch.Tensor, x: float, y: float, side: float) -> Face:
        box = (x, y, x + side, y + side)
        landmarks = detect.TYPICAL_LANDMARKS * side + [x, y]
        face = detect.make_face(photo, detect.Detection(box, landmarks, 1.0), 96)
        return replace(face, restored=face.crop * 0.9)

    frames = tuple(tuple(found(photo, *one) for one in places) for photo, places in zip(photos, sides, strict=True))
    every, one = Counting(), Counting()
    settings = {"library": Library(), "code": code(0.25)}
    all_of_them = restore_faces(photos, Faces(frames, (150, 400)), every, **settings)
    largest = restore_faces(photos, Faces(frames, (150, 400)), one, only_largest=True, **settings)
    assert len(every.given) == 5 and len(one.given) == 1
    assert [
        [face is old for face, old in zip(*pair, strict=True)] for pair in zip(largest.frames, frames, strict=True)
    ] == [
        [True, False, True, True],
        [],
        [True],
    ]
    pairs = [face_pairs("test", photos, faces).frames for faces in (all_of_them, largest)]
    assert torch.equal(pairs[0][0], pairs[1][0]) and pairs[0][1:] == pairs[1][1:] == (None, None)


@pytest.mark.parametrize("scale", [1, 2])
def test_faces_are_cut_out_of_a_scene_that_the_same_restorer_has_restored(scale):
    photos = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    faces, restorer = faces_in(photos, True, True), Counting(scale)
    scenes = restore_scene(photos, restorer, Conditions(code=code(0.25)))
    calls = len(restorer.given)
    cut = restore_faces(photos, faces, restorer, Library(), scenes=scenes, strength=0.5)
    assert len(restorer.given) == calls
    alone = restore_faces(photos, faces, restorer, Library(), code=code(0.25), strength=0.5)
    for one, other in zip(cut.frames, alone.frames, strict=True):
        # Measured: 2e-6, because places in a larger picture are rounded to larger steps.
        assert (one[0].restored - other[0].restored).abs().max() < 1e-5
    with pytest.raises(UserError, match="scene must be the photograph as counting restores it"):
        restore_faces(photos, faces, restorer, Library(), scenes=scenes[..., :-1])
    restorer.native_size = 512
    with pytest.raises(UserError, match="restores faces only"):
        restore_faces(photos, faces, restorer, Library(), scenes=scenes)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_scene_is_restored_frame_by_frame_as_if_alone(scale, strength):
    photos, seen = torch.rand(3, 3, 20, 30), []
    restorer = Counting(scale)
    conditions = Conditions(progress=lambda done, total: seen.append(done / total))
    shown = []
    out = restore_scene(photos, restorer, conditions, strength, lambda part, left, top, number: shown.append(number))
    assert [count for count, _ in restorer.given] == [1, 1, 1] and shown == [0, 1, 2]
    assert seen == sorted(seen) and seen[-1] == 1 and {1 / 3, 2 / 3} <= set(seen), "after every photograph"
    alone = [restore_scene(one, Counting(scale), Conditions(), strength) for one in photos.split(1)]
    assert torch.equal(out, torch.cat(alone))


def test_a_cancel_takes_effect_after_the_photograph_that_is_being_restored():
    class Stop(Exception):
        pass

    def progress(done, total):
        if done == total / 4:
            raise Stop

    restorer = Counting()
    with pytest.raises(Stop):
        restore_scene(torch.rand(4, 3, 8, 8), restorer, Conditions(progress=progress))
    assert len(restorer.given) == 1
    with pytest.raises(Stop):
        compose_faces(torch.rand(4, 3, 64, 64), faces_in(torch.rand(4, 3, 64, 64), *[False] * 4), progress=progress)


def test_every_photograph_has_the_code_of_its_own_face():
    photos = torch.rand(3, 3, 64, 64) * 0.5
    codes = code(0.3, frames=(code(0.1), None, code(0.3)))
    for of_scene in (True, False):
        restorer = Counting()
        if of_scene:
            restore_scene(photos, restorer, Conditions(code=codes))
        else:
            restore_faces(photos, faces_in(photos, True, True, True), restorer, Library(), code=codes)
        assert [one and one.scalars["blur_sigma"] for _, one in restorer.given] == [0.1, None, 0.3]
    restore_scene(photos, restorer := Counting(), Conditions(code=code(0.2)))
    assert [one.scalars["blur_sigma"] for _, one in restorer.given] == [0.2, 0.2, 0.2], "one for all"
    with pytest.raises(UserError, match="that of 3 photographs, but there are 2"):
        RestoreScene.execute(to_image(photos[:2]), Counting(), 1.0, 0, codes)


def test_the_node_estimates_a_code_for_each_photograph_or_one_for_all(astronaut):
    photos = astronaut[..., 60:156, 180:276].repeat(3, 1, 1, 1)
    photos[2] = torch.nn.functional.avg_pool2d(photos[2], 5, 1, 2)
    faces = faces_in(photos, True, False, True)
    faces = faces.map(lambda face: replace(face, restored=faces.frames[0][0].crop))
    each, report, gauges = EstimateDegradation.execute(to_image(photos), faces, -1).args
    assert [one is not None for one in each.frames] == [True, False, True] and len(gauges) == 3
    assert each.frames[0].scalars != each.frames[2].scalars and "no restored face" in report
    alone = EstimateDegradation.execute(to_image(photos[2:]), replace(faces, frames=faces.frames[2:]), -1).args[0]
    assert alone.scalars == each.frames[2].scalars and not alone.frames
    for chosen in (
        EstimateDegradation.execute(to_image(photos), faces, -1, one_for_all=True).args[0],
        EstimateDegradation.execute(to_image(photos), faces, 0).args[0],
    ):
        assert not chosen.frames and chosen.scalars == each.scalars == each.frames[0].scalars
    nothing = EstimateDegradation.execute(to_image(photos), faces_in(photos, False, False, False), -1).args
    assert nothing[0] is None and len(nothing[2]) == 1


def test_masks_and_photographs_of_a_batch_belong_to_their_own_scene():
    photos = torch.rand(2, 3, 64, 64)
    faces = faces_in(photos, True, True)
    masks = torch.stack([torch.ones(64, 64), torch.zeros(64, 64)])
    out, used = compose_faces(photos, faces, mask=masks, color="none", context="lq", photos=photos)
    assert used[0].max() > 0.9 and not used[1].any() and torch.equal(out[1], photos[1])
    first, _ = compose_faces(
        photos[:1],
        replace(faces, frames=faces.frames[:1]),
        mask=masks[:1],
        color="none",
        context="lq",
        photos=photos[:1],
    )
    assert torch.equal(out[:1], first)


def test_what_shrinks_a_lot_is_averaged_within_bounds(monkeypatch):
    asked = []
    grid = torch.nn.functional.affine_grid
    monkeypatch.setattr(
        align.F, "affine_grid", lambda theta, size, **more: (asked.append(size), grid(theta, size, **more))[1]
    )
    ramp = torch.linspace(0, 1, 3200).expand(3, 2000, 3200)
    for shrink in (5.0, 12.0, 64.0):
        matrix = np.array([[1 / shrink, 0, (1 / shrink - 1) / 2], [0, 1 / shrink, (1 / shrink - 1) / 2]])
        size = (int(2000 / shrink), int(3200 / shrink))
        out = align.warp(ramp, matrix, size)
        expected = torch.nn.functional.interpolate(ramp[None], size, mode="area")[0]
        assert (out - expected)[..., 1:-1].abs().max() < 0.006
        assert max(asked[-1]) <= (align.MOST_SAMPLES + 1) * max(size)


def test_a_box_of_nothing_is_refused():
    with pytest.raises(UserError, match="nearly at the same point"):
        box = {"x": 100, "y": 100, "width": 1e-3, "height": 1e-3}
        detect.make_face(torch.rand(3, 150, 200), detect.detections_from_boxes(torch.rand(3, 150, 200), [box])[0])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ({"x": 0, "y": 0, "width": 16384, "height": 16384}, (0, 0, 200, 150)),
        ({"x": -1e9, "y": 20, "width": 2e9, "height": 1e9}, (0, 20, 200, 150)),
        ({"x": 10, "y": 0, "width": 1, "height": 150}, (10, 0, 11, 150)),
    ],
)
def test_a_box_out_of_proportion_is_bounded_by_the_photograph(monkeypatch, box, expected):
    sizes = []

    def scan(picture, threshold):
        sizes.append(max(picture.shape[-2:]))
        return []

    monkeypatch.setattr(detect, "get_detector", lambda *_: detect.Detector("fake", 0.5, scan))
    found = detect.detections_from_boxes(torch.rand(3, 150, 200), [box])[0]
    np.testing.assert_allclose(found.box, expected)
    assert max(sizes) <= 640 and detect.make_face(torch.rand(3, 150, 200), found).crop.shape == (3, 512, 512)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_boxes_and_landmarks_that_are_nowhere_are_refused(value):
    photo = torch.rand(3, 150, 200)
    with pytest.raises(UserError, match="Box 0"):
        detect.detections_from_boxes(photo, [{"x": value, "y": 0, "width": 50, "height": 50}])
    mesh = {"bbox_xyxy": [0, 0, 50, 50], "landmarks_xy": np.full((478, 2), value), "score": 1.0}
    with pytest.raises(UserError, match="landmarks of face 0"):
        detect.detections_from_mesh([mesh], (150, 200))

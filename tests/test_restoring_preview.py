"""What is shown while a long restoration is on its way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.pictures.tiles import tiled
from personal_restore.lib.restoring import preview
from personal_restore.lib.restoring.apply import restore_faces
from personal_restore.lib.restoring.preview import Preview
from personal_restore.lib.vocabulary import Faces, Library


class Told(list):
    def __call__(self, done, total, picture):
        self.append((done, total, None if picture is None else picture.clone()))


@pytest.fixture
def at_once(monkeypatch):
    """Every picture is due."""
    monkeypatch.setattr(preview, "PAUSE", 0.0)


@pytest.mark.parametrize("scale", [1, 2])
def test_finished_tiles_come_over_the_damaged_photograph(astronaut, at_once, scale):
    told = Told()
    view = Preview(astronaut, told, 128, scale)

    def apply(tile):
        return 1 - F.interpolate(tile, scale_factor=scale, mode="nearest")

    out = tiled(apply, astronaut, 256, 64, scale=scale, progress=view.progress, show=view.part)
    assert [step[:2] for step in told] == [(n, 9) for n in range(1, 10)]
    before = F.interpolate(astronaut, (128, 128), mode="area")[0]
    first, late = told[0][2], told[-1][2]
    assert first.shape == (3, 128, 128)
    torch.testing.assert_close(first[:, :64, :64], 1 - before[:, :64, :64], atol=1e-5, rtol=0)
    assert torch.equal(first[:, 64:], before[:, 64:]) and torch.equal(first[:, :, 64:], before[:, :, 64:])
    small = F.interpolate(out, (128, 128), mode="area")[0]
    torch.testing.assert_close(late, small, atol=1e-5, rtol=0)


def test_a_picture_is_sent_now_and_then_and_not_for_every_step(astronaut, monkeypatch):
    clock = iter([0.0, 0.1, 0.2, 0.5, 0.6])
    monkeypatch.setattr(preview.time, "monotonic", lambda: next(clock))
    told = Told()
    view = Preview(astronaut, told, 64)
    for done in range(1, 6):
        view.part(astronaut[..., :64, :64], 0, 0)
        view.progress(done, 5)
    assert [picture is not None for _, _, picture in told] == [True, False, False, True, True]
    short = Told()
    view = Preview(astronaut, short, 64)
    view.part(astronaut, 0, 0)
    monkeypatch.undo()
    view.progress(1, 1)
    assert short[-1] == (1, 1, None), "the result itself is there"


def test_where_nobody_looks_nothing_is_computed(astronaut, at_once):
    told = Told()
    view = Preview(astronaut, told, 0)
    view.part(None, 0, 0)
    view.face(0, None)
    view.progress(1, 2)
    assert told == [(1, 2, None)]


def test_a_finished_face_is_shown_in_its_place(astronaut, at_once):
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    faces = Faces(((), (face, replace(face, strength=0.0))), (512, 512))
    photos = torch.cat([torch.zeros_like(astronaut), astronaut])

    class White:
        native_size, scale, needs_references = 512, 1, False

        def restore(self, image, conditions):
            return torch.ones_like(image)

    told = Told()
    view = Preview(photos, told, 256)
    restore_faces(photos, faces, White(), Library(), progress=view.progress, show=view.face)
    (picture,) = [picture for _, _, picture in told if picture is not None]  # the second face is left as it was
    small = F.interpolate(astronaut, (256, 256), mode="area")[0]
    x0, y0, x1, y1 = (round(side / 2) for side in face.box)
    assert picture[:, (y0 + y1) // 2, (x0 + x1) // 2].min() > 0.99
    outside = torch.ones(256, 256, dtype=torch.bool)
    outside[y0 - 20 : y1 + 20, x0 - 20 : x1 + 20] = False
    torch.testing.assert_close(picture[:, outside], small[:, outside])

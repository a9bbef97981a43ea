"""Masks of faces: the oval, and the regions that the landmarks and a segmentation give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import outline
from personal_restore.lib.faces.align import TEMPLATE_512
from personal_restore.lib.faces.detect import detect_faces, dlib_file, make_face
from personal_restore.lib.fusion.compose import compose_faces
from personal_restore.lib.fusion.mask import face_mask, region_mask, segment_of
from personal_restore.lib.vocabulary import Faces, UserError
from personal_restore.nodes.masks import MaskFaces

CHIN, CHEEKS = (255, 465), ((116, 310), (378, 310))  # medians of dlib's outline over aligned photographs


@pytest.mark.parametrize("size", [32, 97, 512])
def test_mask_fades_from_one_to_zero_before_the_crop_ends(size):
    mask = face_mask(size)
    assert mask.shape == (1, size, size) and mask.dtype == torch.float32
    assert mask.min() == 0 and mask.max() == 1
    border = torch.cat([mask[0, 0], mask[0, -1], mask[0, :, 0], mask[0, :, -1]])
    assert not border.any()
    assert torch.allclose(mask, mask.flip(-1), atol=1e-6)


def test_mask_holds_the_template_and_the_outline_of_a_typical_face():
    mask = face_mask(512)[0]
    for x, y in TEMPLATE_512.round().astype(int):
        assert mask[y, x] == 1
    for x, y in (CHIN, *CHEEKS):
        assert mask[y, x] > 0.7


def test_mask_is_the_same_picture_at_every_size():
    small = face_mask(128)
    assert (torch.nn.functional.avg_pool2d(face_mask(512), 4) - small).abs().max() < 0.02


def test_mask_has_no_steep_edge():
    mask = face_mask(512)[0]
    assert (mask[1:] - mask[:-1]).abs().max() < 0.08 and (mask[:, 1:] - mask[:, :-1]).abs().max() < 0.08


PREDICTOR = [
    pytest.param(True, marks=pytest.mark.skipif(
        dlib_file("shape_predictor_68_face_landmarks.dat") is None,
        reason="dlib's predictor is not installed; python run.py test installs it",
    )),
    False,
]  # fmt: skip


@pytest.fixture(params=PREDICTOR, ids=["dlib", "five points"])
def face(request, astronaut, monkeypatch):
    """With dlib's predictor, and as if it were not installed."""
    if not request.param:
        monkeypatch.setattr(outline, "dlib_file", lambda name: None)
    return make_face(astronaut[0], detect_faces(astronaut[0])[0])


def test_both_outlines_of_a_face_agree(astronaut, monkeypatch):
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    if dlib_file("shape_predictor_68_face_landmarks.dat") is None:
        pytest.skip("dlib's predictor is not installed; python run.py test installs it")
    seen = outline.outline(face)
    monkeypatch.setattr(outline, "dlib_file", lambda name: None)
    typical = outline.outline(face)
    assert seen.shape == typical.shape == (27, 2)
    assert np.hypot(*(seen - typical).T).mean() < 25  # of 512


def test_regions_hold_each_other_and_fade_before_the_crop_ends(face):
    masks = [region_mask(face, region) for region in ("face", "head", "person")]
    for mask in masks:
        assert mask.shape == (1, 512, 512) and mask.min() < 1e-6 and mask.max() > 0.99
        assert not torch.cat([mask[0, 0], mask[0, -1], mask[0, :, 0], mask[0, :, -1]]).max() > 0.01
        assert (mask[:, 1:] - mask[:, :-1]).abs().max() < 0.08
    own, head, person = masks
    assert (own <= head + 1e-3).all() and (head <= person + 1e-3).all() and own.sum() < 0.7 * head.sum()
    for x, y in TEMPLATE_512.round().astype(int):
        assert own[0, y, x] > 0.99
    assert own[0, 480:].max() == 0, "the neck is no part of the face"


def test_a_segment_bounds_the_region_and_the_smallest_that_holds_the_face_is_taken(face):
    photo = torch.zeros(3, 512, 512)
    everybody, own, somebody_else = photo
    everybody[:] = 1
    x0, y0, x1, y1 = (round(side) for side in face.box)
    own[y0 - 40 : y1 + 20, x0 - 20 : (x0 + x1) // 2 + 20] = 1
    somebody_else[300:, 300:] = 1
    found = segment_of(face, photo, (512, 512))
    assert torch.equal(found, segment_of(face, photo[1:2], (512, 512)))
    assert segment_of(face, photo[2:], (512, 512)) is None and segment_of(face, photo[:0], (512, 512)) is None
    mask = region_mask(face, "face", found)
    assert (mask <= found + 0.01).all() and 0.3 < mask.sum() / region_mask(face, "face").sum() < 0.95
    half = torch.nn.functional.avg_pool2d(photo[None], 2)[0]
    assert (segment_of(face, half, (512, 512)) - found).abs().mean() < 0.01


def test_an_unknown_region_is_a_clear_error(face):
    with pytest.raises(UserError, match="'hat'.*face, head, person, crop"):
        region_mask(face, "hat")


def test_the_node_masks_each_face_and_blending_keeps_to_it(face, astronaut):
    faces = Faces(((replace(face, restored=1 - face.crop),),), (512, 512))
    masked, together = MaskFaces.execute(faces, "face").args
    assert together.shape == (1, 512, 512)
    out, used = compose_faces(astronaut, masked, color="none")
    assert (used - together).abs().max() < 0.02
    far = torch.nn.functional.max_pool2d(together[None], 33, 1, 16)[0, 0] == 0
    assert far.any() and torch.equal(out[..., far], astronaut[..., far]) and not torch.equal(out, astronaut)
    for count in (1, 0):  # no mask at all is what SAM3 gives where it finds nobody
        nowhere, _ = MaskFaces.execute(faces, "person", torch.zeros(count, 512, 512)).args
        assert torch.equal(nowhere.frames[0][0].mask, region_mask(face, "person")), (
            "a face that no segment holds keeps its region"
        )


def test_masks_of_another_number_than_the_photographs_are_refused(face):
    with pytest.raises(UserError, match="3 mask.*2 photographs"):
        MaskFaces.execute(Faces(((face,), (face,)), (512, 512)), "face", torch.zeros(3, 512, 512))

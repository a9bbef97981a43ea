"""Restored faces into scenes: strengths, masks, enlarged scenes, inserted ground truth."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.faces.extract import extract_face
from personal_restore.lib.fusion.blend import Patch, blend_faces
from personal_restore.lib.fusion.compose import compose_faces, parse_strengths
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import Faces, UserError


@pytest.fixture(scope="module")
def faces(astronaut) -> Faces:
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    return Faces(((replace(face, restored=(face.crop * 0.5 + 0.3).clamp(0, 1)),),), (512, 512))


@pytest.mark.parametrize("side", [512, 160])
def test_a_face_restored_to_itself_leaves_no_trace_however_small(astronaut, faces, side):
    scene = F.interpolate(astronaut, (side, side), mode="area")
    found = detect_faces(astronaut[0])[0]
    found = replace(found, landmarks=(found.landmarks + 0.5) * (side / 512) - 0.5)
    face = make_face(scene[0], found)
    out, used = compose_faces(scene, Faces(((replace(face, restored=face.crop),),), (side, side)), color="none")
    assert used.max() > 0.9 and psnr(out, scene) > 60


def test_a_clean_face_takes_none_of_the_noise_of_a_scene(astronaut):
    scene = (astronaut + 0.06 * torch.randn(astronaut.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    face = make_face(scene[0], detect_faces(astronaut[0])[0])
    clean = make_face(astronaut[0], detect_faces(astronaut[0])[0]).crop
    out, used = compose_faces(scene, Faces(((replace(face, restored=clean),),), (512, 512)), color="none")
    where = (used == 1).expand(1, 3, -1, -1)
    left = (out - astronaut)[where].std() / (scene - astronaut)[where].std()
    assert left < 0.2


def test_the_mask_says_where_the_scene_changed(astronaut, faces):
    out, used = compose_faces(astronaut, faces, color="none")
    changed = (out - astronaut).abs().amax(1) > 0
    near = F.max_pool2d(used[None], 33, 1, 16)[0] > 0
    assert changed.any() and not (changed & ~near).any()
    inside = used == 1
    shift = (out - (astronaut * 0.5 + 0.3)).abs().amax(1)[inside]
    assert shift.median() < 0.02


def test_in_perfuse_frame_a_face_is_blended_in_the_same_place(astronaut, faces):
    wider = extract_face(astronaut[0], detect_faces(astronaut[0])[0], "perfuse")
    wider = Faces(((replace(wider, restored=(wider.crop * 0.5 + 0.3).clamp(0, 1)),),), (512, 512))
    (usual, used), (out, where) = (compose_faces(astronaut, one, color="none") for one in (faces, wider))
    assert (used - where).abs().max() < 0.05
    assert psnr(out, usual) > 40


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"per_face": "0=0"}])
def test_strength_zero_gives_the_scene_back_bit_for_bit(astronaut, faces, options):
    out, used = compose_faces(astronaut, faces, **options)
    assert torch.equal(out, astronaut) and used.max() == 0


def test_half_strength_lies_half_way(astronaut, faces):
    whole, half = (compose_faces(astronaut, faces, strength=s, color="none")[0] for s in (1.0, 0.5))
    torch.testing.assert_close(half, (whole + astronaut) / 2, atol=1e-5, rtol=0)


def test_a_scene_of_twice_the_size_takes_the_face_in_the_same_place(astronaut, faces):
    double = F.interpolate(astronaut, scale_factor=2, mode="bilinear")
    small, large = (compose_faces(scene, faces)[1] for scene in (astronaut, double))
    torch.testing.assert_close(F.interpolate(large[None], scale_factor=0.5, mode="area")[0], small, atol=0.02, rtol=0)


def test_the_wavelet_fix_gives_a_face_the_colours_of_the_scene(astronaut, faces):
    tinted = faces.map(
        lambda face: replace(face, restored=(face.crop * torch.tensor([1.2, 1, 0.8]).view(3, 1, 1)).clamp(0, 1))
    )
    plain, fixed = (compose_faces(astronaut, tinted, color=color)[0] for color in ("none", "wavelet"))
    assert psnr(fixed, astronaut) > psnr(plain, astronaut) + 6


def test_a_mask_from_the_graph_bounds_the_face_and_hides_the_crops_border(astronaut, faces):
    nothing, everything = torch.zeros(1, 64, 64), torch.ones(1, 64, 64)
    assert torch.equal(compose_faces(astronaut, faces, mask=nothing)[0], astronaut)
    _, used = compose_faces(astronaut, faces, mask=everything)
    steps = torch.maximum((used[:, 1:] - used[:, :-1]).abs().max(), (used[..., 1:] - used[..., :-1]).abs().max())
    assert used.max() == 1 and steps < 0.1


def test_ground_truth_inserted_under_a_mask_stays_inside_of_it():
    """The paper's isolation of the face: M = 0 gives the restoration, M = 1 the truth, beyond the mask nothing changes."""
    truth, restored = torch.rand(2, 3, 60, 60)

    def patch(mask):
        return Patch(truth, mask, torch.ones(1, 60, 60), (0, 0, 60, 60))

    assert torch.equal(blend_faces(restored, [patch(torch.zeros(1, 60, 60))]), restored)
    torch.testing.assert_close(blend_faces(restored, [patch(torch.ones(1, 60, 60))]), truth, atol=1e-5, rtol=0)
    corner = torch.zeros(1, 60, 60)
    corner[:, :20, :20] = 1
    out = blend_faces(restored, [patch(corner)])
    assert torch.equal(out[:, 36:], restored[:, 36:]) and torch.equal(out[..., 36:], restored[..., 36:])


def test_sizes_that_do_not_belong_together_are_a_clear_error(astronaut, faces):
    with pytest.raises(UserError, match="500x512.*512x512"):
        compose_faces(astronaut[..., :500], faces)
    with pytest.raises(UserError, match="2 scene"):
        compose_faces(astronaut.expand(2, -1, -1, -1), faces)


def test_masks_and_photographs_that_do_not_belong_to_the_scene_are_a_clear_error(astronaut, faces):
    with pytest.raises(UserError, match="mask holds 3"):
        compose_faces(astronaut, faces, mask=torch.ones(3, 512, 512))
    with pytest.raises(UserError, match="photograph is 500x512"):
        compose_faces(astronaut, faces, photos=astronaut[..., :500], context="lq")


def test_one_photograph_serves_a_batch_of_scenes(astronaut, faces):
    both = Faces(faces.frames * 2, faces.size)
    out, _ = compose_faces(astronaut.repeat(2, 1, 1, 1), both, photos=astronaut, context="lq")
    assert torch.equal(out[0], out[1])


def test_context_lq_without_the_photograph_is_a_clear_error(astronaut, faces):
    with pytest.raises(UserError, match="needs the damaged photograph"):
        compose_faces(astronaut, faces, context="lq")


def test_fine_alignment_brings_a_displaced_face_nearer_to_the_scene(astronaut, faces):
    """A restorer that drew the face three pixels of the photograph to the side."""
    moved = faces.map(lambda face: replace(face, restored=face.crop.roll(round(3 * face.similarity.scale), -1)))
    x0, y0, x1, y1 = (round(value) for value in faces.frames[0][0].box)
    inside = np.s_[..., y0 + 10 : y1 - 10, x0 + 10 : x1 - 10]
    error = [
        float((compose_faces(astronaut, moved, color="none", align=align)[0] - astronaut)[inside].abs().mean())
        for align in (False, True)
    ]
    assert error[1] < 0.6 * error[0]


def test_fine_alignment_leaves_a_face_that_fits_as_it_is(astronaut, faces):
    same = faces.map(lambda face: replace(face, restored=face.crop))
    plain, aligned = (compose_faces(astronaut, same, color="none", align=align)[0] for align in (False, True))
    assert torch.equal(plain, aligned)


def test_strengths_are_read_and_what_cannot_be_meant_is_refused():
    assert parse_strengths("0=0.5, 2=0", 3) == {0: 0.5, 2: 0.0}
    assert parse_strengths("", 0) == {}
    for text in ("0", "a=1", "0=2", "5=0.5", "0=1..2"):
        with pytest.raises(UserError, match="per_face"):
            parse_strengths(text, 3)


@pytest.mark.parametrize(
    "text", ["\n" * 40_000 + "x", "0" * 40_000, "0=" + "1" * 40_000, "0=0" + " " * 40_000 + "x", "9" * 5000 + "=1"]
)
def test_strengths_that_are_too_long_are_refused_in_no_time(text):
    start = time.perf_counter()
    with pytest.raises(UserError, match="per_face") as error:
        parse_strengths(text, 3)
    assert time.perf_counter() - start < 1 and len(str(error.value)) < 600

"""The album restorer: what is lost, how an album picture is laid over a face, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.survival import band_survival, cutoff, frequencies, power, survival
from personal_restore.lib.faces.align import crop_face
from personal_restore.lib.faces.detect import detect_faces
from personal_restore.lib.pictures.color import luma
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import Borrowed, Conditions, DegradationCode, Reference
from personal_restore.models.album.face_mesh import mesh_points
from personal_restore.models.album.fusion import filtered, with_lost_detail
from personal_restore.models.album.gate import (
    COMMON,
    EACH,
    LEVELS,
    Candidates,
    Gate,
    added_to_each,
    band_passes,
    joined_bands,
)
from personal_restore.models.album.ready import load_gate
from personal_restore.models.album.registration import Frame, Registered, expression, facing, nearer_in_pose
from personal_restore.models.album.restorer import AlbumRestorer, album_meshes, likest, resized, working_side

SIDE = 128
MIDDLE = (slice(None), slice(50, 105), slice(38, 90))


@pytest.fixture(scope="module")
def crop(astronaut) -> torch.Tensor:
    """``[3, 512, 512]``: the astronaut's face on the template."""
    face = max(detect_faces(astronaut[0]), key=lambda one: one.box[2] - one.box[0])
    return crop_face(astronaut[0], face.landmarks)[0]


def mesh(picture: torch.Tensor) -> np.ndarray:
    return mesh_points(picture[None])[0].double().numpy()


def code(**scalars: float) -> DegradationCode:
    known = {"blur_sigma": 0.0, "noise_sigma": 0.0, "jpeg_quality": 100.0, "downscale": 1.0} | scalars
    return DegradationCode(torch.zeros(1), torch.zeros(1), "test", known)


def other_day(crop: torch.Tensor, degrees: float = 5.0) -> torch.Tensor:
    """The same face turned in the plane, nearer, lit from the side, with other colors."""
    matrix = cv2.getRotationMatrix2D((255.5, 290), degrees, 1.04)
    turned = cv2.warpAffine(
        crop.permute(1, 2, 0).numpy(), matrix, (512, 512), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    light = torch.linspace(0.75, 1.2, 512)[None, None]
    return (torch.from_numpy(turned).permute(2, 0, 1) * light * torch.tensor([1.05, 1.0, 0.9])[:, None, None]).clamp(
        0, 1
    )


def energy(picture: torch.Tensor) -> torch.Tensor:
    """Power of each octave, finest first."""
    return torch.stack([band.square().mean() for band in band_passes(picture[None])[:LEVELS]])


@pytest.mark.parametrize("family, seed", [("trial", 3), ("trial", 14), ("s3diff_x4", 1), ("mild", 5)])
def test_what_is_said_to_survive_is_what_still_correlates_with_the_truth(crop, family, seed):
    truth = resized(crop, SIDE)
    recipe = FAMILIES[family](seed)
    damaged = recipe.apply(truth[None])[0]
    said = band_survival(survival(recipe.summary(), power(luma(truth)), SIDE * 3 // 2, 1.0), LEVELS)
    pairs = zip(band_passes(luma(truth)[None])[:LEVELS], band_passes(luma(damaged)[None])[:LEVELS], strict=True)
    kept = torch.stack([(a * b).sum() ** 2 / (a.square().sum() * b.square().sum() + 1e-9) for a, b in pairs])
    assert (said - kept).abs().mean() < 0.2


def test_more_damage_leaves_less_and_no_damage_leaves_everything(crop):
    profile = power(luma(resized(crop, SIDE)))
    shares = [
        float(
            survival(
                {"blur_sigma": blur, "noise_sigma": 4.0, "jpeg_quality": 90.0, "downscale": 1.0}, profile, 192, 1.0
            ).mean()
        )
        for blur in (0.0, 1.0, 2.0, 4.0)
    ]
    assert shares == sorted(shares, reverse=True)
    clean = survival(code().scalars, profile, 192, 1.0)
    assert band_survival(clean, LEVELS).min() > 0.8


def test_a_blur_in_one_direction_takes_that_direction_only(crop):
    scalars = code(noise_sigma=4.0).scalars | {"blur_x": 4.0, "blur_y": 0.5, "blur_angle": 0.0}
    left = survival(scalars, power(luma(resized(crop, SIDE))), 192, 1.0)
    fx, fy = frequencies(192, 1.0)
    across, along = (
        left[(one.abs() > 0.1) & (one.abs() < 0.2) & (two.abs() < 0.02)].mean() for one, two in ((fx, fy), (fy, fx))
    )
    assert across < 0.3 < 0.6 < along


def test_the_cutoff_of_a_gaussian_is_that_gaussian():
    fx, fy = frequencies(192, 1.0)
    for sigma in (1.0, 2.0, 4.0):
        response = torch.exp(-2 * torch.pi**2 * sigma**2 * (fx**2 + fy**2))
        assert cutoff(response) == pytest.approx(sigma, rel=0.1)


def test_a_filter_of_ones_changes_nothing_and_one_of_zeros_leaves_nothing(crop):
    picture = resized(crop, SIDE)
    ones = torch.ones(192, 97)
    assert (filtered(picture, ones) - picture).abs().max() < 1e-5
    assert filtered(picture, 0 * ones).abs().max() < 1e-6


def test_an_album_picture_of_another_day_comes_to_lie_on_the_face(crop):
    face, reference = resized(crop, SIDE), other_day(crop, 8)
    soft = torch.from_numpy(cv2.GaussianBlur(face.permute(1, 2, 0).numpy(), (0, 0), 1.5)).permute(2, 0, 1)
    found = Frame(soft, mesh(soft), 1.5).register(reference, mesh(reference))
    before, after = (contrast_likeness(face, picture) for picture in (resized(reference, SIDE), found.picture))
    assert after > 0.8 and after > before + 0.15
    assert found.likeness > 0.7
    assert float(found.confidence[0, 60:90, 45:83].mean()) > 0.5


def contrast_likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """Correlation of the fine bands in the middle of the face."""
    one, other = (band_passes(luma(x)[None])[1][0, 0, 25:52, 19:45].flatten() for x in (a, b))
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def test_a_head_turned_the_other_way_is_mirrored(crop):
    shape = mesh(crop)
    turn = np.radians(25)
    middle = shape.mean(0)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    right, left = ((shape - middle) @ matrix.T + middle for matrix in (rotation, rotation.T))
    picture, moved = nearer_in_pose(crop, left, right)
    assert torch.equal(picture, crop.flip(-1)) and moved[4, 0] == pytest.approx(511 - left[4, 0], abs=3)
    picture, moved = nearer_in_pose(crop, right, right)
    assert picture is crop and moved is right


def test_a_turn_of_the_head_is_no_expression_and_an_open_mouth_is(crop):
    shape = mesh(crop)
    turn = np.radians(20)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    assert expression(shape @ rotation.T, shape).max() < 1e-6
    opened = shape.copy()
    opened[[17, 14, 87, 317, 84, 314], 1] += 30
    assert expression(opened, shape)[17] > 20 > 3 > np.median(expression(opened, shape))


def test_the_far_cheek_of_a_turned_head_is_not_seen(crop):
    shape = mesh(crop)
    turn = np.radians(60)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    seen = [facing((shape - shape.mean(0)) @ matrix.T)[[234, 454]] for matrix in (rotation, rotation.T)]
    assert min(seen[0]) < 0.2 < 0.8 < max(seen[0])
    assert seen[0].argmin() != seen[1].argmin()


@pytest.fixture(scope="module")
def soft(crop) -> tuple[torch.Tensor, Conditions]:
    """A face whose photograph was four times smaller than the crop, and blurred, with an album of another day."""
    blurred = torch.from_numpy(cv2.GaussianBlur(crop.permute(1, 2, 0).numpy(), (0, 0), 8.0)).permute(2, 0, 1)
    album = (Reference("monday.jpg", other_day(crop), None), Reference("friday.jpg", other_day(crop, -4), None))
    return blurred, Conditions(album, code=code(blur_sigma=2.0, noise_sigma=12.0), pixel=4.0)


def test_the_mesh_of_an_album_picture_is_the_same_whatever_it_is_asked_for_with(crop):
    """Servers keep meshes, and a picture has to be restored to the same bits whether they were there already."""
    first, second = other_day(crop), other_day(crop, -4)
    together = album_meshes([first, second])
    assert all(np.array_equal(*pair) for pair in zip(together, (mesh(first), mesh(second)), strict=True))


def test_lost_detail_comes_back_from_another_day(crop, soft):
    face, conditions = soft
    out = AlbumRestorer(None).restore(face[None], conditions)[0]
    before, after = (psnr(resized(one, SIDE)[MIDDLE], resized(crop, SIDE)[MIDDLE]) for one in (face, out))
    assert after > before + 1.0
    fine = [energy(resized(one, SIDE)[MIDDLE[0], 50:98, 40:88])[1] for one in (face, out, crop)]
    assert fine[1] > fine[0] + 0.2 * (fine[2] - fine[0])


def registered(*pictures: torch.Tensor, likeness: float = 0.9) -> list[Registered]:
    sure = torch.ones(1, SIDE, SIDE)
    return [Registered(picture, sure, 0.8 * sure, likeness) for picture in pictures]


def test_all_that_was_lost_comes_from_the_album_and_what_survived_does_not(crop):
    """At every frequency the result holds the face's share that survived and the album's that did not."""
    face, other = resized(crop, SIDE), resized(other_day(crop), SIDE)
    fx, fy = frequencies(SIDE * 3 // 2, 1.0)
    survives = (-((fx.square() + fy.square()) / 0.1**2)).exp()
    found, origins, sure = with_lost_detail(face, registered(other, other), survives)
    assert (found - filtered(face, survives) - filtered(other, 1 - survives)).abs().max() < 1e-5
    assert torch.allclose(origins.sum(0), torch.ones(SIDE, SIDE)) and float(sure.min()) == 1


def test_a_mark_that_only_one_album_picture_shows_is_at_most_half_as_strong(crop):
    face = resized(crop, SIDE)
    marked = face.clone()
    marked[:, 80:88, 50:58] = 0
    nothing = torch.zeros(SIDE * 3 // 2, SIDE * 3 // 4 + 1)
    found, *_ = with_lost_detail(face, registered(marked, face, face), nothing)
    there = (slice(None), slice(80, 88), slice(50, 58))
    assert (face - found)[there].mean() < 0.51 * (face - marked)[there].mean()


def test_nothing_is_taken_unasked_from_an_album_that_is_not_like_the_face(crop):
    face = resized(crop, SIDE)
    nothing = torch.zeros(SIDE * 3 // 2, SIDE * 3 // 4 + 1)
    assert float(with_lost_detail(face, registered(face, likeness=0.1), nothing)[2].max()) == 0


def test_hair_and_background_stay_the_photographs(soft):
    face, conditions = soft
    out = AlbumRestorer(None).restore(face[None], conditions)[0]
    for part in ((slice(None), slice(0, 60)), (slice(None), slice(None), slice(0, 60)), (slice(None), slice(480, 512))):
        assert (out[part] - face[part]).abs().max() < 1 / 255


@pytest.mark.parametrize("seed", [0, 1])
def test_an_album_picture_of_nothing_costs_little(soft, crop, seed):
    """Albums are made of faces that were detected, so noise is worse than anything that a user can give."""
    face, conditions = soft
    noise = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(seed))
    gate = load_gate()
    given = replace(conditions, references=(Reference("noise", noise, None),))
    out = AlbumRestorer(lambda: gate).restore(face[None], given)[0]
    assert psnr(out, crop) > psnr(face, crop) - 1


def test_what_the_photograph_still_shows_stays(crop, soft):
    out = AlbumRestorer(None).restore(crop[None], replace(soft[1], code=code(), pixel=2.0))[0]
    assert psnr(out, crop) > 40


def test_no_strength_changes_nothing_and_trust_takes_more(soft):
    face, conditions = soft
    assert torch.equal(AlbumRestorer(None, strength=0.0).restore(face[None], conditions)[0], face)
    careful, trusting = (
        float((AlbumRestorer(None, trust=trust).restore(face[None], conditions)[0] - face).abs().mean())
        for trust in (0.0, 1.0)
    )
    assert careful < trusting


def test_a_doubtful_match_is_listened_to_less(soft):
    face, conditions = soft
    changes = [
        float((AlbumRestorer(None).restore(face[None], replace(conditions, certainty=sure))[0] - face).abs().mean())
        for sure in (0.0, 1.0)
    ]
    assert changes[0] == pytest.approx(changes[1] / 2, rel=0.05)


def test_it_says_what_was_taken_from_which_picture(soft):
    face, conditions = soft
    told = []
    AlbumRestorer(None).restore(face[None], replace(conditions, borrow=told.append))
    (shares,) = told
    assert shares.shape == (2, 512, 512) and shares.sum(0).max() <= 1 + 1e-4
    totals = Borrowed(("monday.jpg", "friday.jpg"), shares).totals()
    assert sum(totals.values()) > 0.2 and set(totals) <= {"monday.jpg", "friday.jpg"}


def test_a_large_album_is_narrowed_to_the_likest(crop):
    dark = torch.zeros(3, 512, 512) + torch.linspace(0, 1, 512)[None, :, None]
    references = tuple(
        Reference(str(n), picture, None) for n, picture in enumerate([dark, crop, dark, crop, crop, crop])
    )
    assert likest(references, resized(crop, SIDE)) == [1, 3, 4, 5]


def test_small_faces_are_worked_on_small():
    assert (
        working_side(10.0) == 128 and working_side(4.7) == 128 and working_side(2.5) == 256 and working_side(1.0) == 256
    )


@pytest.fixture(scope="module")
def gate() -> Gate:
    torch.manual_seed(0)
    gate = Gate((16, 16, 16, 16)).eval().requires_grad_(False)
    for head in gate.heads:
        torch.nn.init.normal_(head.weight, std=0.3)
    return gate


def candidates(count: int) -> Candidates:
    draw = torch.Generator().manual_seed(count)
    rand = lambda *shape: torch.rand(2, *shape, generator=draw)  # noqa: E731
    return Candidates(
        rand(3, 64, 64),
        rand(3, 64, 64),
        rand(count, 3, 64, 64),
        rand(count, 1, 64, 64),
        rand(count, 1, 64, 64),
        rand(1, 64, 64),
        rand(4),
    )


def test_bands_add_up_to_the_picture():
    picture = torch.rand(2, 3, 64, 64)
    assert (joined_bands(band_passes(picture)) - picture).abs().max() < 1e-6


def test_the_order_of_the_album_does_not_matter(gate):
    seen = candidates(3)
    order = torch.tensor([2, 0, 1])
    turned = replace(seen, **{name: getattr(seen, name)[:, order] for name in ("album", "confidence", "agreement")})
    one, other = gate(seen), gate(turned)
    assert (one.result - other.result).abs().max() < 1e-5
    assert (one.shares[:, order] - other.shares).abs().max() < 1e-5


def test_layers_that_are_convolved_together_give_what_each_gives_alone(gate):
    """Of two in a batch with three album pictures each. Measured: 2e-6 of numbers up to 8."""
    seen, draw = candidates(3), torch.Generator().manual_seed(0)
    planes = torch.rand(6, 16, 64, 64, generator=draw)
    planes[:, COMMON] = planes[::3, COMMON].repeat_interleave(3, 0)
    alone = gate.stem(F.pixel_unshuffle(planes * 2 - 1, 2))
    together = added_to_each(gate._stem(planes[:, EACH], EACH), gate._stem(planes[::3, COMMON], COMMON))
    assert (together - alone).abs().max() < 1e-5
    features = gate._features(seen, 3)
    every = [*gate.heads, gate.move]
    for layer, place, found in zip(every, (0, 0, 1, 2, 0), gate._read(features), strict=True):
        assert (found - layer(features[place])).abs().max() < 1e-5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_album_pictures_will_do(gate, count):
    choice = gate(candidates(count))
    assert choice.result.shape == (2, 3, 64, 64) and choice.shares.shape == (2, count, 64, 64)
    assert float(choice.shares.min()) >= 0 and float(choice.shares.sum(1).max()) <= 1 + 1e-5


def test_outside_the_face_the_gate_changes_nothing(gate):
    seen = replace(candidates(2), parts=F.pad(torch.ones(2, 1, 64, 32), (0, 32)))
    assert torch.equal(gate(seen).result[..., 32:], seen.face[..., 32:])


def test_more_trust_takes_more_of_the_album(gate):
    seen = candidates(2)
    shares = [float(gate(seen, trust).shares.mean()) for trust in (0.0, 0.5, 1.0)]
    assert shares == sorted(shares)

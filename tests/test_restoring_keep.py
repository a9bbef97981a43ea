"""The people of an edited photograph get their faces back, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib import samples
from personal_restore.lib.faces.detect import Detection, make_face
from personal_restore.lib.faces.embed import Classical
from personal_restore.lib.faces.library import library_from_images
from personal_restore.lib.fusion.light import relit
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.restoring.keep import keep_people, surviving
from personal_restore.lib.restoring.kept import in_words, sheet, table
from personal_restore.lib.vocabulary import Library

# The part of the portrait that is taken, small, so that the tests are fast; places are in it.
PART = slice(0, 320), slice(64, 384)
LANDMARKS = np.array([[141.0, 104], [181, 104], [162, 125], [144, 142], [179, 142]])
FOUND = Detection((114.0, 68, 204, 168), LANDMARKS, 1.0)
BLURRED = {"blur_sigma": 4.0, "noise_sigma": 10.0, "jpeg_quality": 40.0, "downscale": 2.0}


@pytest.fixture(scope="module")
def photo():
    return samples.photograph()[0][:, *PART]


@pytest.fixture(scope="module")
def edit():
    """The portrait at one and a half times its size with another face; its colors are the portrait's."""
    drawn = samples.bent(samples.photograph(), *samples.INVENTED_BEND)[..., *PART]
    return torch.nn.functional.interpolate(drawn, scale_factor=1.5, mode="bicubic").clamp(0, 1)[0]


@pytest.fixture(scope="module")
def face(photo):
    found = make_face(photo, FOUND)
    return replace(found, person=samples.PERSON, restored=found.crop)


@pytest.fixture(scope="module")
def result(photo, edit, face):
    """Of the face, and of a stranger's in the same place that is not wanted."""
    return keep_people(photo, edit, [face, replace(face, person=None, strength=0.0)], [THERE])


THERE = Detection(tuple(1.5 * side for side in FOUND.box), LANDMARKS * 1.5 + 0.25, 1.0)


def inner(picture: torch.Tensor) -> torch.Tensor:
    """The features of the face, in the edit."""
    return picture[:, 130:225, 189:289]


def test_a_known_face_comes_back_and_everything_else_is_the_edits_bit_for_bit(photo, edit, result):
    truth = torch.nn.functional.interpolate(photo[None], scale_factor=1.5, mode="bicubic").clamp(0, 1)[0]
    assert result.people[0].reason == ""
    assert psnr(inner(result.picture), inner(truth)) > psnr(inner(edit), inner(truth)) + 5
    far = torch.nn.functional.max_pool2d(result.mask[None, None], 33, 1, 16)[0, 0] == 0
    assert far.float().mean() > 0.5 and torch.equal(result.picture[:, far], edit[:, far])


def test_values_beyond_the_range_stay_outside_of_the_faces(photo, edit, face):
    bright = edit * 1.3
    result = keep_people(photo, bright, [face], [THERE])
    far = torch.nn.functional.max_pool2d(result.mask[None, None], 33, 1, 16)[0, 0] == 0
    assert result.mask.any() and bright[:, far].max() > 1 and torch.equal(result.picture[:, far], bright[:, far])


def test_the_same_happens_in_other_colors_and_the_colors_stay_the_edits(photo, edit, face):
    sepia = edit.mean(0, keepdim=True) ** 0.8 * torch.tensor([1.0, 0.8, 0.55]).view(3, 1, 1)
    result = keep_people(photo, sepia, [face], [THERE], grain=0)
    before, after = inner(sepia).mean((1, 2)), inner(result.picture).mean((1, 2))
    assert (before - after).abs().max() < 0.03
    truth = torch.nn.functional.interpolate(photo[None], scale_factor=1.5, mode="bicubic").clamp(0, 1)[0].mean(0)
    pairs = [
        np.corrcoef(inner(one).mean(0).flatten(), inner(truth[None])[0].flatten())[0, 1]
        for one in (sepia, result.picture)
    ]
    assert pairs[1] > pairs[0] and pairs[1] > 0.9


def test_a_stranger_gets_back_what_the_damage_left_and_no_more(photo, edit, face):
    stranger = replace(face, person=None)
    mild, heavy = (
        keep_people(photo, edit, [stranger], [THERE], scalars=scalars).picture
        for scalars in (
            BLURRED | {"blur_sigma": 0.3, "noise_sigma": 1.0, "jpeg_quality": 95.0, "downscale": 1.0},
            BLURRED,
        )
    )
    moved = [float((inner(one) - inner(edit)).abs().mean()) for one in (mild, heavy)]
    assert moved[0] > 1.5 * moved[1] > 0
    assert torch.equal(keep_people(photo, edit, [stranger], [THERE], strangers=False).picture, edit)


def test_only_frequencies_that_survived_are_put_back(face):
    random = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(1)) - 0.5
    slow = torch.nn.functional.interpolate(random[None, :, :8, :8], (512, 512), mode="bicubic")[0]
    assert surviving(random, face.crop, BLURRED, 1.0).std() < 0.1 * random.std()
    assert surviving(slow, face.crop, BLURRED, 1.0).std() > 0.9 * slow.std()


@pytest.mark.parametrize(
    ("changes", "there", "said"),
    [
        ([{"restored": None}, {"strength": 0.0}], THERE, ["not restored", "strength"]),
        ([{}], replace(THERE, landmarks=THERE.landmarks + [0, 40]), ["no face"]),
    ],
)
def test_a_face_that_cannot_be_put_back_is_left_with_the_reason(photo, edit, face, changes, there, said):
    result = keep_people(photo, edit, [replace(face, **change) for change in changes], [there])
    assert all(words in kept.reason for words, kept in zip(said, result.people, strict=True))
    assert torch.equal(result.picture, edit) and not result.mask.any()


def test_a_face_that_the_edit_does_not_show_is_left(photo, edit, face):
    without, nobody = keep_people(photo, edit[:, 250:], [face], []), keep_people(photo, edit, [face], [])
    assert "does not show it" in without.people[0].reason and torch.equal(without.picture, edit[:, 250:])
    assert "no face" in nobody.people[0].reason and torch.equal(nobody.picture, edit)


def test_without_a_registration_nothing_is_touched(photo, face):
    other = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(2))
    result = keep_people(photo, other, [face], [THERE])
    assert torch.equal(result.picture, other) and result.people[0].reason == result.registration.reason != ""


def test_the_table_and_the_sheet_say_how_far_the_edit_had_moved_each_face(result):
    embedder = Classical()
    library = library_from_images(samples.sample_album(), samples.PERSON, embedder)
    if not library.people:
        pytest.skip("no face detector is installed")
    results = [result]
    summary = table(results, library, embedder)
    known, left = summary["faces"]
    assert summary["put_back"] == 1 and summary["edits"][0]["registered"]
    assert known["to_photograph"][1] < known["to_photograph"][0] and known["to_album"][1] < known["to_album"][0]
    assert not left["put_back"] and left["to_album"] is None and "left as it is" in in_words(summary)[1]
    assert sheet(results, library, summary).shape[-2] > 2 * 224
    assert table(results, Library(), embedder)["faces"][0]["to_album"] is None


def test_light_is_taken_over_and_structure_is_not(photo):
    crop = photo[:, 40:200, 86:246]
    dark = crop.flip(-1) * torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    lit = relit(crop, dark, torch.ones(1, 160, 160), 160)
    assert (lit.mean((1, 2)) - dark.mean((1, 2))).abs().max() < 0.02
    high = [
        one.mean(0) - torch.nn.functional.avg_pool2d(one.mean(0)[None, None], 15, 1, 7)[0, 0] for one in (crop, lit)
    ]
    assert np.corrcoef(high[0].flatten(), high[1].flatten())[0, 1] > 0.95


def test_strength_0_puts_nothing_back_and_says_so(photo, edit, face):
    result = keep_people(photo, edit, [face], [THERE], strength=0.0)
    assert torch.equal(result.picture, edit) and result.people[0].reason == "its strength is 0"

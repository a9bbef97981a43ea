"""What the photograph says about its restoration: foreign details found, lost detail told, results pulled back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from personal_restore.cli.benchmarks.evidence import DETAILS, area_under_curve, inserted
from personal_restore.cli.benchmarks.faces_cases import Subject
from personal_restore.lib import samples
from personal_restore.lib.degradation.evidence import Zone, evidence, pulled_back
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.operators import blur
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import DegradationCode, UserError
from personal_restore.nodes import evidence as node
from personal_restore.tests.test_restoring_keep import FOUND, LANDMARKS, PART

CLEAN = {"blur_sigma": 0.2, "noise_sigma": 0.5, "jpeg_quality": 99.0, "downscale": 1.0}


@pytest.fixture(scope="module")
def subject():
    return Subject(samples.photograph()[0][:, *PART], FOUND.box, LANDMARKS)


@pytest.fixture(scope="module")
def other():
    drawn = samples.bent(samples.photograph(), 8, 0, 6, 0, 0)[0][:, *PART]
    return Subject(drawn.flip(-1), FOUND.box, LANDMARKS * [-1, 1] + [319, 0])


@pytest.fixture(scope="module")
def pairs(subject):
    """The portrait under three draws of damage, each with its numbers."""
    recipes = [FAMILIES["trial"](seed) for seed in (1, 4, 14)]
    return [(recipe.apply(subject.picture[None])[0], recipe.summary()) for recipe in recipes]


@pytest.mark.parametrize("detail", DETAILS)
def test_a_foreign_detail_is_found_under_any_damage(pairs, subject, other, detail):
    other = Subject(other.picture, other.box, other.landmarks[[1, 0, 2, 4, 3]])
    for damaged, scalars in pairs:
        result, where = inserted(subject.picture, subject, other, detail)
        assert area_under_curve(evidence(result, damaged, scalars).deviation, where) > 0.9


@pytest.mark.parametrize("detail", ("none", *DETAILS))
def test_pulling_back_never_moves_away_from_the_truth(pairs, subject, other, detail):
    for damaged, scalars in pairs:
        result, _ = inserted(subject.picture * 0.98 + 0.005, subject, other, detail)
        better = pulled_back(result, damaged, scalars)
        assert psnr(better, subject.picture) >= psnr(result, subject.picture)


def test_the_truth_is_hardly_contradicted_and_detail_that_was_lost_is_silent(pairs, subject):
    damaged, scalars = pairs[2]
    found = evidence(subject.picture, damaged, scalars)
    assert found.contradicted.mean() < 0.01
    faithful = evidence(subject.picture, subject.picture, CLEAN)
    assert found.silent.mean() > 0.1 > 0.001 > faithful.silent.mean() and faithful.supported.mean() > 0.99


def test_a_smooth_result_of_a_blurred_photograph_is_supported(subject):
    """Nothing can be invented where nothing fine is."""
    smooth = blur(subject.picture[None], size=25, sigma_x=3.0, sigma_y=3.0)[0]
    damage = CLEAN | {"blur_sigma": 2.0, "noise_sigma": 3.0}
    photo = blur(smooth[None], size=17, sigma_x=2.0, sigma_y=2.0)[0]
    assert (
        evidence(smooth, photo, damage).silent.mean()
        < 0.001
        < 0.05
        < evidence(subject.picture, photo, damage).silent.mean()
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (40, 40)])
@pytest.mark.parametrize("damage", [CLEAN, CLEAN | {"blur_sigma": 2.0, "noise_sigma": 3.0}], ids=["clean", "damaged"])
def test_flat_and_tiny_pictures_give_numbers(shape, damage):
    for level in (0.0, 0.4, 1.0):
        flat = torch.full((3, *shape), level)
        found = evidence(flat, flat, damage)
        for part in (found.supported, found.contradicted, found.silent, pulled_back(flat, flat, damage)):
            assert part.isfinite().all()


def test_a_larger_result_is_judged_at_its_own_size(pairs, subject):
    damaged, scalars = pairs[0]
    large = F.interpolate(subject.picture[None], scale_factor=2, mode="bicubic").clamp(0, 1)[0]
    found = evidence(large, damaged, scalars)
    assert found.contradicted.shape == found.silent.shape == (640, 640) and found.contradicted.mean() < 0.01
    assert pulled_back(large * 0.9, damaged, scalars).shape == large.shape
    with pytest.raises(UserError, match="whole multiple"):
        evidence(large[:, 1:], damaged, scalars)


def test_damage_that_varies_is_interpolated_between_places(subject):
    """The left half blurred little, the right half much: one code for both accuses one of them."""
    mild, heavy = (CLEAN | {"blur_sigma": sigma, "noise_sigma": 2.0} for sigma in (0.5, 3.0))
    halves = [
        blur(subject.picture[None], size=21, sigma_x=s["blur_sigma"], sigma_y=s["blur_sigma"])[0] for s in (mild, heavy)
    ]
    photo = torch.cat([halves[0][..., :160], halves[1][..., 160:]], -1)
    zones = [Zone((40, 160), mild), Zone((280, 160), heavy)]
    varying, flat = (evidence(subject.picture, photo, one).contradicted.mean() for one in (zones, mild))
    assert varying < flat / 2


def test_a_place_of_mere_noise_does_not_keep_the_rest_from_being_pulled_back(subject, other):
    result, where = inserted(subject.picture, subject, other, "patch")
    noisy = CLEAN | {"noise_sigma": 200.0}
    varying = pulled_back(result, subject.picture, [Zone((0, 0), noisy), Zone((160, 160), CLEAN)])
    assert not torch.equal(varying, result) and psnr(varying, subject.picture) > psnr(result, subject.picture)


def test_the_nodes_take_the_code_of_each_photograph(subject, monkeypatch):
    asked = []

    def told(result, photo, known, *more):
        asked.append(known["blur_sigma"])
        return evidence(result, photo, known, *more)

    monkeypatch.setattr(node, "evidence", told)
    codes = tuple(
        DegradationCode(torch.zeros(1), torch.zeros(1), "test", CLEAN | {"blur_sigma": one}) for one in (1.0, 3.0)
    )
    batch = replace(codes[1], frames=codes)
    pictures = torch.stack([subject.picture] * 2).movedim(1, -1)
    report = node.PhotographEvidence.execute(pictures, pictures, 4.0, 0.0, "whole photograph", batch).args[3]
    assert asked == [1.0, 3.0] and json.loads(report)["damage"] == "estimated"

"""From a face pair to the degradation code, with the weights that ship."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.estimate import face_pair
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.presets import PRESETS
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.estimate import estimate_code
from personal_restore.training.procedural import draw_picture


@pytest.fixture(scope="module")
def extractor():
    return embedded.load_embedded(embedded.EXTRACTOR)[0]


@pytest.fixture(scope="module")
def pictures(astronaut) -> list[torch.Tensor]:
    drawn = [torch.from_numpy(draw_picture(seed, 128)).permute(2, 0, 1).float() / 255 for seed in range(900, 904)]
    return [astronaut[0, :, 60:188, 160:288], *drawn]


def test_a_pair_of_equal_pictures_reads_clean_whatever_it_shows(extractor, pictures):
    for picture in pictures:
        clean = estimate_code(extractor, torch.cat([picture, picture])).scalars
        assert clean["blur_sigma"] < 0.5 and clean["noise_sigma"] < 4
        assert clean["jpeg_quality"] > 80 and clean["downscale"] < 1.3
        for seed in (3, 7, 14):
            damaged = FAMILIES["trial"](seed).apply(picture[None])[0]
            read = estimate_code(extractor, torch.cat([picture, damaged])).scalars
            assert read["noise_sigma"] > clean["noise_sigma"] and read["jpeg_quality"] < clean["jpeg_quality"]


def test_pictures_under_one_degradation_are_more_alike_than_one_picture_under_two(extractor):
    """Figure 3 of the paper, for every two of the four degradations."""
    drawn = np.stack([draw_picture(seed, 160) for seed in range(910, 920)])
    clean = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255
    codes = []
    for name in PRESETS:
        pairs = torch.cat([clean, FAMILIES[name](0).apply(clean)], 1)[..., 16:-16, 16:-16]
        codes.append(F.normalize(extractor.fadex.project(extractor.fadex(pairs)), dim=1))
    others = ~torch.eye(len(clean), dtype=torch.bool)
    same = [float((code @ code.T)[others].mean()) for code in codes]
    for one, two in itertools.combinations(range(len(codes)), 2):
        assert min(same[one], same[two]) > float((codes[one] * codes[two]).sum(1).mean()) + 0.1


def test_the_order_of_the_pair_changes_the_code(extractor, pictures):
    damaged = FAMILIES["trial"](14).apply(pictures[0][None])[0]
    forth, back = (
        estimate_code(extractor, torch.cat(pair)).tokens for pair in ((pictures[0], damaged), (damaged, pictures[0]))
    )
    assert (forth - back).abs().mean() > 0.05


def test_more_noise_reads_as_more_noise(extractor, pictures):
    from personal_restore.lib.degradation.operators import gaussian_noise

    def read(sigma: float) -> float:
        generator = torch.Generator().manual_seed(0)
        noisy = gaussian_noise(pictures[0][None], sigma=sigma, gray=False, generator=generator)[0]
        return estimate_code(extractor, torch.cat([pictures[0], noisy])).scalars["noise_sigma"]

    assert read(2) < read(10) < read(25)


def test_the_pair_lies_on_the_face_at_the_photographs_scale(astronaut):
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    pair = face_pair(astronaut[0], replace(face, restored=face.crop))
    high, low = pair.chunk(2)
    x0, y0, x1, y1 = face.box
    assert abs(pair.shape[-1] - 0.9 * (x1 - x0)) < 4 and abs(pair.shape[-2] - 0.9 * (y1 - y0)) < 4
    assert (high - low).abs().mean() < 0.01
    assert face_pair(astronaut[0], face) is None, "nothing to compare before the restoration"


def test_a_face_below_sixteen_pixels_tells_nothing(astronaut):
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    tiny = replace(face, restored=face.crop, box=(200.0, 100.0, 214.0, 114.0))
    assert face_pair(astronaut[0], tiny) is None

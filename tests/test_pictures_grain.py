"""Grain: a restored face gets the noise of its scene, no more, and the same one each time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.fusion.compose import compose_faces
from personal_restore.lib.pictures.grain import add_grain, flat_blocks, noise
from personal_restore.lib.vocabulary import Faces


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def white(shape, sigma: float, seed: int = 0) -> torch.Tensor:
    return sigma * torch.randn(shape, generator=seeded(seed))


def coarse(shape, sigma: float, seed: int = 0) -> torch.Tensor:
    """Noise of grains of two pixels."""
    blurred = F.avg_pool2d(white((*shape[:-2], shape[-2] + 1, shape[-1] + 1), 2.0, seed), 2, 1)
    return sigma * blurred


def grey(shape, sigma: float, seed: int = 0) -> torch.Tensor:
    return white((1, *shape[1:]), sigma, seed).expand(shape)


def strengths(picture: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each fine band, and of its differences of red and blue."""
    found = noise(picture, blocks)
    return torch.stack(
        [c.trace().sqrt() for c in found] + [(c[0, 0] + c[2, 2] - 2 * c[0, 2]).clamp(0).sqrt() for c in found]
    )


@pytest.mark.parametrize("make", [white, coarse, grey], ids=lambda make: make.__name__)
@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_the_face_gets_the_strength_the_coarseness_and_the_colour_of_the_scenes_noise(astronaut, make, sigma):
    face = F.avg_pool2d(astronaut[0, :, 0:204, 120:324], 5, 1) * 0.7 + 0.15
    valid = torch.ones(1, 200, 200)
    scene = face + make(face.shape, sigma, 1)
    grained = add_grain(face, scene, valid, 1.0, seeded())
    blocks = flat_blocks(scene, valid)
    clean, wanted, got = (strengths(picture, blocks) for picture in (face, scene, grained))
    assert (got - wanted).abs().max() < 0.15 * wanted.max()
    assert (clean - wanted).abs().max() > 0.5 * wanted.max()


def test_half_the_amount_adds_half_the_noise_and_the_seed_decides_which():
    face, valid = torch.full((3, 96, 96), 0.5), torch.ones(1, 96, 96)
    scene = face + white(face.shape, 0.03, 1)
    whole, again, other = (add_grain(face, scene, valid, 1.0, seeded(seed)) for seed in (0, 0, 1))
    half = add_grain(face, scene, valid, 0.5, seeded())
    assert torch.equal(whole, again) and not torch.equal(whole, other)
    torch.testing.assert_close(half - face, (whole - face) / 2, atol=1e-6, rtol=0)


def test_a_face_that_is_as_noisy_as_the_scene_gets_next_to_nothing():
    flat = torch.full((3, 200, 200), 0.5)
    face, scene = (flat + white(flat.shape, 0.03, seed) for seed in (1, 2))
    grained = add_grain(face, scene, torch.ones(1, 200, 200), 1.0, seeded())
    assert (grained - face).std() < 0.01
    cleaner = add_grain(face, flat, torch.ones(1, 200, 200), 1.0, seeded())
    assert torch.equal(cleaner, face)


@pytest.mark.parametrize("side", [1, 7, 20])
def test_a_place_too_small_to_read_noise_from_stays_as_it_is(side):
    face = torch.full((3, side, side), 0.5)
    assert torch.equal(add_grain(face, face + white(face.shape, 0.1), torch.ones(1, side, side), 1.0, seeded()), face)


def test_blending_with_grain_is_decided_by_the_seed_and_stays_near_the_faces(astronaut):
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    faces = Faces(((replace(face, restored=face.crop),),), (512, 512))
    scene = (astronaut + white(astronaut.shape, 0.04)).clamp(0, 1)

    def blend(grain: float, seed: int) -> torch.Tensor:
        return compose_faces(scene, faces, color="none", grain=grain, seed=seed)[0]

    plain, first, again, other = blend(0, 1), blend(1, 1), blend(1, 1), blend(1, 2)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, plain)
    _, used = compose_faces(scene, faces, color="none")
    far = F.max_pool2d(used[None], 33, 1, 16)[0, 0] == 0
    assert far.any() and torch.equal(first[..., far], scene[..., far])
    blocks = flat_blocks(scene[0], (used > 0.99).float())
    missing = [1 - float(strengths(out[0], blocks)[0] / strengths(scene[0], blocks)[0]) for out in (plain, first)]
    assert missing[0] > 0.3 and abs(missing[1]) < 0.15

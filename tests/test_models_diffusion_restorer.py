"""Diffusion models as restorers: noise, sizes, tiles, guidance, a generative album."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from personal_restore.lib.vocabulary import Conditions
from personal_restore.models.gen2res.generation import SkipGuidance, generative_album
from personal_restore.models.personas.restorer import PersonalRestorer
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer, classifier_free
from personal_restore.tests.test_personas import made
from personal_restore.tests.tiny_base import BASE, Small
from personal_restore.training.personas.batches import draw_batch


def test_no_noise_gives_the_face_back_bit_for_bit(pictures, restorer):
    """Test 23."""
    assert torch.equal(replace(restorer, denoise=0.0).restore(pictures, Conditions()), pictures)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 17)])
def test_any_size_is_restored_and_the_same_seed_gives_the_same_picture(restorer, size):
    image = torch.rand(1, 3, *size)
    first, again, other = (restorer.restore(image, Conditions(seed=seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_large_picture_is_denoised_tile_by_tile_at_every_step(net, pictures, restorer):
    large = torch.nn.functional.interpolate(pictures[:1], (48, 60), mode="bicubic").clamp(0, 1)
    sizes, steps = [], []
    handle = net.unet.register_forward_pre_hook(lambda module, given: sizes.append(tuple(given[0].shape[-2:])))
    few = replace(restorer, steps=2)
    out = few.restore(large, Conditions(progress=lambda done, total: steps.append((done, total))))
    handle.remove()
    tiles = 2 * 3  # of 32 pixels, 16 apart, on 48x64
    assert out.shape == large.shape
    assert sizes == [(8, 8)] * (2 * tiles)
    assert steps == [(done, 2 * tiles) for done in range(1, 2 * tiles + 1)]


def test_a_network_that_looks_at_single_places_gives_the_same_in_tiles(pictures):
    """PFStorer, 4.5: the weights of the tiles sum to one, at every step."""

    class Pointwise(Small):
        def forward(self, noisy, t, text, hint=None, strength=1.0):
            return 0.6 * noisy - 0.4 * hint * text.mean()

    pointwise = Pointwise(width=32).eval().requires_grad_(False)
    large = torch.nn.functional.interpolate(pictures[:1], (80, 112), mode="bicubic").clamp(0, 1)
    tiles, whole = (
        DiffusionRestorer(lambda: pointwise, BASE, size, denoise=0.3, steps=5).restore(large, Conditions(seed=3))
        for size in (32, None)
    )
    torch.testing.assert_close(tiles, whole, atol=1e-5, rtol=0)


def test_every_way_to_restore_works_in_tiles(net, pictures, restorer):
    large = torch.nn.functional.interpolate(pictures[:1], (48, 64), mode="bicubic").clamp(0, 1)
    persona = made(net, pictures, "adapter", keep_references=True)
    for base in (
        restorer,
        replace(restorer, cfg=2.0),
        replace(restorer, control=0.0, skip_guidance=SkipGuidance(every=50)),
    ):
        plain = base.restore(large, Conditions())
        worn = PersonalRestorer(base, persona).restore(large, Conditions())
        assert plain.shape == large.shape and worn.isfinite().all() and not torch.equal(plain, worn)


def test_skip_guidance_counts_steps_of_noise_and_not_strides(pictures, restorer, monkeypatch):
    pushed = []
    push = SkipGuidance.push
    monkeypatch.setattr(SkipGuidance, "push", lambda self, *given: pushed.append(given[3]) or push(self, *given))
    for every, expected in ((20, 10), (50, 4), (100, 2), (0, 0)):
        pushed.clear()
        guided = replace(
            restorer, denoise=0.2, steps=20, control=0.0, skip_guidance=SkipGuidance(every=every, exact=False)
        )
        guided.restore(pictures[:1], Conditions())
        assert len(pushed) == expected


def test_damage_is_made_in_the_size_of_the_album(net, astronaut):
    """A blur of the papers is one of faces of 512x512; on the small base's pictures it would take everything away."""
    album = astronaut[..., :256, 80:336]
    drawn = draw_batch(net, album, 1, "codeformer", 0, 0)
    small = torch.nn.functional.interpolate(album, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    at_32 = draw_batch(net, small, 1, "codeformer", 0, 0)
    torch.testing.assert_close(drawn.clean, at_32.clean)
    assert (drawn.hint - drawn.clean).abs().mean() < 0.5 * (at_32.hint - at_32.clean).abs().mean()


def test_guidance_by_prompts(pictures, restorer):
    """Test 46: 1 is the positive side, 0 the negative one, and equal sides give the same at any scale."""
    positive, negative = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(classifier_free(negative, positive, 1.0), positive)
    assert torch.equal(classifier_free(negative, positive, 0.0), negative)
    assert torch.equal(classifier_free(positive, positive, 4.0), positive)
    torch.testing.assert_close(classifier_free(negative, positive, 4.0), negative + 4 * (positive - negative))
    plain = restorer.restore(pictures[:1], Conditions())
    same = replace(restorer, cfg=3.0, negative="").restore(pictures[:1], Conditions())
    torch.testing.assert_close(same, plain, atol=1e-6, rtol=0)
    assert not torch.equal(replace(restorer, cfg=3.0).restore(pictures[:1], Conditions()), plain)


def test_a_generative_album_from_one_damaged_picture(pictures, restorer):
    album = generative_album(replace(restorer, control=0.0), pictures[:1], Conditions(), count=2)
    assert album.shape == (2, 3, 32, 32)
    assert not torch.equal(*album)

"""Training of the album gate: on samples drawn here, no picture of a person."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.album.gate import Gate
from personal_restore.models.album.ready import load_gate
from personal_restore.tests.places import CPU
from personal_restore.training.album import gate as training
from personal_restore.training.album import likeness
from personal_restore.training.album.likeness import Likeness
from personal_restore.training.album.samples import for_face
from personal_restore.training.loop import Schedule


@pytest.fixture
def samples(tmp_path):
    """Six shards of four samples of 32 px, whose first album picture is the truth, and whose face has lost its detail."""
    rng = np.random.default_rng(0)
    for number in range(6):
        truth = rng.integers(0, 256, (4, 3, 32, 32), np.uint8)
        flat = np.broadcast_to(truth.mean((2, 3), keepdims=True), truth.shape).astype(np.uint8)
        album = np.stack([truth] * 3, 1)
        ones = np.full((4, 3, 1, 32, 32), 255, np.uint8)
        np.savez(
            tmp_path / f"shard_{number:05d}.npz", truth=truth, photo=flat, face=flat, album=album, confidence=ones,
            agreement=ones, parts=ones[:, 0], survives=np.zeros((4, 4), np.float32),
            response=np.zeros((4, 48, 25), np.float16), likeness=np.ones((4, 3), np.float32),
        )  # fmt: skip
    return tmp_path


def test_a_gate_learns_to_take_what_is_lost_and_resumes(samples, tmp_path):
    schedules = (Schedule(20, 4, 6e-4, warmup=2, save_every=8, workers=0), Schedule(6, 4, 3e-4, warmup=2, workers=0))
    network = Likeness().eval().requires_grad_(False)
    first = training.train_gate(samples, tmp_path / "work", CPU, network, schedules, tmp_path / "gate.safetensors")
    figures = training.gate_quality(first, training.Samples(sorted(samples.glob("*.npz"))[4:], 8, 1))
    untrained = training.gate_quality(Gate().eval(), training.Samples(sorted(samples.glob("*.npz"))[4:], 8, 1))
    assert figures["psnr"][1] > untrained["psnr"][1] > figures["psnr"][0]
    again = training.train_gate(samples, tmp_path / "work", CPU, network, schedules, tmp_path / "again.safetensors")
    kept = load_gate(tmp_path / "gate.safetensors")
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.allclose(value, kept.state_dict()[name], atol=1e-3)


def test_a_sample_is_the_same_whenever_it_is_asked_for(samples):
    shards = sorted(samples.glob("*.npz"))
    one, other = (training.Samples(shards, 10, 3)[5] for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_too_few_samples_are_said(tmp_path):
    with pytest.raises(UserError, match="0 shards"):
        training.train_gate(tmp_path, tmp_path / "work", CPU, Likeness())


def test_a_likeness_tells_people_apart_after_training_and_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((12, 3, 6, 6))).float()
    drawn = F.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1).mul(255).byte().numpy()
    views = np.stack([drawn, drawn], 1)
    schedule = Schedule(40, 6, 1e-3, warmup=2, workers=0)
    trained = likeness.train_likeness([views[:6], views[6:]], tmp_path, CPU, schedule)
    kept = likeness.load_likeness(tmp_path / likeness.WEIGHTS)
    worn = torch.stack([torch.from_numpy(likeness.worn(one, rng)) for one in drawn])
    with torch.no_grad():
        known, seen = kept(torch.from_numpy(drawn).float() / 255), trained(worn)
    assert ((seen @ known.T).argmax(1) == torch.arange(12)).float().mean() >= 0.6


def test_a_picture_is_not_unlike_itself_and_a_window_of_a_face_has_no_identity():
    network = Likeness().eval().requires_grad_(False)
    face, other = torch.rand(2, 1, 3, 128, 128)
    parts = torch.zeros(1, 1, 128, 128)
    parts[..., 40:100, 40:90] = 1
    assert max(float(term) for term in training.unlikeness(network, face, face, parts)) < 1e-5
    looks, identity = training.unlikeness(network, face, other, parts)
    assert looks > 0 and identity > 0
    assert training.unlikeness(network, face, other, torch.ones_like(parts))[1] == 0


def test_a_missing_likeness_is_said(tmp_path):
    with pytest.raises(UserError, match="album-likeness"):
        likeness.load_likeness(tmp_path / likeness.WEIGHTS)


def test_a_recipe_for_large_crops_shrinks_with_the_face():
    recipe = FAMILIES["codeformer"](3)
    small = for_face(recipe, 0.1)
    blur, smaller = ({step.operator: step.parameters for step in one.steps} for one in (recipe, small))
    assert smaller["blur"]["sigma_x"] == pytest.approx(0.1 * blur["blur"]["sigma_x"])
    assert blur["resize"]["scale"] <= smaller["resize"]["scale"] <= 1
    assert smaller["jpeg"] == blur["jpeg"]

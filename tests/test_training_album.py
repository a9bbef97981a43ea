"""Training of the album gate: on samples drawn here, no picture of a person."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.album.gate import Gate
from personal_restore.models.album.ready import load_gate
from personal_restore.tests.places import CPU
from personal_restore.training.album import gate as training
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
        )  # fmt: skip
    return tmp_path


def test_a_gate_learns_to_take_what_is_lost_and_resumes(samples, tmp_path):
    schedule = Schedule(20, 4, 6e-4, warmup=2, save_every=8, workers=0)
    first = training.train_gate(samples, tmp_path / "work", CPU, schedule, tmp_path / "gate.safetensors")
    figures = training.gate_quality(first, training.Samples(sorted(samples.glob("*.npz"))[4:], 8, 1))
    untrained = training.gate_quality(Gate().eval(), training.Samples(sorted(samples.glob("*.npz"))[4:], 8, 1))
    assert figures["psnr"][1] > untrained["psnr"][1] > figures["psnr"][0]
    again = training.train_gate(samples, tmp_path / "work", CPU, schedule, tmp_path / "again.safetensors")
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
        training.train_gate(tmp_path, tmp_path / "work", CPU)


def test_a_recipe_for_large_crops_shrinks_with_the_face():
    recipe = FAMILIES["codeformer"](3)
    small = for_face(recipe, 0.1)
    blur, smaller = ({step.operator: step.parameters for step in one.steps} for one in (recipe, small))
    assert smaller["blur"]["sigma_x"] == pytest.approx(0.1 * blur["blur"]["sigma_x"])
    assert blur["resize"]["scale"] <= smaller["resize"]["scale"] <= 1
    assert smaller["jpeg"] == blur["jpeg"]

"""The projector's stage: features once, then codes that tell operators apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.models.embedded.fadex import FaDeX
from personal_restore.training.data import DataConfig, Groups
from personal_restore.training.procedural import draw_picture
from personal_restore.training.projector import Draws, ProjectorLoss, features


@pytest.fixture(scope="module")
def groups() -> Groups:
    return Groups(np.stack([draw_picture(0), draw_picture(1)]), DataConfig(crop=32, mixture=(("trial", 1.0),)), 4)


def test_features_are_those_of_the_network_and_a_killed_run_goes_on(tmp_path, groups):
    fadex, path = FaDeX((4, 6, 8)).eval(), tmp_path / "codes" / "features.npy"
    found = np.array(features(path, groups, fadex))
    pair = torch.cat([groups[2]["clean"], groups[2]["damaged"]], 1)
    assert np.allclose(found[2], fadex(pair).mean((-2, -1)).detach(), atol=1e-6)
    half = np.load(path, mmap_mode="r+")
    half[:2], half[2:] = 7, 0  # as if it had been killed after two
    half.flush()
    again = features(path, groups, fadex)
    assert (again[:2] == 7).all() and np.array_equal(again[2:], found[2:])


def test_the_projector_learns_what_two_pictures_under_one_operator_share():
    torch.manual_seed(0)
    operator, picture = torch.randn(256, 1, 4), 3 * torch.randn(256, 2, 12)
    found = torch.cat([operator.expand(-1, 2, -1), picture], 2)
    mlp = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.LeakyReLU(0.1), torch.nn.Linear(16, 16))

    def told_apart() -> float:
        with torch.no_grad():
            codes = F.normalize(mlp(found[:64]), dim=-1)
        return float(((codes[:, 0] @ codes[:, 1].T).argmax(1) == torch.arange(64)).float().mean())

    before = told_apart()
    task, draws = ProjectorLoss(mlp, found.std((0, 1))), Draws(found.numpy(), 0, 10**6)
    optimizer = torch.optim.AdamW(mlp.parameters(), 1e-2)
    for step in range(100):
        items = [draws[128 * step + row] for row in range(128)]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        task(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before < 0.3 and told_apart() > 0.8
    assert torch.equal(draws[5]["features"], draws[5]["features"]) and draws[5]["label"] != draws[6]["label"]

"""S3Diff's degradation estimator against public vectors."""

from __future__ import annotations

import pytest
import torch
from personal_restore.models.s3diff.de_net import DegradationEstimator


def estimator(config: dict, weights: dict) -> DegradationEstimator:
    sizes = {name: config[name] for name in ("num_feats", "num_blocks", "downscales", "fc_hidden")}
    net = DegradationEstimator(**sizes)
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


def test_golden_estimator_of_reduced_width(golden):
    tensors, about = golden("de_net")
    weights = {name.removeprefix("w."): value.float() for name, value in tensors.items() if name.startswith("w.")}
    degrees = estimator(about["config"]["reduced"], weights)(tensors["reduced.in.lq"])
    torch.testing.assert_close(degrees, tensors["reduced.out.deg"], atol=about["tolerance"]["atol"], rtol=0)


def test_golden_estimator_from_the_public_checkpoint(golden):
    tensors, about = golden("de_net")
    weights = torch.load(golden.folder / "de_net.pth", weights_only=True)
    net = estimator(about["config"]["full"], weights)
    for case in ("", "_b"):
        degrees = net(tensors[f"full.in.lq{case}"])
        torch.testing.assert_close(degrees, tensors[f"full.out.deg{case}"], atol=about["tolerance"]["atol"], rtol=0)


def test_the_defaults_are_the_public_sizes(golden):
    _, about = golden("de_net")
    weights = torch.load(golden.folder / "de_net.pth", weights_only=True)
    public = estimator(about["config"]["full"], weights)

    def shapes(net):
        return {name: value.shape for name, value in net.state_dict().items()}

    assert shapes(DegradationEstimator()) == shapes(public)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 40)])
def test_any_size_gives_two_degrees_and_pictures_do_not_mix(size):
    net = DegradationEstimator((4, 4, 6, 8), (1, 1, 1, 1), (1, 1, 2, 1), 16).requires_grad_(False)
    pictures = torch.rand(3, 3, *size)
    degrees = net(pictures)
    assert degrees.shape == (3, 2)
    assert ((degrees > 0) & (degrees < 1)).all()
    torch.testing.assert_close(degrees[1:2], net(pictures[1:2]))

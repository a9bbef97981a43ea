"""RANSAC-Flow's networks against public vectors, and the loaders of its published files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces.correlation import expected_offset, local_correlation
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.ransacflow import network as ransacflow
from personal_restore.models.ransacflow.network import CoarseFeatures, RansacFlow, enlarge


@pytest.fixture
def public(golden):
    """The vectors, their description, and the network loaded from the companion checkpoint."""
    tensors, about = golden("ransacflow")
    return tensors, about, ransacflow.load_flow(golden.folder / "ransacflow.pth")


def assert_close(got, expected, atol, rtol=0.0):
    torch.testing.assert_close(got, expected, atol=atol, rtol=rtol)


def test_golden_correlation(public):
    tensors, about, network = public
    assert network.kernel == about["config"]["kernelSize"]
    got = local_correlation(tensors["in.feat_x"], tensors["in.feat_y"], network.kernel)
    assert_close(got, tensors["mid.corr"], about["tolerance"]["corr_atol"])


def test_golden_flow_and_match(public):
    tensors, about, network = public
    flow, match = network.netFlowCoarse(tensors["mid.corr"]), network.netMatch(tensors["mid.corr"])
    flow_atol, match_atol = about["tolerance"]["flow_atol"], about["tolerance"]["match_atol"]
    assert_close(flow, tensors["out.flow"], flow_atol)
    assert_close(enlarge(flow), tensors["out.flow_up8"], flow_atol)
    assert_close(match, tensors["out.match"], match_atol)
    assert_close(enlarge(match), tensors["out.match_up8"], match_atol)


def test_golden_clamped_grid(public):
    tensors, about, network = public
    flow = enlarge(network.netFlowCoarse(tensors["mid.corr"]))
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = (flow + torch.stack([x, y])).clamp(-1, 1).permute(0, 2, 3, 1)
    assert_close(grid, tensors["out.flow_grid_clamped_up8"], about["tolerance"]["flow_atol"])


def test_golden_features(public):
    tensors, about, network = public
    got = network.netFeatCoarse(tensors["in.image"].float())
    tolerance = about["tolerance"]
    assert_close(got, tensors["out.image_feat"], tolerance["image_feat_atol"], tolerance["image_feat_rtol"])


def test_golden_parts_are_joined_in_the_published_order(public):
    tensors, about, network = public
    target = tensors["in.image"].float()
    source = target.flip(-1)
    there, here = (F.normalize(network.netFeatCoarse(picture)) for picture in (source, target))
    flow, match = network(source, target)
    correlation = local_correlation(here, there, network.kernel)
    assert_close(flow, network.netFlowCoarse(correlation), 0.0)
    assert_close(match, network.netMatch(correlation), 0.0)


@pytest.mark.parametrize("size", [(8, 8), (40, 24), (33, 71), (72, 88)])
def test_features_have_stride_eight(size):
    features = RansacFlow().eval().netFeatCoarse(torch.rand(1, 3, *size))
    assert features.shape[1:] == (256, (size[0] + 6) // 8, (size[1] + 6) // 8)


@pytest.mark.parametrize("kernel", [3, 7, 9])
def test_certain_scores_give_their_own_displacement(kernel):
    reach = kernel // 2
    for i in range(kernel):
        for j in range(kernel):
            scores = torch.zeros(1, kernel * kernel, 2, 3)
            scores[:, i * kernel + j] = 100
            expected = torch.tensor([j - reach, i - reach]).view(1, 2, 1, 1).expand(1, 2, 2, 3).float()
            assert_close(expected_offset(scores), expected, 1e-5)


def test_equal_scores_give_no_displacement():
    assert_close(expected_offset(torch.ones(2, 49, 4, 5)), torch.zeros(2, 2, 4, 5), 1e-6)


def test_correlation_with_a_shifted_map_peaks_at_the_shift():
    features = F.normalize(torch.randn(1, 32, 20, 24, generator=torch.Generator().manual_seed(0)))
    shifted = features.roll((2, -3), (2, 3))
    offset = expected_offset(50 * local_correlation(features, shifted))[..., 4:-4, 4:-4]
    assert_close(offset, torch.tensor([-3.0, 2.0]).view(1, 2, 1, 1).expand_as(offset), 1e-3)


@pytest.mark.parametrize("layout", ["torchvision", "moco"])
def test_coarse_features_load_from_both_published_layouts(tmp_path, layout):
    torch.manual_seed(0)
    expected = CoarseFeatures().eval()
    weights = dict(expected.trunk.state_dict()) | {"layer4.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    if layout == "moco":
        weights = {"model": {f"module.{key}": value for key, value in weights.items()}, "epoch": 200}
    torch.save(weights, tmp_path / "resnet50.pth")
    picture = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        got = ransacflow.load_coarse(tmp_path / "resnet50.pth")(picture)
        assert torch.equal(got, expected(picture))
    assert got.shape == (1, 1024, 4, 3)
    assert_close(got.norm(dim=1), torch.ones(1, 4, 3), 1e-5)


@pytest.mark.parametrize("load", [ransacflow.load_flow, ransacflow.load_coarse])
def test_a_foreign_file_is_named_without_its_folder(tmp_path, load):
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    torch.save({"a": test_equal_scores_give_no_displacement}, tmp_path / "code.pth")
    for name in ("other.pth", "page.pth", "code.pth", "gone.pth"):
        with pytest.raises(UserError, match=name) as error:
            load(tmp_path / name)
        assert str(tmp_path) not in str(error.value)

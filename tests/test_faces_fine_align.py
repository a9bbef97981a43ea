"""Fine alignment: what is bent is found again, and a warp that does not help is not used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from personal_restore.lib.faces import fine_align as fine
from personal_restore.lib.faces.correlation import expected_offset, local_correlation
from personal_restore.lib.faces.fine_align import Networks, Warp, fine_align
from personal_restore.lib.faces.homography import transform
from personal_restore.models.ransacflow.network import CoarseFeatures, RansacFlow, find_networks, load_flow

INNER = 12


@pytest.fixture
def face(astronaut) -> torch.Tensor:
    return astronaut[0, :, :260, 90:350]


def resized(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(picture[None], (height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)


def damaged(picture: torch.Tensor, sigma: float = 1.5, noise: float = 0.03, seed: int = 0) -> torch.Tensor:
    size = 2 * int(3 * sigma) + 1
    random = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return (gaussian_blur2d(picture[None], (size, size), (sigma, sigma))[0] + noise * random).clamp(0, 1)


def smooth_flow(height: int, width: int, furthest: float, seed: int) -> torch.Tensor:
    """``[2, H, W]`` in pixels, from a grid of 5x5 random vectors."""
    coarse = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    flow = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]
    return flow / flow.norm(dim=0).max() * furthest


def bent(picture: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    return Warp(np.eye(3), flow, flow[:1], (0, 0)).apply(picture)


def endpoint_error(flow: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean distance in pixels, without the rim, into which the truth brings what no picture shows."""
    rim = min(truth.shape[-2:]) // INNER
    return float((flow - truth).norm(dim=0)[rim:-rim, rim:-rim].mean())


@pytest.mark.parametrize("dx", [-3, -1.5, 0, 0.5, 2, 3])
@pytest.mark.parametrize("dy", [-3, -0.75, 1])
def test_a_shift_of_up_to_three_cells_is_read_to_less_than_0_3(dx, dy):
    base = torch.randn(1, 32, 48, 48, generator=torch.Generator().manual_seed(0))
    base = gaussian_blur2d(base, (9, 9), (1.5, 1.5))[0]
    shift = torch.tensor([dx, dy], dtype=torch.float32).view(2, 1, 1).expand(2, 48, 48)
    here, there = (F.normalize(picture[None]) for picture in (base, bent(base, -shift)))
    flow = expected_offset(local_correlation(here, there) / fine.TEMPERATURE)[0, :, 8:-8, 8:-8]
    error = (flow - shift[:, 8:-8, 8:-8]).norm(dim=0)
    assert error.mean() < 0.3


@pytest.mark.parametrize("shift", [(3, 0), (-2, 1.5), (0.5, -3), (-2.5, 2.5)])
@pytest.mark.parametrize("stride", fine.STRIDES)
def test_gradient_flow_reads_a_shift_of_a_face_in_cells(face, stride, shift):
    picture = resized(face, 400, 400)
    truth = torch.tensor(shift, dtype=torch.float32).view(2, 1, 1).expand(2, 400, 400) * stride
    flow, confidence = fine.gradient_flow(bent(picture, -truth), picture, stride)
    sure = (confidence[0] > 0.5)[40:-40, 40:-40]
    error = (flow - truth).norm(dim=0)[40:-40, 40:-40][sure]
    assert sure.float().mean() > 0.1 and error.median() < 0.3 * stride


@pytest.mark.parametrize("size", [(130, 130), (260, 300), (520, 520)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_of_a_smooth_warp_is_at_least_halved(face, size, seed):
    picture = resized(face, *size)
    truth = smooth_flow(*size, 0.03 * max(size), seed)
    warp = fine_align(picture, damaged(bent(picture, truth), 1.5 * max(size) / 400))
    assert warp.reason == "" and warp.agreement[1] > warp.agreement[0]
    assert endpoint_error(warp.flow, truth) < 0.5 * endpoint_error(0 * truth, truth)


def test_a_homography_is_found_in_the_pixels_of_the_region(face):
    picture = resized(face, 500, 450)
    matrix = np.array([[1.03, 0.02, -6.0], [-0.02, 0.98, 5.0], [2e-5, -2e-5, 1.0]])
    truth = fine.displacement(matrix, (500, 450))
    warp = fine_align(picture, damaged(bent(picture, truth)))
    corners = np.array([[0, 0], [449, 0], [449, 499], [0, 499]], float)
    error = np.linalg.norm(transform(warp.homography, corners) - transform(matrix, corners), axis=1)
    assert error.max() < 4 and endpoint_error(warp.flow, truth) < 0.1 * endpoint_error(0 * truth, truth)
    restored, target = warp.apply(picture), bent(picture, truth)
    # Pixel by pixel, the aligned face is the target.
    assert (restored - target)[:, 40:-40, 40:-40].abs().mean() < 0.2 * (picture - target)[
        :, 40:-40, 40:-40
    ].abs().mean()


def assert_identity(warp: Warp, picture: torch.Tensor):
    assert warp.reason and warp.apply(picture) is picture
    assert not warp.flow.any() and not warp.confidence.any() and (warp.homography == np.eye(3)).all()
    assert warp.agreement[0] == warp.agreement[1]


@pytest.mark.parametrize(
    "change",
    [lambda x: x, lambda x: damaged(x, 0.5, 0.1), lambda x: damaged(x, 4.0, 0.02), lambda x: (0.6 * x + 0.2) ** 1.2],
    ids=["same", "noise", "blur", "contrast"],
)
def test_what_is_aligned_already_stays_as_it_is(face, change):
    picture = resized(face, 400, 400)
    assert_identity(fine_align(picture, change(picture)), picture)


def test_pictures_of_different_things_are_left_alone(face, astronaut):
    picture = resized(face, 256, 256)
    for other in (astronaut[0, :, 256:, 256:], astronaut[0, :, 100:356, 100:356].flip(-2), torch.rand(3, 256, 256)):
        assert_identity(fine_align(picture, other), picture)


@pytest.mark.parametrize("size", [(64, 64), (9, 40), (1, 1)])
def test_a_picture_without_anything_to_match_is_left_alone(size):
    picture = torch.full((3, *size), 0.5)
    warp = fine_align(picture, picture.flip(-1))
    assert_identity(warp, picture)
    assert "0 points match" in warp.reason and warp.flow.shape == (2, *size)


def test_a_warp_that_lowers_the_agreement_does_not_improve(face):
    picture = resized(face, 200, 200)
    truth = smooth_flow(200, 200, 5, 0)
    target, still, known = bent(picture, truth), torch.zeros_like(truth), torch.ones(1, 200, 200)
    assert fine.improves(picture, target, known, still, truth)
    assert not fine.improves(picture, target, known, truth, still)
    assert not fine.improves(picture, target, known, still, -truth)
    assert not fine.improves(picture, target, known, truth, truth)


def test_only_what_the_source_shows_is_compared(face):
    picture = resized(face, 400, 400)
    truth = smooth_flow(400, 400, 10, 2)
    target = bent(picture, truth)
    known = torch.ones(1, 400, 400)
    known[:, :, :120] = 0
    warp = fine_align(picture * known + (1 - known) * torch.rand(3, 400, 400), target, known)
    error = (warp.flow - truth).norm(dim=0)[40:-40, 160:-40].mean()
    assert warp.reason == "" and error < 0.5 * truth.norm(dim=0)[40:-40, 160:-40].mean()
    assert_identity(fine_align(picture, target, 0 * known), picture)


def test_the_same_seed_gives_the_same_bytes(face):
    target = damaged(bent(face, smooth_flow(260, 260, 6, 1)))
    first, again = (fine_align(face, target, seed=3) for _ in range(2))
    assert torch.equal(first.flow, again.flow) and first.homography.tobytes() == again.homography.tobytes()


def test_two_warps_composed_are_one_after_the_other(face):
    first, then = smooth_flow(260, 260, 4, 0), smooth_flow(260, 260, 4, 1)
    once, twice = bent(face, fine.compose(first, then)), bent(bent(face, first), then)
    assert (once - twice)[:, 20:-20, 20:-20].abs().mean() < 0.01


@pytest.fixture
def networks(golden) -> Networks:
    golden("ransacflow")
    torch.manual_seed(0)
    return Networks(CoarseFeatures().eval(), load_flow(golden.folder / "ransacflow.pth"))


def test_coarse_features_even_untrained_find_a_shift(face):
    torch.manual_seed(0)
    picture = resized(face, 400, 400)
    matrix = np.array([[1.0, 0, 12], [0, 1, -8], [0, 0, 1]])
    target = bent(picture, fine.displacement(matrix, (400, 400)))
    with torch.inference_mode():
        found = fine.match_cells(picture, target, Networks(CoarseFeatures().eval(), RansacFlow()), 0)
    centre = np.array([[200.0, 200.0]])
    assert found.inliers.sum() >= fine.FEWEST_INLIERS
    assert np.abs(transform(found.matrix, centre) - transform(matrix, centre)).max() < fine.CELL_TOLERANCE


def test_with_networks_nothing_gets_worse(face, networks):
    """The test's weights are no trained ones, so what is shown is that the whole path runs and that the gate holds."""
    target = damaged(bent(face, smooth_flow(260, 260, 6, 1)))
    warp = fine_align(face, target, networks=networks)
    assert warp.flow.shape == (2, 260, 260) and warp.confidence.shape == (1, 260, 260)
    assert warp.agreement[1] >= warp.agreement[0] and warp.flow.isfinite().all()
    flow, confidence = fine.fine_flow(face, target, torch.ones(1, 260, 260), networks)
    assert flow.abs().max() <= fine.FURTHEST_FLOW * fine.SIDE and 0 <= confidence.min() <= confidence.max() <= 1


def test_networks_are_found_only_where_both_files_are(tmp_path, golden, networks):
    assert find_networks(None) is None and find_networks(tmp_path / "gone") is None
    torch.save(networks.coarse.trunk.state_dict(), tmp_path / "resnet50-0676ba61.pth")
    assert find_networks(tmp_path) is None
    (tmp_path / "sub").mkdir()
    public = tmp_path / "sub" / "MegaDepth_Theta1_Eta001_Grad1_0.774.pth"
    public.symlink_to(golden.folder / "ransacflow.pth")
    found = find_networks(tmp_path)
    assert found is not None and found is find_networks(tmp_path)

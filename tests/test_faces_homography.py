"""The homography of the coarse alignment: public vectors, outliers, and matches that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from personal_restore.lib.faces.homography import ransac_homography, refit, residuals, transform

CORNERS = np.array([[0, 0], [511, 0], [511, 511], [0, 511]], float)


@pytest.fixture
def public(golden):
    """Vectors as float64, the public samples without repeated points, and the description. H maps Y to X."""
    tensors, about = golden("ransacflow")
    vectors = {key.removeprefix("hom."): value.numpy() for key, value in tensors.items() if key.startswith("hom.")}
    points = [vectors[key][:, :2].astype(np.float64) for key in ("match2_Y", "match1_X")]
    return *points, vectors["samples"][~vectors["sample_has_duplicate"]], vectors, about["config"]["tolerance"]


def test_golden_four_point_homographies(public):
    start, end, samples, vectors, tolerance = public
    first, counts = vectors["first12_H_over_h33"], vectors["first12_inlier_count"]
    matrices = np.stack([refit(start[sample], end[sample]) for sample in samples[: len(first)]])
    np.testing.assert_allclose(matrices, first, atol=1e-3)
    inliers = (residuals(matrices, start, end) < tolerance).sum(1)
    # Public code takes the determinant's sign from an SVD's arbitrary one, and so counts 0 for sound hypotheses, too.
    counted = counts > 0
    np.testing.assert_array_equal(inliers[counted], counts[counted])


def test_golden_inliers_of_the_best_homography(public):
    start, end, _, vectors, tolerance = public
    errors = residuals(vectors["public_best_H_over_h33"][None].astype(np.float64), start, end)[0]
    clear = np.abs(errors - tolerance) > 1e-4
    np.testing.assert_array_equal((errors < tolerance)[clear], vectors["public_inlier"][clear])


def test_golden_refits(public):
    start, end, _, vectors, _ = public
    inliers = vectors["public_inlier"]
    matrix = refit(start[inliers], end[inliers])
    for name, atol in (("normalised_dlt", 1e-6), ("plain_dlt", 1e-3), ("cv2_least_squares", 1e-3)):
        expected = vectors[f"refit_{name}"]
        np.testing.assert_allclose(matrix, expected / expected[2, 2], atol=atol)


def test_golden_ransac_with_draws_of_its_own(public):
    start, end, _, vectors, tolerance = public
    found = ransac_homography(start, end, tolerance)
    assert found.inliers.sum() >= vectors["public_inlier"].sum()
    agreed = found.inliers & vectors["true_inlier"]
    truth = vectors["true_H"].astype(np.float64)
    distance = transform(found.matrix, start[agreed]) - transform(truth, start[agreed])
    assert np.linalg.norm(distance, axis=1).mean() < tolerance / 2


def matches(seed: int, count: int = 200, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A homography, matches under it of which 40 % are wrong, and which are right."""
    random = np.random.default_rng(seed)
    angle, size = random.uniform(-0.2, 0.2), random.uniform(0.9, 1.1)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1 / size]]) * size
    matrix[:2, 2], matrix[2, :2] = random.uniform(-20, 20, 2), random.uniform(-1e-4, 1e-4, 2)
    start = random.uniform(0, 511, (count, 2))
    end = transform(matrix, start) + random.normal(0, noise, (count, 2))
    right = random.permutation(count) >= 0.4 * count
    end[~right] = random.uniform(0, 511, ((~right).sum(), 2))
    return matrix, start, end, right


@pytest.mark.parametrize("seed", range(8))
def test_a_known_homography_is_found_among_40_percent_outliers(seed):
    matrix, start, end, right = matches(seed)
    found = ransac_homography(start, end, 2.0, seed)
    assert found.found
    assert np.linalg.norm(transform(found.matrix, CORNERS) - transform(matrix, CORNERS), axis=1).max() < 0.5
    assert found.inliers[right].all() and found.inliers[~right].mean() < 0.05


def test_the_same_seed_gives_the_same_bytes():
    _, start, end, _ = matches(0, noise=1.0)
    first, again = (ransac_homography(start, end, 2.0, 5) for _ in range(2))
    assert first.matrix.tobytes() == again.matrix.tobytes() and (first.inliers == again.inliers).all()


@pytest.mark.parametrize("count", range(4))
def test_fewer_than_four_matches_are_the_identity_and_say_so(count):
    points = np.random.default_rng(0).random((count, 2))
    found = ransac_homography(points, points + 1, 0.5)
    assert not found.found and (found.matrix == np.eye(3)).all() and found.inliers.shape == (count,)


@pytest.mark.parametrize("points", [np.zeros((9, 2)), np.linspace(0, 8, 9)[:, None] * [1.0, 2.0]], ids=["one", "line"])
def test_points_on_one_place_or_line_are_the_identity_and_say_so(points):
    found = ransac_homography(points, points, 0.5)
    assert not found.found and (found.matrix == np.eye(3)).all()


def test_a_mirror_image_is_no_homography_of_a_face():
    start = np.random.default_rng(0).uniform(0, 100, (40, 2))
    found = ransac_homography(start, start * [-1, 1] + [100, 0], 0.5)
    assert found.inliers.sum() < 12

"""Landmarks to crops: both frames, the resampling, and the published implementation's vectors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.faces import align
from personal_restore.lib.vocabulary import Similarity, UserError

LANDMARKS = align.TEMPLATE_512 * 0.3 + [40, 25]


def turned(points: np.ndarray, degrees: float, centre: float = 120) -> np.ndarray:
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - centre) @ rotation.T + centre


def mapped(similarity: Similarity, points: np.ndarray) -> np.ndarray:
    return points @ similarity.matrix[:, :2].T + similarity.matrix[:, 2]


def from_bgr(picture: torch.Tensor) -> torch.Tensor:
    return picture.flip(2).permute(2, 0, 1).float() / 255


def assert_levels(actual: torch.Tensor, expected_bgr: torch.Tensor, levels: int) -> None:
    """At most ``levels`` of 255 apart on 99.5 % of the values, 0.3 on average."""
    difference = (actual * 255 - from_bgr(expected_bgr) * 255).abs().flatten()
    assert difference.kthvalue(int(0.995 * len(difference))).values <= levels + 1e-3
    assert difference.mean() <= 0.3


@pytest.mark.parametrize("degrees", [-90, -57, -8, 0, 0.3, 31, 90])
def test_eye_line_is_exactly_horizontal(degrees):
    eyes = mapped(align.align_perfuse(turned(LANDMARKS, degrees)), turned(LANDMARKS, degrees))[:2]
    assert abs(eyes[1, 1] - eyes[0, 1]) < 1e-4
    assert eyes[0, 0] < eyes[1, 0]


def test_tightening_leaves_two_percent_and_is_idempotent():
    for side in np.linspace(1, 900, 50):
        for area in np.linspace(1, 9000, 50):
            tight = align.tighten(side, area)
            assert tight == pytest.approx(min(side, 7.0710678 * np.sqrt(area)))
            assert area / tight**2 >= 0.02 - 1e-12
            assert align.tighten(tight, area) == pytest.approx(tight)
            assert area / side**2 < 0.02 or tight == side


def test_perfuse_crop_gives_the_triangle_two_percent():
    similarity = align.align_perfuse(turned(LANDMARKS, 20), size=400)
    left, right, mouth = (lambda p: (p[0], p[1], p[3:].mean(0)))(mapped(similarity, turned(LANDMARKS, 20)))
    assert np.cross([*(right - left), 0], [*(mouth - left), 0])[2] / 2 / 400**2 >= 0.02 - 1e-9


@pytest.mark.parametrize(("ratio", "fraction"), [(0.9, 0.0281), (1.0, 0.0312), (1.1, 0.0344), (1.2, 0.0322)])
def test_ffhq_crops_are_tight_already(ratio, fraction):
    # FFHQ: side = max(4 eye distances, 3.6 eye-mouth distances).
    side, area = max(4.0, 3.6 * ratio), ratio / 2
    assert area / side**2 == pytest.approx(fraction, abs=6e-5)
    assert align.tighten(side, area) == side


def test_template_is_tight_already():
    eyes, mouth = align.TEMPLATE_512[:2].mean(0), align.TEMPLATE_512[3:].mean(0)
    across, down = align.TEMPLATE_512[1] - align.TEMPLATE_512[0], mouth - eyes
    assert abs(across[0] * down[1] - across[1] * down[0]) / 2 / 512**2 == pytest.approx(0.0315, abs=1e-4)


@pytest.mark.parametrize(
    "landmarks",
    [
        np.linspace([10, 10], [90, 60], 5),
        np.array([[50, 40], [50, 40], [52, 60], [49, 80], [51, 80]]),
        np.full((5, 2), 33.0),
    ],
    ids=["one line", "one eye", "one point"],
)
def test_degenerate_landmarks_still_give_a_finite_crop(landmarks, astronaut):
    similarity = align.align_perfuse(landmarks, 64)
    crop, valid = align.take_crop(astronaut[0], similarity)
    assert np.isfinite(similarity.matrix).all() and crop.isfinite().all() and valid.isfinite().all()


def test_68_points_and_5_points_give_the_same_perfuse_crop():
    dense = np.zeros((68, 2))
    dense[36:42], dense[42:48], dense[48], dense[54] = LANDMARKS[0], LANDMARKS[1], LANDMARKS[3], LANDMARKS[4]
    np.testing.assert_allclose(align.align_perfuse(dense).matrix, align.align_perfuse(LANDMARKS).matrix)


def test_matrix_times_inverse_is_identity():
    similarity = align.align(turned(LANDMARKS, 33))
    product = np.vstack([similarity.matrix, [0, 0, 1]]) @ np.vstack([similarity.inverse, [0, 0, 1]])
    np.testing.assert_allclose(product, np.eye(3), atol=1e-6)


def test_landmarks_on_the_template_need_no_change():
    np.testing.assert_allclose(align.align(align.TEMPLATE_512).matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


def test_one_misplaced_landmark_hardly_moves_the_robust_fit():
    broken = LANDMARKS.copy()
    broken[2] += [30, -20]
    sound = align.align(LANDMARKS)
    others = [0, 1, 3, 4]
    robust = np.abs(mapped(align.align(broken), LANDMARKS[others]) - mapped(sound, LANDMARKS[others])).max()
    least = Similarity(align.least_squares_similarity(broken, align.TEMPLATE_512), 512)
    assert robust < 2 < np.abs(mapped(least, LANDMARKS[others]) - mapped(sound, LANDMARKS[others])).max()


def test_coinciding_landmarks_are_a_user_error():
    with pytest.raises(UserError, match="landmarks"):
        align.least_squares_similarity(np.full((5, 2), 7.0), align.TEMPLATE_512)


def test_geometry_scaled_once_equals_geometry_of_the_enlarged_picture():
    doubled = 2 * (LANDMARKS + 0.5) - 0.5
    scaled, fresh = align.align(LANDMARKS).scaled(2), align.align(doubled)
    corners = np.array([[0, 0], [511, 0], [0, 511], [511, 511]])
    gap = (corners @ scaled.inverse[:, :2].T + scaled.inverse[:, 2]) - (
        corners @ fresh.inverse[:, :2].T + fresh.inverse[:, 2]
    )
    assert np.abs(gap).max() < 1


def test_validity_is_zero_beyond_the_photograph_and_the_edge_is_repeated(astronaut):
    photo = astronaut[0] * 0 + 0.75
    crop, valid, similarity = align.crop_face(photo, LANDMARKS - [90, 90])
    corners = similarity.inverse[:, 2]
    assert corners.min() < -5
    assert valid[0, 0, 0] == 0 and valid[0, -1, -1] == 1
    torch.testing.assert_close(crop, torch.full_like(crop, 0.75))


def test_a_colour_fills_beyond_the_photograph_on_request(astronaut):
    crop, valid, _ = align.crop_face(astronaut[0], LANDMARKS - [90, 90], border=align.PUBLISHED_BORDER)
    torch.testing.assert_close(crop[:, 0, 0], torch.tensor(align.PUBLISHED_BORDER))


def test_a_face_larger_than_the_crop_does_not_alias():
    # A checkerboard of single pixels is grey from afar; a crop that skips pixels shows a pattern instead.
    rows, columns = torch.meshgrid(torch.arange(3000), torch.arange(3000), indexing="ij")
    board = ((rows + columns) % 2).float().expand(3, -1, -1)
    landmarks = turned(align.TEMPLATE_512 * 5 + 100, 10, 1500)
    smooth, valid, similarity = align.crop_face(board, landmarks)
    assert similarity.scale < 0.25
    inside = valid[0] == 1
    assert (smooth[0][inside] - 0.5).abs().max() < 0.1
    assert (align.crop_face(board, landmarks, antialias=False)[0][0][inside] - 0.5).abs().max() > 0.4


def golden_cases(tensors, description):
    size = description["face_size"]
    for case in description["cases"]:
        prefix = f"case{case['case']}."
        named = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        yield case, named, Similarity(named["affine_lmeds"].numpy(), size)


def test_golden_template(golden):
    tensors, description = golden("face_align")
    np.testing.assert_allclose(align.template(description["face_size"]), tensors["template"].numpy(), atol=1e-9)
    np.testing.assert_allclose(align.TEMPLATE_512, description["template_512"], atol=1e-9)


def test_golden_similarities(golden):
    import cv2

    tensors, description = golden("face_align")
    target = tensors["template"].numpy()
    same_opencv = cv2.__version__ == description["cv2_version"]
    for case, named, expected in golden_cases(tensors, description):
        landmarks = named["landmarks"].numpy()
        least = align.least_squares_similarity(landmarks, target)
        np.testing.assert_allclose(least, named["affine_umeyama"].numpy(), atol=1e-8)
        robust = align.align(landmarks, expected.size)
        if same_opencv:
            np.testing.assert_allclose(robust.matrix, expected.matrix, atol=1e-6)
        gap = np.linalg.norm(mapped(robust, landmarks) - mapped(expected, landmarks), axis=1).mean()
        assert gap <= case["lmeds_vs_umeyama_mean_px"] + 0.05


def test_golden_crops(golden):
    tensors, description = golden("face_align")
    photo = from_bgr(tensors["in.image_bgr"])
    for _, named, similarity in golden_cases(tensors, description):
        crop, _ = align.take_crop(photo, similarity, align.PUBLISHED_BORDER, antialias=False)
        assert_levels(crop, named["crop_bgr"], 2)


def test_golden_inverses_and_pastes(golden):
    from personal_restore.lib.faces.paste import paste_face, upscaled_inverse

    tensors, description = golden("face_align")
    photo = from_bgr(tensors["in.image_bgr"])
    pasted = 0
    for _, named, similarity in golden_cases(tensors, description):
        for key in [key for key in named if key.startswith("inverse_affine_x")]:
            upscale = int(key.removeprefix("inverse_affine_x"))
            np.testing.assert_allclose(upscaled_inverse(similarity, upscale), named[key].numpy(), atol=1e-9)
            if f"pasted_x{upscale}_bgr" in named:
                background = F.interpolate(photo[None], scale_factor=upscale, mode="bilinear")[0]
                background = (background * 255).round() / 255
                result = paste_face(background, from_bgr(named["restored_bgr"]), similarity, upscale)
                # Floats lose nothing between warping and blending, so rounding once is nearest to 8 bits all along.
                assert_levels((result * 255).round() / 255, named[f"pasted_x{upscale}_bgr"], 3)
                pasted += 1
    assert pasted


def test_golden_two_faces_one_after_the_other(golden):
    from personal_restore.lib.faces.paste import paste_face

    tensors, description = golden("face_align")
    result = from_bgr(tensors["multi.background_bgr"])
    upscale = result.shape[1] // len(tensors["in.image_bgr"])
    order = [int(number) for number in re.findall(r"case(\d+)", description["mapping"].split("multi:")[1])]
    assert order
    cases = {case["case"]: (named, similarity) for case, named, similarity in golden_cases(tensors, description)}
    for number in order:
        named, similarity = cases[number]
        result = paste_face(result, from_bgr(named["restored_bgr"]), similarity, upscale)
        result = (result * 255).round() / 255
    assert_levels(result, tensors[f"multi.pasted_x{upscale}_bgr"], 3)

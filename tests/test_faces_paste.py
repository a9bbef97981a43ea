"""Crops go back exactly where they came from, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import align, paste

LANDMARKS = align.TEMPLATE_512 * 0.35 + [130, 40]


def smooth_picture(height: int, width: int) -> torch.Tensor:
    """Waves of at least 50 px: band-limited, so resampling can lose next to nothing."""
    y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
    waves = [torch.sin(x / 8 + channel) * torch.cos(y / 9 - channel) for channel in range(3)]
    return torch.stack(waves) * 0.4 + 0.5


def laid_back(photo: torch.Tensor, landmarks: np.ndarray, size: int = 512):
    crop, valid, similarity = align.crop_face(photo, landmarks, size)
    region, validity, (x0, y0, x1, y1) = paste.unwarp(crop, similarity, photo.shape[-2:])
    return region, validity, photo[:, y0:y1, x0:x1], (x0, y0, x1, y1)


@pytest.mark.parametrize("size", [128, 512])
def test_crop_and_unwarp_is_a_round_trip(size):
    region, validity, original, _ = laid_back(smooth_picture(300, 400), LANDMARKS, size)
    inside = (validity == 1).expand_as(region)
    assert inside.sum() > 10_000
    assert (region - original)[inside].abs().mean() < 2e-3


def test_round_trip_of_a_face_larger_than_the_crop():
    photo = smooth_picture(160, 200).repeat_interleave(8, 1).repeat_interleave(8, 2)
    region, validity, original, _ = laid_back(photo, align.TEMPLATE_512 * 2.2 + 60)
    inside = (validity == 1).expand_as(region)
    assert (region - original)[inside].abs().mean() < 0.02


def test_unwarp_touches_only_the_region_the_crop_covers():
    _, validity, _, (x0, y0, x1, y1) = laid_back(smooth_picture(600, 800), LANDMARKS)
    assert validity.shape == (1, y1 - y0, x1 - x0)
    side = 512 * 0.35
    assert side <= x1 - x0 <= side + 4 and side <= y1 - y0 <= side + 4


def test_unwarp_clips_at_the_edge_of_the_photograph():
    region, validity, original, (x0, y0, x1, y1) = laid_back(smooth_picture(200, 240), LANDMARKS - [160, 80])
    assert (x0, y0) == (0, 0) and x1 < 240
    inside = (validity == 1).expand_as(region)
    assert (region - original)[inside].abs().mean() < 2e-3


def test_unwarp_of_fine_detail_does_not_alias():
    rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    board = ((rows + columns) % 2).float()[None]
    region, validity, _ = paste.unwarp(board, align.align(align.TEMPLATE_512 * 0.15 + 20), (200, 200))
    assert (region[validity == 1] - 0.5).abs().max() < 0.1


def test_unwarp_takes_any_number_of_channels():
    region, _, _ = paste.unwarp(torch.rand(7, 64, 64), align.align(LANDMARKS, 64), (300, 400))
    assert region.shape[0] == 7


def test_paste_leaves_the_rest_of_the_picture_alone(astronaut):
    photo = astronaut[0]
    similarity = align.align(LANDMARKS)
    result = paste.paste_face(photo, torch.ones(3, 512, 512), similarity)
    x0, y0, x1, y1 = paste.covered_region(similarity.inverse, 512, photo.shape[-2:], margin=2)
    outside = torch.ones(photo.shape[-2:], dtype=torch.bool)
    outside[y0:y1, x0:x1] = False
    assert torch.equal(result[:, outside], photo[:, outside])
    assert result[:, (y0 + y1) // 2, (x0 + x1) // 2].min() > 0.99


def test_pasting_the_crop_itself_changes_next_to_nothing():
    photo = smooth_picture(300, 400)
    crop, _, similarity = align.crop_face(photo, LANDMARKS)
    assert (paste.paste_face(photo, crop, similarity) - photo).abs().max() < 0.02


def test_face_region_is_clipped_to_the_photograph():
    assert paste.face_region((10.2, 20, 30, 50.5), 0.5, (60, 100)) == (0, 4, 46, 60)


@pytest.mark.parametrize("box", [(-90, -90, -50, -50), (500, 500, 600, 600)])
def test_a_region_is_never_empty(box):
    x0, y0, x1, y1 = paste.face_region(box, 0, (60, 100))
    assert 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 60

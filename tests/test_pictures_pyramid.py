"""Gaussian and Laplacian pyramids."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.pictures.pyramid import collapse, gaussian_pyramid, laplacian_pyramid

SIZES = [(1, 1), (1, 7), (2, 3), (5, 4), (31, 37), (64, 96), (65, 33), (101, 128)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("levels", range(1, 6))
def test_collapsing_a_laplacian_pyramid_gives_the_picture_back(size, levels):
    image = torch.rand(2, 3, *size)
    pyramid = laplacian_pyramid(image, levels)
    assert len(pyramid) == levels
    assert (collapse(pyramid) - image).abs().max() <= 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_constant_stays_constant_up_to_the_borders(size):
    image = torch.full((1, *size), 0.7)
    for level in gaussian_pyramid(image, 5):
        assert (level - 0.7).abs().max() < 1e-6
    for band in laplacian_pyramid(image, 5)[:-1]:
        assert band.abs().max() < 1e-6


def test_low_pass_is_the_binomial_kernel_with_reflected_borders():
    image = torch.zeros(1, 9, 9)
    image[0, 4, 4] = 1
    kernel = torch.tensor([1.0, 6.0, 1.0]) / 16
    assert torch.allclose(gaussian_pyramid(image, 2)[1][0, 1:4, 1:4], torch.outer(kernel, kernel))
    corner = torch.zeros(1, 9, 9)
    corner[0, 0, 1] = 1  # seen from the corner it lies to the right and, reflected, to the left
    assert gaussian_pyramid(corner, 2)[1][0, 0, 0].item() == pytest.approx(8 / 16 * 6 / 16)


def test_a_region_on_the_sampling_grid_has_the_pyramid_of_the_whole_picture():
    image = torch.rand(3, 90, 117)
    whole, part = (laplacian_pyramid(x, 3) for x in (image, image[:, 20:80, 12:100]))
    for level, (all_of_it, region) in enumerate(zip(whole, part, strict=True)):
        top, left = 20 >> level, 12 >> level
        height, width = region.shape[-2:]
        expected = all_of_it[:, top : top + height, left : left + width]
        assert (region - expected)[:, 5:-5, 5:-5].abs().max() < 1e-6


def test_planes_of_any_memory_layout_are_read_right():
    image = torch.rand(16, 20, 3).movedim(-1, 0)
    assert torch.equal(gaussian_pyramid(image, 3)[2], gaussian_pyramid(image.contiguous(), 3)[2])

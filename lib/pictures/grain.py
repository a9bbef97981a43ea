"""Grain: adds the scene's fine noise to a restored face that lacks it, so that the face does not look too clean.

Noise is read from the two finest bands of a Laplacian pyramid where a picture is flat: as covariances of the colors, so
that coarse and colored grain are matched too. What is missing is added, never more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .pyramid import collapse, gaussian_pyramid, laplacian_pyramid

LEVELS = 3  # two bands of noise over a low-pass
BLOCK = 8  # pixels
FLAT = 0.25  # the share of the blocks, the ones with the least structure, that noise is read from
FEWEST_BLOCKS = 8
# Levels that are clipped show no noise.
DARKEST, BRIGHTEST = 0.03, 0.97


def add_grain(
    face: torch.Tensor, scene: torch.Tensor, valid: torch.Tensor, amount: float, generator: torch.Generator
) -> torch.Tensor:
    """``[3, h, w]`` with the noise that the scene has more of in the same place; not clamped.

    face, scene: ``[3, h, w]`` in 0..1, the same place of the photograph; valid: ``[1, h, w]``, where the face shows
    something; amount: 0..1, the share of the missing standard deviation. A region that is too small is returned
    unchanged.
    """
    flat = flat_blocks(scene, valid)
    if int(flat.sum()) < FEWEST_BLOCKS:
        return face
    present, wanted = (noise(picture, flat) for picture in (face, scene))
    missing = torch.stack([more - less for more, less in zip(wanted, present, strict=True)])
    white = [_only(level, torch.randn(face.shape, generator=generator)) for level in range(LEVELS - 1)]
    # The bands of a pyramid overlap, so noise in one also appears in the others. The amounts are measured and solved for.
    everywhere = torch.ones_like(flat)
    shows = torch.stack([torch.stack([c.trace() / 3 for c in noise(part, everywhere)]) for part in white], 1)
    own = torch.linalg.solve(shows, missing.flatten(1)).view_as(missing)
    return face + amount * sum(torch.einsum("ij,jhw->ihw", _root(c), part) for c, part in zip(own, white, strict=True))


def flat_blocks(picture: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Which blocks of ``[3, h, w]`` are best to read noise from: ``[h // 8, w // 8]``, True for the flattest of the valid
    ones, in two blocks' surroundings.

    Only the low-pass is used: selecting by noise would prefer the least noisy blocks.
    """
    if min(picture.shape[-2:]) < BLOCK:
        return torch.zeros(0, 0, dtype=torch.bool)
    low = gaussian_pyramid(picture, LEVELS)[-1].mean(0, keepdim=True)[None]
    rows, columns = (side // BLOCK for side in picture.shape[-2:])
    within = BLOCK >> (LEVELS - 1)
    mean, square = (F.avg_pool2d(x, 2 * within, within, within // 2) for x in (low, low.square()))
    mean, activity = (x[0, 0, :rows, :columns] for x in (mean, square - mean.square()))
    usable = -F.max_pool2d(-valid[None], BLOCK)[0, 0] > 0.99
    usable &= (mean > DARKEST) & (mean < BRIGHTEST)
    if not usable.any():
        return usable
    return usable & (activity <= activity[usable].quantile(FLAT))


def noise(picture: torch.Tensor, blocks: torch.Tensor) -> list[torch.Tensor]:
    """Covariance ``[3, 3]`` of the colors of each fine band of ``[3, h, w]``, finest first, within the blocks."""
    covariances = []
    for level, band in enumerate(laplacian_pyramid(picture, LEVELS)[:-1]):
        products = (band[:, None] * band[None]).flatten(0, 1)
        means = F.avg_pool2d(products[None], BLOCK >> level)[0][:, : blocks.shape[0], : blocks.shape[1]]
        covariances.append(means[:, blocks].mean(1).view(3, 3))
    return covariances


def _root(covariance: torch.Tensor) -> torch.Tensor:
    """The symmetric square root of the part of a covariance that is positive."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return ((vectors * values.clamp(min=0).sqrt()) @ vectors.T).float()


def _only(level: int, picture: torch.Tensor) -> torch.Tensor:
    """One band of a picture."""
    bands = laplacian_pyramid(picture, LEVELS)
    return collapse([band if number == level else torch.zeros_like(band) for number, band in enumerate(bands)])

"""Fine alignment: warps a restored face by a few pixels to align it with the surrounding scene.

RANSAC-Flow's two stages (Shen et al. 2020): a homography from matches that hold together, then a dense flow, the mean
displacement under the softmax of 7x7 local correlations. With its published weights the matches and correlations are
those of its networks; without, corners matched by normalized cross-correlation, and patches of gradients. Either way the
flow is smoothed and bounded, and a stage counts only if the pictures agree better after it than before.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..pictures.color import luma
from ..vocabulary import Size, enlargement
from .correlation import expected_offset, local_correlation
from .homography import Homography, ransac_homography, transform

# The working frame's longer side in pixels, as published; every length below is in its pixels.
SIDE = 400
COARSE_STRIDE = 16
SCALES = np.geomspace(1.2, 1 / 1.2, 7)
# The published tolerance, for matches of 16 px cells. Patches match to a fraction of a pixel, but a face also bends.
CELL_TOLERANCE, PATCH_TOLERANCE = 10.0, 4.0
FEWEST_INLIERS = 12
CORNERS, CORNER_QUALITY, CORNER_DISTANCE = 600, 0.003, 6
PATCH, SEARCH, LEAST_CORRELATION = 16, 32, 0.5
# Cells of the weight-free flow, coarse to fine, and the softmax's temperature on their correlations.
STRIDES, TEMPERATURE = (8, 4, 2), 0.02
# Standard deviation of the flow's smoothing: 8 pixels in the end, more while the cells are coarser.
SMOOTHING, SMOOTHING_CELLS = 8.0, 4
# Shares of the longer side beyond which the homography and the flow no longer describe the same face.
FURTHEST_HOMOGRAPHY, FURTHEST_FLOW = 0.08, 0.04
# A warp resamples, and resampling alone blurs: agreement is read from a band that it leaves alone.
FINE_BAND, COARSE_BAND = 1.5, 12.0
# The share of the disagreement that a warp has to remove.
LEAST_GAIN = 0.1
# Mean displacement in pixels; smaller displacements are not worth the blur of resampling.
LEAST_SHIFT = 0.25
# Below it, two pictures show different content, however they are warped.
LEAST_AGREEMENT = 0.5


@dataclass(frozen=True)
class Networks:
    """RANSAC-Flow's coarse and fine stage, on one device: ``models/ransacflow`` has them."""

    coarse: nn.Module
    fine: nn.Module


@dataclass(frozen=True)
class Warp:
    """PR_WARP: where each pixel of the target finds its match in the source.

    homography: float64 ``[3, 3]``, target to source pixels; flow: ``[2, H, W]`` (x, y) in pixels, the whole way from a
    target pixel to its source, homography included; confidence: ``[1, H, W]`` in 0..1; agreement: normalized
    cross-correlation before and after, -1..1; reason: why the warp is the identity, or empty.
    """

    homography: np.ndarray
    flow: Tensor
    confidence: Tensor
    agreement: tuple[float, float]
    reason: str = ""

    def apply(self, picture: Tensor) -> Tensor:
        """A picture ``[C, H, W]`` in the source's frame, brought to the target's; the identity gives it back as it is."""
        return picture if self.reason else _sample(picture, self.flow, "bicubic").clamp(picture.min(), picture.max())


@torch.no_grad()
def fine_align(
    source: Tensor, target: Tensor, valid: Tensor | None = None, networks: Networks | None = None, seed: int = 0
) -> Warp:
    """The warp that brings ``source`` onto ``target``, both ``[3, H, W]`` in 0..1 and aligned but for a few pixels.

    valid: ``[1, H, W]`` in 0..1, where the source shows something. The same seed gives the same warp.
    """
    height, width = target.shape[-2:]
    ratio = SIDE / max(height, width)
    size = tuple(max(COARSE_STRIDE, round(side * ratio / COARSE_STRIDE) * COARSE_STRIDE) for side in (height, width))
    known = torch.ones_like(target[:1]) if valid is None else valid
    there, here, known = (_resize(picture.float(), size) for picture in (source, target, known))

    still = torch.zeros(2, *size, device=here.device)
    coarse = match_patches(there, here, known, seed) if networks is None else match_cells(there, here, networks, seed)
    inliers = int(coarse.inliers.sum())
    if inliers < FEWEST_INLIERS:
        agreement = _agreement(there, here, known)
        return _identity(target, (agreement, agreement), f"only {inliers} points match")

    moved = displacement(coarse.matrix, size).to(still)
    homography, best = coarse.matrix, moved
    if moved.norm(dim=0).max() > FURTHEST_HOMOGRAPHY * SIDE or not improves(there, here, known, still, moved):
        homography, best = np.eye(3), still
    flow, confidence = fine_flow(_sample(there, best), here, _sample(known, best), networks)
    bent = compose(best, flow)
    if improves(there, here, known, best, bent):
        best = bent
    before, after = agreements(there, here, known, still, best)
    if best.norm(dim=0).mean() < LEAST_SHIFT * ratio:
        return _identity(target, (before, before), "no warp improves the match")
    if after < LEAST_AGREEMENT:
        return _identity(target, (before, before), "they do not show the same content")
    scale = np.array([width / size[1], height / size[0]])
    to_full = enlargement(*scale)
    matrix = to_full @ homography @ np.linalg.inv(to_full)
    enlarged = _resize(best, (height, width)) * best.new_tensor(scale)[:, None, None]
    return Warp(matrix / matrix[2, 2], enlarged, _resize(confidence, (height, width)), (before, after))


def match_patches(source: Tensor, target: Tensor, valid: Tensor, seed: int) -> Homography:
    """Target to source pixels, from corners of the target whose patches the source shows nearby.

    Corners: Shi and Tomasi 1994; patches: normalized cross-correlation, its peak refined by a parabola.
    """
    there, here = (luma(picture)[0].cpu().numpy() for picture in (source, target))
    # A patch that looks beyond the crop would match its border.
    usable = cv2.erode((valid[0].cpu().numpy() > 0.99).astype(np.uint8), np.ones((2 * PATCH + 1, 2 * PATCH + 1)))
    usable[:PATCH], usable[-PATCH:], usable[:, :PATCH], usable[:, -PATCH:] = 0, 0, 0, 0
    corners = cv2.goodFeaturesToTrack(here, CORNERS, CORNER_QUALITY, CORNER_DISTANCE, mask=usable, blockSize=7)
    start, end = [], []
    for x, y in [] if corners is None else corners[:, 0].round().astype(int):
        patch = here[y - PATCH : y + PATCH + 1, x - PATCH : x + PATCH + 1]
        left, top = max(x - PATCH - SEARCH, 0), max(y - PATCH - SEARCH, 0)
        area = there[top : y + PATCH + SEARCH + 1, left : x + PATCH + SEARCH + 1]
        peak = _peak(cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED))
        if peak is not None:
            start.append((x, y))
            end.append((left + PATCH + peak[0], top + PATCH + peak[1]))
    before, after = (np.array(side, np.float64).reshape(-1, 2) for side in (start, end))
    return ransac_homography(before, after, PATCH_TOLERANCE, seed)


def _peak(response: np.ndarray) -> tuple[float, float] | None:
    """The maximum (x, y) to a fraction of a pixel; None if it is weak or at the rim, so perhaps beyond it."""
    _, value, _, (x, y) = cv2.minMaxLoc(response)
    if value < LEAST_CORRELATION or not (0 < x < response.shape[1] - 1 and 0 < y < response.shape[0] - 1):
        return None

    def shift(before: float, after: float) -> float:
        return (before - after) / (2 * (before - 2 * value + after) - 1e-12)

    return x + shift(response[y, x - 1], response[y, x + 1]), y + shift(response[y - 1, x], response[y + 1, x])


def match_cells(source: Tensor, target: Tensor, networks: Networks, seed: int) -> Homography:
    """Target to source pixels, from mutual nearest neighbors among the coarse features, the source at seven scales."""
    device = next(networks.coarse.parameters()).device
    size = target.shape[-2:]
    there, places = [], []
    for scale in SCALES:
        scaled = [max(COARSE_STRIDE, round(side * scale) // COARSE_STRIDE * COARSE_STRIDE) for side in size]
        features = networks.coarse(_resize(source, tuple(scaled))[None].to(device))[0]
        there.append(features.flatten(1))
        places.append(_cell_centres(features.shape[-2:], size))
    here = networks.coarse(target[None].to(device))[0]
    likeness = here.flatten(1).T @ torch.cat(there, 1)
    forward, backward = likeness.argmax(1).cpu(), likeness.argmax(0).cpu()
    mutual = torch.nonzero(backward[forward] == torch.arange(len(forward)))[:, 0]
    start = _cell_centres(here.shape[-2:], size)[mutual.numpy()]
    return ransac_homography(start, np.concatenate(places)[forward[mutual].numpy()], CELL_TOLERANCE, seed)


def _cell_centres(cells: Size, size: Size) -> np.ndarray:
    """``[h * w, 2]`` pixels of a picture of ``size`` (H, W) that is divided into ``cells`` (h, w)."""
    y, x = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in zip(cells, size, strict=True))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def fine_flow(source: Tensor, target: Tensor, valid: Tensor, networks: Networks | None) -> tuple[Tensor, Tensor]:
    """Flow ``[2, H, W]`` in pixels, target to source, smooth and at most 4 % of the side long; confidence ``[1, H, W]``."""
    height, width = target.shape[-2:]
    furthest = FURTHEST_FLOW * SIDE
    if networks is not None:
        device = next(networks.fine.parameters()).device
        flow, match = (part[0].to(target) for part in networks.fine(source[None].to(device), target[None].to(device)))
        flow = flow * flow.new_tensor([width / 2, height / 2])[:, None, None]
        weight = _resize(match, (height, width)) * valid
        return smooth_flow(_resize(flow, (height, width)), weight, SMOOTHING).clamp(-furthest, furthest), weight
    flow = torch.zeros(2, height, width, device=target.device)
    for stride in STRIDES:
        step, weight = gradient_flow(_sample(source, flow), target, stride)
        weight = weight * _sample(valid, flow)
        flow = smooth_flow(compose(flow, step), weight, SMOOTHING_CELLS * stride).clamp(-furthest, furthest)
    return flow, weight


def gradient_flow(source: Tensor, target: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """One level of the weight-free flow: up to three cells of ``stride`` pixels each way.

    The correlations are those of 5x5 cells of luma gradients, of unit length. Returns the flow ``[2, H, W]`` in pixels and
    the confidence ``[1, H, W]`` in 0..1: the highest correlation, where there is any structure to correlate.
    """
    size = target.shape[-2:]
    (there, _), (here, structure) = (_gradient_patches(picture, stride) for picture in (source, target))
    correlation = local_correlation(here, there)
    flow = expected_offset(correlation / TEMPERATURE)[0] * stride
    confidence = correlation[0].amax(0, keepdim=True).clamp(0, 1) * structure / (structure + structure.mean() + 1e-6)
    return _resize(flow, size), _resize(confidence, size)


def _gradient_patches(picture: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Unit vectors ``[1, 50, h, w]`` and their lengths before, ``[1, h, w]``."""
    # Blurred by half a cell, or shifts by a part of one alias.
    light = F.pad(_blur(luma(picture), stride / 2)[None], (1, 1, 1, 1), "replicate")
    across, down = light[..., 1:-1, 2:] - light[..., 1:-1, :-2], light[..., 2:, 1:-1] - light[..., :-2, 1:-1]
    cells = F.avg_pool2d(torch.cat([across, down], 1), stride)
    patches = F.unfold(F.pad(cells, (2, 2, 2, 2)), 5).unflatten(2, cells.shape[-2:])
    length = patches.norm(dim=1)
    return patches / (length + 1e-4), length


def smooth_flow(flow: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """A Gaussian mean of the flow ``[2, H, W]`` in which each pixel counts as ``weight`` ``[1, H, W]`` says."""
    mean = _blur(torch.cat([flow * weight, weight]), sigma)
    return mean[:2] / (mean[2:] + 1e-6)


def displacement(matrix: np.ndarray, size: Size) -> Tensor:
    """``[2, H, W]``: how far a homography ``[3, 3]`` moves each pixel of a picture of ``size`` (H, W)."""
    grid = _cell_centres(size, size)
    return torch.from_numpy((transform(matrix, grid) - grid).T.reshape(2, *size)).float()


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The displacement of a picture that ``first`` warped and ``then`` warps again, so that it is resampled once."""
    return then + _sample(first, then)


def improves(source: Tensor, target: Tensor, valid: Tensor, before: Tensor, after: Tensor) -> bool:
    """Whether displacement ``after`` removes at least a tenth of the disagreement that ``before`` leaves."""
    old, new = agreements(source, target, valid, before, after)
    return 1 - new < (1 - LEAST_GAIN) * (1 - old)


def agreements(source: Tensor, target: Tensor, valid: Tensor, before: Tensor, after: Tensor) -> tuple[float, float]:
    """Normalized cross-correlations under two displacements ``[2, H, W]``, over the region that both of them fill."""
    filled = torch.minimum(_sample(valid, before), _sample(valid, after))
    old, new = (_agreement(_sample(source, flow), target, filled) for flow in (before, after))
    return old, new


def _agreement(a: Tensor, b: Tensor, weight: Tensor) -> float:
    """The correlation of the luma's middle frequencies, weighted; 0 where there is nothing to correlate."""
    a, b = (_middle_band(luma(picture)) for picture in (a, b))
    covariance, first, second = ((weight * product).sum() for product in (a * b, a * a, b * b))
    return float(covariance / (first * second).sqrt().clamp(min=1e-8))


def _middle_band(light: Tensor) -> Tensor:
    return _blur(light, FINE_BAND) - _blur(light, COARSE_BAND)


def _blur(picture: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of ``[C, H, W]``; the border repeats."""
    from kornia.filters import gaussian_blur2d  # takes a while to import

    size = 2 * int(3 * sigma) + 1
    return gaussian_blur2d(picture[None], (size, size), (sigma, sigma), border_type="replicate")[0]


def _sample(picture: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """``[C, H, W]`` read at every pixel's displacement ``[2, H, W]`` in pixels; the border repeats."""
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([x, y]).to(flow) + flow
    grid = (2 * place + 1) / flow.new_tensor([width, height])[:, None, None] - 1
    return F.grid_sample(
        picture[None], grid.permute(1, 2, 0)[None].to(picture), mode, padding_mode="border", align_corners=False
    )[0]


def _identity(target: Tensor, agreement: tuple[float, float], reason: str) -> Warp:
    still = torch.zeros(2, *target.shape[-2:], device=target.device)
    return Warp(np.eye(3), still, still[:1], agreement, reason)


def _resize(picture: Tensor, size: Size) -> Tensor:
    return F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]

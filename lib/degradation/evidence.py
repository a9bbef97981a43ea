"""What a photograph says for and against its restoration.

The restoration is damaged again, as the photograph was, and compared with it. Where the difference exceeds what noise, JPEG and an
imprecise estimate of the damage explain, the photograph contradicts the restoration. Detail at frequencies that did not survive the damage
cannot be contradicted: there the photograph is silent, and the detail invented. Everything else is supported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..pictures.color import luma
from ..vocabulary import UserError
from .survival import GUESS, disturbance, mirror_filtered, transfer

# Standard deviations of the windows in which a difference adds up, in pixels of the photograph.
WINDOWS = (1.0, 2.0, 4.0)
# By what share of the local contrast the estimated damage may be off.
IMPRECISION = 0.15
# A place is contradicted from the threshold on, and fully from this many times the threshold on.
FULL = 2.0
# Pulling back asks for this many times the threshold: noise that exceeds it somewhere must not move anything.
CERTAIN = 1.5
# Detail fainter than this, in 0..1, is no detail. Standard deviations of the window in which it is measured and of what is no detail but
# shading, in pixels of the photograph.
FAINT, DETAIL_WINDOW, BROAD = 0.01, 3.0, 8.0

Scalars = Mapping[str, float]


@dataclass(frozen=True)
class Zone:
    """Damage as it was read at one place. at: (x, y) in pixels of the photograph; scalars: see ``DegradationCode``."""

    at: tuple[float, float]
    scalars: Scalars


@dataclass(frozen=True)
class Evidence:
    """contradicted, silent: ``[h, w]`` in 0..1, in the size of the result; what is left of both is supported. deviation: ``[H, W]``, in the
    photograph's size: the difference in multiples of what was to be expected."""

    contradicted: Tensor
    silent: Tensor
    deviation: Tensor

    @property
    def supported(self) -> Tensor:
        return (1 - self.contradicted) * (1 - self.silent)


def evidence(
    result: Tensor, photo: Tensor, damage: Scalars | Sequence[Zone] | None, threshold: float = 4.0
) -> Evidence:
    """What ``photo`` ``[3, H, W]`` says about ``result`` ``[3, h, w]``, a whole multiple of its size; both in 0..1.

    damage: of the whole photograph; or at several places, between which it is interpolated; None takes a guess of hardly any.
    threshold: from how many times the expected difference on a place is contradicted. Raises UserError for sizes that do not fit.
    """
    factor = _factor(result, photo)
    zones = _zones(damage)
    deviation = _deviation(luma(result), luma(photo), zones)
    against = _contradicted(deviation, threshold, factor)
    silent = _silent(result, zones, factor)
    return Evidence(against, silent * (1 - against), deviation)


def pulled_back(
    result: Tensor,
    photo: Tensor,
    damage: Scalars | Sequence[Zone] | None,
    strength: float = 1.0,
    threshold: float = 4.0,
) -> Tensor:
    """The result ``[3, h, w]`` moved toward the photograph where that contradicts it, by as much as survived; elsewhere unchanged.

    One step of back projection (Irani and Peleg 1991) with Wiener's filter, for a difference with as much power as exceeds the noise;
    more steps would bring in the noise. See ``evidence`` for the rest.
    """
    factor, zones = _factor(result, photo), _zones(damage)
    against = _contradicted(_deviation(luma(result), luma(photo), zones), CERTAIN * threshold, factor)
    if not against.any():
        return result
    weight = _widened(F.interpolate(against[None, None], photo.shape[-2:], mode="area")[0])
    missing = photo - _predicted(result, photo, zones)
    power = float((luma(missing)[0].square() * weight).sum() / weight.sum())
    changes = []
    for zone in zones:
        excess = power - _noise(zone.scalars) ** 2
        if excess < power / 3:  # mostly noise: moving toward it would gain nothing
            changes.append(torch.zeros_like(missing))
            continue
        passed, _, ratio = _survived(missing, zone.scalars, 1.0, excess)
        changes.append(mirror_filtered(missing, passed / (passed**2 + ratio)))
    change = _weighted(changes, zones) * weight
    if factor > 1:
        change = F.interpolate(change[None], result.shape[-2:], mode="bicubic")[0]
    return torch.where(change == 0, result, (result + strength * change).clamp(0, 1))


def _contradicted(deviation: Tensor, threshold: float, factor: int) -> Tensor:
    """``[H, W]`` to ``[h, w]`` in 0..1."""
    against = ((deviation / threshold - 1) / (FULL - 1)).clamp(0, 1)
    size = [factor * side for side in against.shape]
    return against if factor == 1 else F.interpolate(against[None, None], size, mode="bilinear")[0, 0]


def _factor(result: Tensor, photo: Tensor) -> int:
    (h, w), (height, width) = result.shape[-2:], photo.shape[-2:]
    factor = round(w / width)
    if factor < 1 or (height * factor, width * factor) != (h, w):
        raise UserError(
            f"Evidence: the result is {w}x{h}, but the photograph is {width}x{height}; the result must be a whole multiple of it. "
            "Connect the photograph that was restored."
        )
    return factor


def _zones(damage: Scalars | Sequence[Zone] | None) -> Sequence[Zone]:
    if damage is None:
        return [Zone((0, 0), GUESS)]
    return [Zone((0, 0), damage)] if isinstance(damage, Mapping) else damage


def _weighted(pictures: Sequence[Tensor], zones: Sequence[Zone]) -> Tensor:
    """One picture ``[..., H, W]`` per zone to one of all, each zone counting as the inverse square of its distance says."""
    if len(pictures) == 1:
        return pictures[0]
    height, width = pictures[0].shape[-2:]
    y, x = torch.arange(height)[:, None], torch.arange(width)[None]
    near = (width + height) / 100
    weights = torch.stack([1 / ((x - zone.at[0]) ** 2 + (y - zone.at[1]) ** 2 + near**2) for zone in zones])
    weights = weights / weights.sum(0)
    return sum((weight * picture for weight, picture in zip(weights, pictures, strict=True)), torch.zeros(()))


def _deviation(result: Tensor, photo: Tensor, zones: Sequence[Zone]) -> Tensor:
    """``[H, W]``: the largest difference over the windows, in multiples of what was to be expected there. Of lumas ``[1, H, W]``."""
    light = _predicted(result, photo, zones)[0]
    difference = photo[0] - light
    noise = _weighted([torch.full(difference.shape, _noise(zone.scalars)) for zone in zones], zones)
    contrast = _blurred((light - _blurred(light, 2.0)).square(), 2.0).sqrt() * IMPRECISION
    # What the picture as a whole disagrees by, such as a change of tone, is no detail.
    difference = difference - _blurred(difference, 0.05 * max(difference.shape))
    largest = torch.zeros_like(difference)
    for window in WINDOWS:
        seen = _blurred(difference, window).abs()
        # White noise in a Gaussian window; an error of the estimate does not average out.
        expected = (noise.square() / (4 * math.pi * window**2) + contrast.square()).sqrt()
        usual = float(1.4826 * seen.median())
        largest = torch.maximum(largest, seen / expected.clamp(min=max(usual, 1e-3)))
    return largest


def _noise(scalars: Scalars) -> float:
    """Standard deviation of noise and of JPEG's rounding in 0..1, of luma."""
    axis = torch.linspace(0.02, 0.3, 15)
    return float(disturbance(scalars, axis[None], axis[:, None]).mean().sqrt())


def _predicted(result: Tensor, photo: Tensor, zones: Sequence[Zone]) -> Tensor:
    """The photograph ``[C, H, W]`` as it would look if the result were what was taken, without noise."""
    small = result if result.shape == photo.shape else F.interpolate(result[None], photo.shape[-2:], mode="area")[0]
    return _weighted([mirror_filtered(small, _passed(small, zone.scalars)) for zone in zones], zones)


def _frequencies(picture: Tensor, pixel: float = 1.0) -> tuple[Tensor, Tensor]:
    """Cycles per pixel of the photograph, for ``mirror_filtered``. pixel: of the picture, per pixel of the photograph."""
    height, width = picture.shape[-2:]
    return torch.fft.rfftfreq(2 * width)[None] * pixel, torch.fft.fftfreq(2 * height)[:, None] * pixel


def _passed(picture: Tensor, scalars: Scalars) -> Tensor:
    fx, fy = _frequencies(picture)
    return transfer(scalars, *torch.broadcast_tensors(fx, fy))


def _survived(picture: Tensor, scalars: Scalars, pixel: float, variance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of every frequency the share that passed, Wiener's share that survived, and noise over signal; see ``mirror_filtered``.

    Natural pictures have power that falls with the square of the frequency; how much they have, ``variance`` says.
    """
    fx, fy = torch.broadcast_tensors(*_frequencies(picture, pixel))
    radius = torch.hypot(fx, fy).clamp(min=1 / (2 * max(picture.shape[-2:])))
    power = radius**-2.0
    power = power * variance / float(power[radius <= 0.5].mean())
    ratio = disturbance(scalars, fx, fy) / power
    passed = transfer(scalars, fx, fy) * (torch.maximum(fx.abs(), fy.abs()) <= 0.5)
    return passed, passed**2 / (passed**2 + ratio), ratio


def _silent(result: Tensor, zones: Sequence[Zone], factor: int) -> Tensor:
    """``[h, w]`` in 0..1: how much of the result's local detail lies at frequencies that did not survive."""
    light = luma(result)
    parts = []
    for zone in zones:
        kept = mirror_filtered(light, _survived(light, zone.scalars, factor, float(light.var(correction=0)))[1])[0]
        lost = _blurred((light[0] - kept).square(), DETAIL_WINDOW * factor)
        shown = _blurred((kept - _blurred(kept, BROAD * factor)).square(), DETAIL_WINDOW * factor)
        parts.append(lost / (lost + shown + FAINT**2))
    small = parts if len(parts) == 1 else [F.avg_pool2d(part[None], factor) for part in parts]
    mixed = _weighted(small, zones)
    return mixed if len(parts) == 1 else F.interpolate(mixed[None], light.shape[-2:], mode="bilinear")[0, 0]


def _blurred(plane: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(
        cv2.GaussianBlur(np.ascontiguousarray(plane.numpy()), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    )


def _widened(mask: Tensor) -> Tensor:
    """``[1, H, W]``: the surroundings of what is marked, fading out."""
    return _blurred(F.max_pool2d(mask[None], 5, 1, 2)[0, 0], 1.5)[None]

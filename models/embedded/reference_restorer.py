"""A reference face restorer that needs no weights: fine detail from the album, only where album and face agree.

The best-matching reference is aligned to the face by optical flow. Band by band, from coarse to fine, detail of the reference
replaces that of the face as far as the two correlate in the bands that survive damage. Low frequencies and colors stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ...lib.fusion.mask import face_mask
from ...lib.pictures.color import luma
from ...lib.pictures.pyramid import collapse, laplacian_pyramid
from ...lib.vocabulary import Conditions

LEVELS = 6
FINE = 3  # how many of the finest bands may be replaced; the next two are where agreement is measured
WINDOW = 7  # pixels of the coarsest measured band, standard deviation of the window of agreement


@dataclass(frozen=True)
class ReferenceRestorer:
    """agreement: minimum local correlation of face and reference, 0..1, for detail to be transferred."""

    agreement: float = 0.85
    name: str = "reference detail"
    native_size: int | None = 512
    scale: int = 1
    tileable: bool = False
    needs_references: bool = True

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, 512, 512]`` aligned crops to the same. If no reference agrees, a crop is returned unchanged."""
        references = torch.stack([reference.crop for reference in conditions.references])
        out = [self._restore(crop, references.to(image)) for crop in image]
        conditions.progress(1, 1)
        return torch.stack(out)

    def _restore(self, crop: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        reference = best_match(crop, torch.cat([references, references.flip(-1)]))
        aligned = lay_over(crop, reference)
        return transfer_detail(crop, aligned, self.agreement)


def best_match(crop: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """The reference ``[3, S, S]`` whose features lie most like the crop's; both are aligned to the template.

    Compared in the middle frequencies inside the face: coarser ones tell the lighting, finer ones do not survive damage.
    """
    weight = F.interpolate(face_mask(crop.shape[-1])[None].to(crop), (64, 64), mode="area")

    def band(x):
        return laplacian_pyramid(F.interpolate(luma(x), (64, 64), mode="area"), 4)

    ours, theirs = (
        torch.cat([F.interpolate(b, (64, 64), mode="bilinear") for b in band(x)[1:3]], 1)
        for x in (crop[None], references)
    )
    agreement = (weight * ours * theirs).sum((1, 2, 3)) / ((weight * theirs**2).sum((1, 2, 3)) + 1e-8).sqrt()
    return references[int(agreement.argmax())]


def lay_over(crop: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The reference ``[3, S, S]`` warped onto the crop by dense inverse search flow, smoothed so that it cannot tear."""
    fixed, moving = (_flow_picture(x) for x in (crop, reference))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = cv2.GaussianBlur(search.calc(fixed, moving, None), (0, 0), crop.shape[-1] / 64)
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    picture = reference.permute(1, 2, 0).cpu().numpy()
    warped = cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(warped).permute(2, 0, 1).to(crop).clamp(0, 1)


def _flow_picture(image: torch.Tensor) -> np.ndarray:
    """uint8 luminance without lighting and without what damage destroys: local contrast of the middle frequencies."""
    light = luma(image)[0].cpu().numpy()
    size = light.shape[0]
    smooth, lighting = (cv2.GaussianBlur(light, (0, 0), size / divisor) for divisor in (200, 16))
    detail = smooth - lighting
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), size / 16)) + 0.02
    return np.clip(detail / contrast * 40 + 128, 0, 255).astype(np.uint8)


def transfer_detail(crop: torch.Tensor, reference: torch.Tensor, agreement: float) -> torch.Tensor:
    """Fine bands of the aligned reference into the crop, by local agreement in the next coarser bands. ``[3, S, S]``."""
    ours, theirs = laplacian_pyramid(crop, LEVELS), laplacian_pyramid(reference, LEVELS)
    correlation, gain = _agreement(luma(ours[FINE]), luma(theirs[FINE]))
    coarser, _ = _agreement(luma(ours[FINE + 1]), luma(theirs[FINE + 1]))
    coarser = F.interpolate(coarser[None], correlation.shape[-2:], mode="bilinear")[0]
    trust = ((torch.minimum(correlation, coarser) - agreement) / (1 - agreement)).clamp(0, 1)
    for level in range(FINE):
        size = ours[level].shape[-2:]
        here, amplitude = (F.interpolate(x[None], size, mode="bilinear")[0] for x in (trust, gain))
        wanted = amplitude * theirs[level]
        ours[level] = ours[level] + here * _missing(ours[level], wanted) * (wanted - ours[level])
    return collapse(ours).clamp(0, 1)


def _missing(band: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The share of the desired local energy that a band lacks, ``[1, h, w]`` in 0..1: detail that the face already has
    is not replaced."""
    own, other = (_window(luma(x).square()) for x in (band, wanted))
    return (1 - own / (other + 1e-8)).clamp(0, 1)


def _window(x: torch.Tensor) -> torch.Tensor:
    """``[1, h, w]`` averaged in a Gaussian window."""
    return torch.from_numpy(cv2.GaussianBlur(x[0].cpu().numpy(), (0, 0), WINDOW))[None].to(x)


def _agreement(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Local correlation of two bands ``[1, h, w]``, and the amplitude of a for one of b, both in a Gaussian window."""
    aa, bb, ab = _window(a * a), _window(b * b), _window(a * b)
    return ab / (aa * bb + 1e-10).sqrt(), (ab / (bb + 1e-6)).clamp(0.3, 1.5)

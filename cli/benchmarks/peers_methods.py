"""The ways to restore a photograph that ``run.py bench peers`` compares, each run in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ...lib.bridge import keep
from ...lib.extras import require
from ...lib.vocabulary import Conditions
from ...models.embedded import ready
from ...models.embedded.estimate import estimate_code
from ...models.shared.diffusion_restorer import first_stage
from .batch import peak
from .quality import face_window, non_local_means

Picture = NDArray[np.float32]  # [1, 3, H, W] in 0..1
Restore = Callable[[torch.Tensor, float], torch.Tensor]

# Strengths in units of the noise's sigma: the best of .4 to 1.2 on the sample portrait and a Kodak photograph with sigmas 8 and 20.
OPENCV_STRENGTH, SCIKIT_STRENGTH = 0.6, 0.6


@dataclass(frozen=True)
class Measured:
    """pictures: the results; seconds: of processor time for each, without loading; memory: the most bytes that the process took beyond
    what it had before the method was loaded."""

    pictures: list[Picture]
    seconds: list[float]
    memory: float


def run_method(name: str, damaged: Sequence[Picture], sigmas: Sequence[float]) -> Measured:
    """One method on all pictures, on one thread. Raises UserError if what it needs is not installed."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pictures, seconds = [], []
    with peak() as memory, torch.inference_mode():
        restore = restorer_named(name)
        restore(torch.from_numpy(damaged[0][..., :96, :96]), sigmas[0])  # what is loaded late is loaded now
        for picture, sigma in zip(damaged, sigmas, strict=True):
            before = time.process_time()
            pictures.append(restore(torch.from_numpy(picture), sigma).clamp(0, 1).float().numpy())
            seconds.append(time.process_time() - before)
    return Measured(pictures, seconds, memory[0])


def restorer_named(name: str) -> Restore:
    """By its name in `METHODS`, or that of an upscale model. Raises UserError if what it needs is not installed."""
    return METHODS[name]() if name in METHODS else _upscale_model(name)


def _opencv() -> Restore:
    return lambda picture, sigma: non_local_means(picture, OPENCV_STRENGTH * sigma)


def _scikit_image() -> Restore:
    """Non-local means with patches of 5 pixels within 13 x 13, on all colors together."""
    from skimage.restoration import denoise_nl_means

    def restore(picture: torch.Tensor, sigma: float) -> torch.Tensor:
        done = denoise_nl_means(
            *(_rows(picture), 5, 6, SCIKIT_STRENGTH * sigma / 255),
            sigma=sigma / 255,
            fast_mode=True,
            channel_axis=-1,
        )
        return torch.from_numpy(done).permute(2, 0, 1)[None]

    return restore


def _bm3d() -> Restore:
    """BM3D (Dabov et al. 2007; package ``bm3d`` of its authors, not for commercial use) for colors."""
    require("BM3D", "peers")
    import bm3d

    def restore(picture: torch.Tensor, sigma: float) -> torch.Tensor:
        if sigma == 0:
            return picture
        return torch.from_numpy(bm3d.bm3d_rgb(_rows(picture), sigma / 255)).permute(2, 0, 1)[None]

    return restore


def _persona_base() -> Restore:
    """The small diffusion model, on which personas are trained, without a persona and without an album."""
    restorer = ready.diffusion(keep)
    return lambda picture, sigma: restorer.restore(picture, Conditions())


def _blind() -> Restore:
    """The embedded restorer alone."""
    restorer = ready.restorer(keep)
    return lambda picture, sigma: restorer.restore(picture, Conditions())


def _guided() -> Restore:
    """As the workflow face2scene without an album: the damage is read off the face, or the middle where there is none."""
    restorer, extractor = ready.restorer(keep), ready.extractor(keep)()

    def restore(picture: torch.Tensor, sigma: float) -> torch.Tensor:
        first = restorer.restore(picture, Conditions())
        rows, columns = face_window(first)
        pair = torch.cat([first[0, :, rows, columns], picture[0, :, rows, columns]])
        return restorer.restore(picture, Conditions(code=estimate_code(extractor, pair)))

    return restore


def _upscale_model(name: str) -> Restore:
    require("run.py bench peers --models", "upscale")
    from ...models.upscale.build import scene_restorer

    clean = first_stage(scene_restorer(name))
    return lambda picture, sigma: clean(picture)


METHODS: dict[str, Callable[[], Restore]] = {
    "OpenCV non-local means": _opencv,
    "scikit-image non-local means": _scikit_image,
    "BM3D": _bm3d,
    "persona base": _persona_base,
    "ours": _blind,
    "ours, damage read": _guided,
}


def _rows(picture: torch.Tensor) -> Picture:
    """``[H, W, 3]``."""
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy())

"""What a finer grid of tokens is worth for small faces: ``python run.py bench tokens [--photos DIR]``.

A face of 16 px leaves MapNet 2x2 places for its finest grid of 4x4 tokens. With the same weights, dilation in the place of the last
stride gives it 4x4 of its own (the "a trous" algorithm: every place is computed as before, and those between them, too). Pairs are
cut out of photographs damaged by ``trial``; what counts is what their tokens add to the restored photograph.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...lib.degradation.families import FAMILIES
from ...lib.pictures.metrics import psnr
from ...lib.samples import load_photographs
from ...lib.vocabulary import UserError
from ...models.embedded import weights

SIDES, PAIRS = (16, 32, 96), 3  # of a pair, in pixels; pairs for each photograph and side
GRIDS = ("as it is", "finer")


def bench(photos: Path | None, side: int, draws: int) -> dict:
    """PSNR that tokens add to the restoration without them, by side and grid, of own and of true pairs; and what the finer grid adds."""
    if side < 2 * max(SIDES) or draws < 1:
        raise UserError(f"--side must be at least {2 * max(SIDES)} and --draws at least 1.")
    pictures = dict(load_photographs(photos, side))
    extractor = weights.load_embedded(weights.EXTRACTOR)[0]
    extractors = dict(zip(GRIDS, (extractor, finer(extractor)), strict=True))
    restorer = weights.load_embedded(weights.RESTORER)[0]
    rows: list[dict[str, float]] = []
    with torch.inference_mode(), tqdm(total=len(pictures) * draws, unit="photograph") as bar:
        for number, truth in enumerate(pictures.values()):
            for draw in range(draws):
                rows.append(_gains(truth, 1000 * number + draw, extractors, restorer))
                bar.update()
    return {
        "photographs": len(pictures),
        "draws": draws,
        "gains": {key: _mean([row[key] for row in rows]) for key in rows[0]},
    }


def finer(extractor: weights.Extractor) -> weights.Extractor:
    """The same weights with twice as many places along each side of Z and of MapNet's grid."""
    dense = copy.deepcopy(extractor)
    before, after = [layer for layer in dense.fadex.E if isinstance(layer, torch.nn.Conv2d)][-2:]
    before.stride = (1, 1)
    for layer in (after, dense.mapnet.embed):
        layer.dilation = layer.padding = (2, 2)
    return dense


def _gains(
    truth: torch.Tensor, seed: int, extractors: dict[str, weights.Extractor], restorer: torch.nn.Module
) -> dict[str, float]:
    """Of one damaged photograph ``[1, 3, H, W]``."""
    damaged = FAMILIES["trial"](seed).apply(truth)
    blind = restorer(damaged).clamp(0, 1)
    without, rng, gains = psnr(blind, truth), np.random.default_rng(seed), {}
    for side in SIDES:
        corners = [[rng.integers(0, length - side + 1) for length in truth.shape[-2:]] for _ in range(PAIRS)]
        for kind, high in (("own", blind), ("true", truth)):
            for grid, extractor in extractors.items():
                pairs = [torch.cat([high, damaged], 1)[..., y : y + side, x : x + side] for y, x in corners]
                guided = [restorer(damaged, extractor.mapnet(extractor.fadex(pair))).clamp(0, 1) for pair in pairs]
                gains[f"{side} px, {kind} pair, {grid}"] = (
                    float(np.mean([psnr(one, truth) for one in guided])) - without
                )
            fine, now = (gains[f"{side} px, {kind} pair, {grid}"] for grid in reversed(GRIDS))
            gains[f"{side} px, {kind} pair, finer over as it is"] = fine - now
    return gains


def _mean(values: list[float]) -> dict[str, float]:
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return {"mean": round(float(np.mean(values)), 4), "error": round(error, 4)}


def table(figures: dict) -> str:
    lines = [f"{figures['photographs']} photographs, draws {figures['draws']}: dB over the restoration without tokens"]
    return "\n".join(
        [*lines, *(f"{key:40}{one['mean']:+8.3f} +- {one['error']:.3f}" for key, one in figures["gains"].items())]
    )

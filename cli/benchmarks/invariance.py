"""Whether the code identifies the damage and not the picture: retrieval of the operator, and figure 3 of Face2Scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ...lib.bridge import device, keep
from ...lib.degradation.families import FAMILIES
from ...lib.degradation.presets import PRESETS
from ...lib.degradation.recipe import Recipe
from ...lib.degradation.similarity import code_similarities
from ...lib.vocabulary import UserError
from ...models.embedded import ready as embedded

DRAWS, CROP, MARGIN = 64, 128, 16


def pair_embeddings(crops: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Unit vectors ``[N, C]`` of the pairs that a recipe makes of crops ``[N, 3, 160, 160]``, each with noise of its own."""
    fadex = embedded.extractor(keep)().fadex
    pairs = torch.cat([crops, recipe.apply(crops)], 1)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]  # no border effect
    with torch.inference_mode():
        return F.normalize(fadex.project(fadex(pairs.to(device()))), dim=1).cpu()


def crops(pictures: list[torch.Tensor], seed: int) -> torch.Tensor:
    """Disjoint crops ``[N, 3, 160, 160]`` of all pictures, shuffled, without the flattest quarter: a patch of sky shows
    no blur."""
    side = CROP + 2 * MARGIN
    cells = [
        picture[..., top : top + side, left : left + side]
        for picture in pictures
        for top in range(0, picture.shape[-2] - side + 1, side)
        for left in range(0, picture.shape[-1] - side + 1, side)
    ]
    if len(cells) < 2:
        raise UserError(f"The photographs are too small for two separate crops of {side} px. Use larger ones.")
    lively = sorted(cells, key=lambda cell: -float(cell.diff(dim=-1).abs().mean()))[: max(2, len(cells) * 3 // 4)]
    return torch.cat([lively[i] for i in np.random.default_rng(seed).permutation(len(lively))])


def retrieval(pictures: list[torch.Tensor]) -> dict[str, float]:
    """Top-1 share of 64 draws: each on one crop finds itself among all of them on other crops, no crop on both sides."""
    cells = crops(pictures, 0)
    half = len(cells) // 2
    out = {}
    for family in ("trial", "s3diff"):
        codes = torch.stack(
            [pair_embeddings(cells[[i % half, half + i % half]], FAMILIES[family](9000 + i)) for i in range(DRAWS)]
        )
        found = (codes[:, 0] @ codes[:, 1].T).argmax(1)
        out[family] = float((found == torch.arange(DRAWS)).float().mean())
    return out


def figure(pictures: list[torch.Tensor], target: Path) -> dict[str, float]:
    """Mean cosine of two pictures under the same of d1..d4, and of one picture under two of them; drawn as histograms."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen = crops(pictures, 0)[:10]
    codes = torch.stack([pair_embeddings(chosen, draw(0)) for draw in PRESETS.values()])  # [4, N, C]
    found = code_similarities(codes)
    same, different = found.same.flatten().tolist(), found.across.flatten().tolist()
    plot, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    bins = np.linspace(-1, 1, 41)
    axes.hist(same, bins, alpha=0.6, density=True, label="two pictures, one degradation")
    axes.hist(different, bins, alpha=0.6, density=True, label="one picture, two degradations")
    axes.set(xlabel="cosine of the codes", yticks=[])
    axes.legend()
    plot.savefig(target, dpi=120)
    pyplot.close(plot)
    return {
        "same_degradation": round(float(np.mean(same)), 3),
        "same_picture": round(float(np.mean(different)), 3),
    }

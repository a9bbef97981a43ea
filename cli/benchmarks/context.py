"""PerFuSe's figure S1: what surrounds a face before its pyramid is built. ``python run.py bench context``.

A flat gray scene and the sample portrait are blended with themselves, so that whatever changes is an error of the blend.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ...lib.fusion.blend import CONTEXTS, Patch, blend_faces
from ...lib.pictures.files import to_pil
from ...lib.samples import photograph

BOX = (150, 30, 300, 200)  # of the portrait: the face
FLAT = 0.5


def bench(target: Path) -> dict:
    """For each context and scene: the darkest change, how many pixels of it lie outside the mask, and how far out; writes
    ``context.png``, the portrait above and the flat scene below, errors four times as strong."""
    target.mkdir(parents=True, exist_ok=True)
    scenes = {"portrait": photograph()[0], "flat": torch.full((3, 256, 384), FLAT)}
    blends = {name: {context: blend(scene, context) for context in CONTEXTS} for name, scene in scenes.items()}
    rows = [
        np.hstack([with_surroundings(scenes[name], blends[name][context]) for context in CONTEXTS]) for name in scenes
    ]
    Image.fromarray(np.vstack(rows)).save(target / "context.png")
    return {name: {context: band(scenes[name], out) for context, out in outs.items()} for name, outs in blends.items()}


def blend(scene: torch.Tensor, context: str) -> torch.Tensor:
    """The scene ``[3, H, W]`` with its own box blended into it; "lq" is a coarser version of it."""
    x0, y0, x1, y1 = BOX
    inside = torch.ones(1, y1 - y0, x1 - x0)
    small = F.interpolate(scene[None], scale_factor=0.25, mode="area")
    coarse = F.interpolate(small, scene.shape[-2:], mode="bicubic")[0].clamp(0, 1)
    return blend_faces(scene, [Patch(scene[:, y0:y1, x0:x1], inside, inside, BOX)], context, reference=coarse)


def band(scene: torch.Tensor, out: torch.Tensor) -> dict[str, float]:
    change = (out - scene).mean(0)
    outside = torch.ones_like(change, dtype=torch.bool)
    x0, y0, x1, y1 = BOX
    outside[y0:y1, x0:x1] = False
    dark = (change < -1 / 255) & outside
    y, x = torch.nonzero(dark, as_tuple=True)
    reach = torch.stack([x0 - x, x - x1 + 1, y0 - y, y - y1 + 1]).amax(0) if len(x) else torch.zeros(1)
    return {
        "darkest": round(float(change[outside].min()), 4),
        "largest error": round(float((out - scene).abs().max()), 6),
        "dark pixels outside": int(dark.sum()),
        "band": int(reach.max()),
    }


def with_surroundings(scene: torch.Tensor, out: torch.Tensor) -> np.ndarray:
    """The surroundings of the box, the errors four times as strong."""
    x0, y0, x1, y1 = BOX
    place = np.s_[:, max(y0 - 30, 0) : y1 + 30, x0 - 30 : x1 + 30]
    return np.asarray(to_pil((scene + 4 * (out - scene))[place]))


def table(figures: dict) -> str:
    """The human-readable table."""
    names = next(iter(figures["flat"].values()))
    lines = [f"{'scene':10}{'context':10}" + "".join(f"{name:>22}" for name in names)]
    for scene, contexts in figures.items():
        for context, values in contexts.items():
            lines.append(f"{scene:10}{context:10}" + "".join(f"{value:22}" for value in values.values()))
    return "\n".join([*lines, "Changes of 0..1, band in pixels beyond the mask; the truth is no change at all."])

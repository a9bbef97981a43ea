"""Damage of old photographs found, filled and its colors undone: ``python run.py bench old [--photos DIR] [--real DIR]``.

Undamaged photographs are damaged by the family ``old_photo`` under fixed seeds; nothing here was seen in training. The truth of a filled
photograph is the same print without its local damage: the same grain, fading and scan.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ...lib.bridge import keep
from ...lib.degradation.layers import LAYERS
from ...lib.degradation.old_photo import draw_old_photo, local_damage
from ...lib.degradation.recipe import Recipe, Step
from ...lib.pictures.files import from_pil, to_pil
from ...lib.pictures.metrics import psnr, psnr_where, ssim_where
from ...lib.samples import load_photographs
from ...lib.vocabulary import UserError
from ...models.old_photo import ready
from ...models.old_photo.apply import THRESHOLD, fill_damage, find_damage, mask_of
from ...models.old_photo.colors import estimate_fading, undo_fading
from .keep import mean_of
from .old_sheets import mixed_page, row_of, sheet_of

Mask = NDArray[np.bool_]

NEAR = 2  # pixels by which a found place may lie beside the true one
DAMAGED = 0.3  # from which share of a replaced pixel on it counts as damaged
GROW = 2  # pixels by which a true mask is widened before filling: the scan has blurred the damage
HEAVINESS = 0.3, 0.9
RADIUS = 5  # OpenCV's neighborhood, of the size of the damage
MOST_SHOWN = 6


@dataclass(frozen=True)
class Drawn:
    """A damaged photograph. print, damaged: ``[1, 3, H, W]`` without and with local damage; damage: ``[H, W]`` in 0..1."""

    print: torch.Tensor
    damaged: torch.Tensor
    damage: NDArray[np.float32]


def bench(photos: Path | None, target: Path, *, real: Path | None = None, side: int = 768, draws: int = 1) -> dict:
    """All figures; writes ``old.json``, ``old.png`` (damaged, true mask, found mask, filled, truth) and, with ``real``, ``old_real.png``
    and ``old_page.png`` into ``target``. Raises UserError if there is nothing to measure."""
    if side < 64 or draws < 1:
        raise UserError("--side is at least 64 pixels, and --draws at least 1.")
    pictures = dict(load_photographs(photos, side))
    rows: list[tuple[str, dict[str, float]]] = []
    strips, tiles = [], []
    for name, truth in tqdm(pictures.items(), desc="photographs"):
        rows.append((name, undamaged_figures(truth)))
        for draw in range(draws):
            seed = zlib.crc32(f"{name} {draw}".encode())
            drawn = drawn_damage(truth, seed)
            if not (drawn.damage >= DAMAGED).any():
                continue
            figures, shown = damaged_figures(drawn)
            rows += [(name, figures), (name, faded_figures(truth, seed))]
            strips.append(shown)
            tiles.append(drawn.damaged)
    target.mkdir(parents=True, exist_ok=True)
    written = {"old.png": sheet_of(strips[:MOST_SHOWN])}
    if real:
        scans = dict(load_photographs(real, side))
        written["old_real.png"] = sheet_of([real_strip(scan) for scan in scans.values()])
        written["old_page.png"], order = mixed_page(tiles, list(scans.values()))
    for name, picture in written.items():
        Image.fromarray(picture).save(target / name)
    report = {
        "photographs": len(pictures),
        "longest_side": side,
        "draws": draws,
        "damaged": len(strips),
        "figures": means_over_photographs(rows),
        "mask_of_all_pixels": pooled(figures for _, figures in rows if "pixels_found" in figures),
        "pictures": list(written),
        "page_is_real": order if real else [],
        "rows": [{"photo": name, **values} for name, values in rows],
    }
    (target / "old.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def drawn_damage(truth: torch.Tensor, seed: int) -> Drawn:
    """A photograph ``[1, 3, H, W]`` as an old print, with and without its local damage."""
    rng = np.random.default_rng(seed)
    height, width = truth.shape[-2:]
    steps = draw_old_photo(rng, float(rng.uniform(*HEAVINESS)), height, width)
    intact = tuple(step for step in steps if step.operator not in LAYERS)
    damage = local_damage(steps, height, width)
    return Drawn(Recipe(intact, seed).apply(truth), Recipe(steps, seed).apply(truth), damage)


def damaged_figures(drawn: Drawn) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
    """How well the damage is found and filled, and the row of a sheet."""
    probability = find_damage(drawn.damaged, ready.finder(keep))
    found = mask_of(probability, THRESHOLD, 0)[0, 0].numpy() > 0
    true = drawn.damage >= DAMAGED
    counts = found_counts(true, found)
    figures = {f"mask_{name}": value for name, value in found_figures(counts).items()}
    figures |= {f"pixels_{name}": value for name, value in counts.items()}
    figures["mask_auc"] = mask_auc(probability[0, 0].numpy(), true)
    masks = {"true": widened(drawn.damage > 0.03, GROW), "found": widened(found, GROW)}
    inside = torch.from_numpy(masks["true"])
    results = {"damaged": drawn.damaged}
    for kind, mask in masks.items():
        results |= {f"{method}_{kind}": fill(drawn.damaged, mask) for method, fill in FILLERS.items()}
        untouched = ~torch.from_numpy(mask)
        same = results[f"ours_{kind}"][..., untouched] == drawn.damaged[..., untouched]
        figures[f"untouched_same_{kind}"] = float(same.all())
    for name, result in results.items():
        for place, where in (("inside", inside), ("outside", ~inside)):
            figures[f"psnr_{place}_{name}"] = psnr_where(result[0], drawn.print[0], where)
            figures[f"ssim_{place}_{name}"] = ssim_where(result[0], drawn.print[0], where)
    shown = [drawn.damaged, as_picture(true), as_picture(found), results["ours_found"], drawn.print]
    return figures, row_of(shown)


def _ours(picture: torch.Tensor, mask: Mask) -> torch.Tensor:
    return fill_damage(picture, torch.from_numpy(mask).float()[None, None], 1.0, ready.filler(keep))


def _opencv(method: int) -> Callable[[torch.Tensor, Mask], torch.Tensor]:
    def fill(picture: torch.Tensor, mask: Mask) -> torch.Tensor:
        done = cv2.inpaint(np.asarray(to_pil(picture[0])), mask.astype(np.uint8), RADIUS, method)
        # Outside of the mask the picture's own values, which are not on 256 levels.
        return torch.where(torch.from_numpy(mask), from_pil(Image.fromarray(done))[None], picture)

    return fill


FILLERS = {"ours": _ours, "telea": _opencv(cv2.INPAINT_TELEA), "navier_stokes": _opencv(cv2.INPAINT_NS)}


def undamaged_figures(truth: torch.Tensor) -> dict[str, float]:
    """What share of an undamaged photograph is taken for damage, and how much its colors change."""
    found = mask_of(find_damage(truth, ready.finder(keep)), THRESHOLD, 0)
    colors = undo_fading(truth[0], estimate_fading(truth[0]))
    unchanged = torch.equal(colors, truth[0])
    # A change below a tenth of a level is none.
    quality = min(psnr(colors, truth[0], epsilon=1e-6), 60.0)
    return {"clean_masked": float(found.mean()), "clean_colors_same": float(unchanged), "clean_colors_psnr": quality}


def faded_figures(truth: torch.Tensor, seed: int) -> dict[str, float]:
    """PSNR to the undamaged photograph of its faded version and of what is made of that."""
    rng = np.random.default_rng(seed)
    left = np.clip(1 - rng.uniform(0, 0.6, 3) * rng.choice((0.4, 1), 3), 0.1, 1).tolist()
    dyes = dict(zip(("cyan", "magenta", "yellow"), left, strict=True))
    light = {"tone": float(rng.uniform(0.6, 0.95)), "warmth": float(rng.uniform(0, 1))}
    steps = (
        Step("dye_fading", {**dyes, "yellowing": float(rng.uniform(0, 1))}),
        Step("uneven_fading", {"seed": seed, "strength": float(rng.uniform(0, 0.5)), **light}),
    )
    faded = Recipe(steps).apply(truth)[0]
    undone = undo_fading(faded, estimate_fading(faded))
    before, after = psnr(faded, truth[0]), psnr(undone, truth[0])
    return {
        "colors_faded": before,
        "colors_undone": after,
        "colors_gain": after - before,
        "colors_worse": float(after < before),
    }


def real_strip(scan: torch.Tensor) -> list[NDArray[np.uint8]]:
    """A real scan: as it is, what is found, and filled."""
    mask = mask_of(find_damage(scan, ready.finder(keep)), THRESHOLD, 1)
    red = torch.lerp(scan, scan.new_tensor([1.0, 0.1, 0.1]).view(3, 1, 1), 0.8 * mask)
    return row_of([scan, red, fill_damage(scan, mask, 1.0, ready.filler(keep))])


def found_counts(true: Mask, found: Mask) -> dict[str, float]:
    """How many pixels of a mask are found, rightly found, truly damaged, and of those found; ``NEAR`` pixels of distance allowed."""
    counts = {
        "found": found,
        "right": found & widened(true, NEAR),
        "damaged": true,
        "seen": true & widened(found, NEAR),
    }
    return {name: float(mask.sum()) for name, mask in counts.items()}


def found_figures(counts: Mapping[str, float]) -> dict[str, float]:
    """Precision, recall and F1 of the `found_counts` of one mask, or of the sums over several."""
    precision = counts["right"] / max(counts["found"], 1)
    recall = counts["seen"] / max(counts["damaged"], 1)
    both = precision + recall
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / both if both else 0.0}


def pooled(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """`found_figures` over all pixels of all photographs, so that one with a few specks counts as little as they do."""
    sums = Counter[str]()
    for row in rows:
        sums.update({name: row[f"pixels_{name}"] for name in ("found", "right", "damaged", "seen")})
    return {name: round(value, 5) for name, value in found_figures(sums).items()}


def mask_auc(probability: NDArray[np.float32], true: Mask) -> float:
    """Of the receiver operating characteristic: how probably a damaged pixel scores higher than one that is further than ``NEAR``
    pixels from any; equal ones count half."""
    levels = np.clip(probability * 4095, 0, 4095).astype(int)
    hits, others = (np.bincount(levels[where], minlength=4096) for where in (true, ~widened(true, NEAR)))
    if not others.sum():
        return float("nan")
    below = np.cumsum(others) - others
    return float((hits * (below + others / 2)).sum() / (hits.sum() * others.sum()))


def widened(mask: Mask, pixels: int) -> Mask:
    """Also whatever is at most ``pixels`` away, diagonals counting one."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


def as_picture(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask).float().expand(1, 3, -1, -1)


def means_over_photographs(rows: Sequence[tuple[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean and standard error over photographs of every figure, where it could be measured."""
    values: dict[str, list[tuple[str, float]]] = {}
    for photo, figures in rows:
        for name, value in figures.items():
            if np.isfinite(value):
                values.setdefault(name, []).append((photo, value))
    return {
        name: dict(zip(("mean", "error"), (round(v, 5) for v in mean_of(some)), strict=True))
        for name, some in values.items()
    }


def table(report: dict) -> str:
    """Means over photographs with their standard errors."""
    figures = report["figures"]

    def cell(name: str, digits: int = 2, factor: float = 1) -> str:
        one = figures.get(name)
        return f"{factor * one['mean']:.{digits}f} +-{factor * one['error']:.{digits}f}" if one else "-"

    lines = [
        f"{report['damaged']} drawn damages of {report['photographs']} photographs, {report['longest_side']} px; +-: standard error over "
        "photographs.",
        "mask within 2 px: "
        + ", ".join(f"{name} {cell(f'mask_{name}', 3)}" for name in ("precision", "recall", "f1", "auc")),
        "over the pixels of all photographs: "
        + ", ".join(f"{name} {value:.3f}" for name, value in report["mask_of_all_pixels"].items()),
        f"undamaged photographs: {cell('clean_masked', 3, 100)} % of the pixels masked",
        f"{'':22} {'PSNR inside':>15} {'PSNR outside':>15} {'SSIM inside':>17} {'SSIM outside':>17}",
    ]
    for name in ("damaged", *(f"{method}_{kind}" for kind in ("true", "found") for method in FILLERS)):
        cells = [cell(f"psnr_{place}_{name}") for place in ("inside", "outside")]
        cells += [cell(f"ssim_{place}_{name}", 3) for place in ("inside", "outside")]
        lines.append(f"{name:22} {cells[0]:>15} {cells[1]:>15} {cells[2]:>17} {cells[3]:>17}")
    lines += [
        f"pixels outside of the mask bit for bit the same: {cell('untouched_same_found', 2)} of the photographs",
        f"colors: faded {cell('colors_faded')} dB, undone {cell('colors_undone')} dB, gain {cell('colors_gain')} dB; worse in "
        f"{cell('colors_worse', 1, 100)} %",
        f"colors of undamaged photographs: the same in {cell('clean_colors_same', 1, 100)} %, {cell('clean_colors_psnr', 1)} dB",
    ]
    return "\n".join(lines)

"""Restoration quality of the embedded weights: ``python run.py bench quality [--photos DIR] [--json FILE]``.

Undamaged photographs are damaged by the pack's own families under fixed seeds and restored. Nothing here was seen in training.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ...lib.bridge import keep, weight_folders
from ...lib.degradation.estimate import LARGEST
from ...lib.degradation.families import FAMILIES
from ...lib.faces.detect import detect_faces
from ...lib.pictures.files import from_pil, to_pil
from ...lib.pictures.metrics import psnr, ssim
from ...lib.samples import load_photographs
from ...lib.vocabulary import Conditions, UserError
from ...models.embedded import ready as embedded
from ...models.embedded.estimate import estimate_code
from ...training import perceptual
from . import invariance, speed

log = logging.getLogger(__name__)

FAMILY_NAMES = ("trial", "uncompressed", "s3diff_x2", "s3diff_x4", "pfstorer_light", "pfstorer_heavy", "clean")
CROP = 160  # pixels of the pair where a photograph has no face
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Row:
    """One photograph under one draw: for each method its PSNR and SSIM against the truth, and LPIPS where its network is at hand."""

    photo: str
    family: str
    scores: dict[str, tuple[float, ...]]


def bench(photos: Path | None, side: int, draws: int, target: Path) -> dict:
    """Everything; writes ``figures.json``, ``grid.png`` and ``invariance.png`` into ``target`` and returns the figures."""
    if side < 1 or draws < 1:
        raise UserError("--side and --draws must be at least 1.")
    pictures = dict(load_photographs(photos, side))
    invariance.crops(
        list(pictures.values()), 0
    )  # raises where photographs are too small, before and not after the long part
    target.mkdir(parents=True, exist_ok=True)
    quick = speed.measure_speed()  # first, while its memory is the process's peak
    rows, strips = [], []
    lpips = perceptual.at_hand(weight_folders("personal_restore"))
    bar = tqdm(total=len(pictures) * (draws * (len(FAMILY_NAMES) - 1) + 1), desc="restoring")
    for number, (name, truth) in enumerate(pictures.items()):
        window = face_window(truth)
        for family in FAMILY_NAMES:
            for draw in range(draws if family != "clean" else 1):
                row, strip = measure_quality(name, truth, window, family, 1000 * number + draw, lpips)
                rows.append(row)
                if draw == 0:
                    strips.append(strip)
                bar.update()
    bar.close()
    Image.fromarray(grid(strips, len(FAMILY_NAMES))).save(target / "grid.png")
    figures = {
        "photographs": len(pictures),
        "longest_side": side,
        "draws": draws,
        "families": {family: quality_summary([r for r in rows if r.family == family]) for family in FAMILY_NAMES},
        "oracle": oracle([r for r in rows if r.family == "trial"]),
        "clean": clean(pictures.values()),
        "retrieval": invariance.retrieval(list(pictures.values())),
        "invariance": invariance.figure(list(pictures.values()), target / "invariance.png"),
        "speed": quick,
    }
    (target / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


def face_window(truth: torch.Tensor) -> Window:
    """Where the largest face is, or the middle of a photograph without one."""
    height, width = truth.shape[-2:]
    boxes = [found.box for found in detect_faces(truth[0])]
    x0, y0, x1, y1 = max(
        boxes,
        key=lambda box: (box[2] - box[0]) * (box[3] - box[1]),
        default=((width - CROP) / 2, (height - CROP) / 2, (width + CROP) / 2, (height + CROP) / 2),
    )

    def across(low, high, limit):
        return slice(max(round(low), 0), min(round(high), round(low) + LARGEST, limit))

    return across(y0, y1, height), across(x0, x1, width)


def measure_quality(
    name: str, truth: torch.Tensor, window: Window, family: str, seed: int, lpips: perceptual.LPIPS | None
) -> tuple[Row, list[np.ndarray]]:
    """The scores, and damaged | restored blind | guided | truth round the face, as bytes."""
    recipe = FAMILIES[family](seed)
    damaged = recipe.apply(truth)
    restorer, extractor = embedded.restorer(keep), embedded.extractor(keep)()
    blind = restorer.restore(damaged, Conditions())

    def cut(picture):
        return picture[0][:, window[0], window[1]]

    def guided(high: torch.Tensor, low: torch.Tensor, cfg: float = 1.0) -> torch.Tensor:
        code = estimate_code(extractor, torch.cat([cut(high), cut(low)]))
        return replace(restorer, cfg=cfg).restore(damaged, Conditions(code=code))

    results = {"damaged": damaged, "blind": blind, "guided": guided(blind, damaged)}
    if family == "trial":
        other = FAMILIES[family](seed + 500).apply(truth)
        results |= {"true pair": guided(truth, damaged), "wrong pair": guided(truth, other)}
        results["cfg 1.10"] = guided(blind, damaged, 1.1)
    if family != "clean":
        results["non-local means"] = non_local_means(damaged)

    def far(out: torch.Tensor) -> tuple[float, ...]:
        return (float(lpips(out, truth)),) if lpips else ()

    scores = {m: (psnr(out, truth, epsilon=1e-10), ssim(out, truth), *far(out)) for m, out in results.items()}
    rows, columns = (slice(max((s.start + s.stop) // 2 - 128, 0), (s.start + s.stop) // 2 + 128) for s in window)
    strip = [np.asarray(to_pil(out[0][:, rows, columns])) for out in (damaged, blind, results["guided"], truth)]
    return Row(name, family, scores), strip


def non_local_means(damaged: torch.Tensor, strength: float = 7.0) -> torch.Tensor:
    """OpenCV's (Buades et al. 2011) in Lab, on 8 bits, with its usual windows 7 and 21. strength: by default the trial's."""
    done = cv2.fastNlMeansDenoisingColored(np.asarray(to_pil(damaged[0]))[..., ::-1], None, strength, strength, 7, 21)
    return from_pil(Image.fromarray(done[..., ::-1]))[None]


def quality_summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Means per method, what they add to the damaged photograph, and the standard error of that, for draws differ."""
    mean = {m: np.mean([r.scores[m] for r in rows], axis=0) for m in rows[0].scores}

    def error(method: str) -> float:
        gains = [r.scores[method][0] - r.scores["damaged"][0] for r in rows]
        return round(float(np.std(gains, ddof=1) / len(gains) ** 0.5), 3)

    return {
        method: {
            "psnr": round(float(p), 3),
            "ssim": round(float(s), 4),
            "psnr_gain": round(float(p - mean["damaged"][0]), 3),
            "ssim_gain": round(float(s - mean["damaged"][1]), 4),
        }
        | ({"psnr_gain_error": error(method)} if len(rows) > 1 else {})
        | ({"lpips": round(float(lpips[0]), 4)} if lpips else {})
        for method, (p, s, *lpips) in mean.items()
    }


def oracle(rows: list[Row]) -> dict[str, dict[str, float]]:
    """What the tokens of a face pair add to the same network without them, in PSNR."""

    def against_blind(method: str) -> dict[str, float]:
        gains = [row.scores[method][0] - row.scores["blind"][0] for row in rows]
        return {
            "gain": round(float(np.mean(gains)), 3),
            "helped": round(float(np.mean([gain > 0 for gain in gains])), 3),
        }

    return {
        "own restored pair": against_blind("guided"),
        "true pair": against_blind("true pair"),
        "wrong pair": against_blind("wrong pair"),
    }


def clean(pictures: Iterable[torch.Tensor]) -> dict[str, float]:
    """An undamaged photograph: largest shift of a channel's mean, in levels, and the seam: tiled against untiled, in levels."""
    restorer = embedded.restorer(keep)
    net = restorer.load()
    shift, seam = 0.0, 0.0
    for picture in pictures:
        tiled = restorer.restore(picture, Conditions())
        with torch.inference_mode():
            whole = net(picture.to(net.stem.weight)).cpu().clamp(0, 1)
        shift = max(shift, float((tiled - picture).mean((0, 2, 3)).abs().max()) * 255)
        seam = max(seam, float((tiled - whole).abs().max()) * 255)
    return {"channel_shift": round(shift, 3), "seam": round(seam, 4)}


def grid(strips: list[list[np.ndarray]], families: int, limit: int = 4) -> np.ndarray:
    """The first photographs, a row per family: damaged | blind | guided | truth."""
    side = max(max(tile.shape[:2]) for strip in strips for tile in strip)

    def square(tile: np.ndarray) -> np.ndarray:
        return cv2.copyMakeBorder(tile, 0, side - tile.shape[0], 0, side - tile.shape[1], cv2.BORDER_CONSTANT)

    return np.vstack([np.hstack([square(tile) for tile in strip]) for strip in strips[: limit * families]])


def table(figures: dict) -> str:
    """The human-readable table."""
    lines = [
        f"{figures['photographs']} photographs, longest side {figures['longest_side']}, draws {figures['draws']}",
        f"{'':16}{'':18}{'PSNR':>8}{'gain':>8} +-   {'SSIM':>8}{'gain':>8}"
        + ("   LPIPS" if any("lpips" in f for m in figures["families"].values() for f in m.values()) else ""),
    ]
    for family, methods in figures["families"].items():
        for method, f in methods.items():
            lines.append(
                f"{family:16}{method:18}{f['psnr']:8.2f}{f['psnr_gain']:+8.2f}{f.get('psnr_gain_error', 0):6.2f}"
                f"{f['ssim']:8.3f}{f['ssim_gain']:+8.3f}" + (f"{f['lpips']:8.3f}" if "lpips" in f else "")
            )
            family = ""
    lines += [
        f"{name:34}{f['gain']:+8.3f} dB over blind, helps {f['helped']:.0%}" for name, f in figures["oracle"].items()
    ]

    def show(part):
        return ", ".join(f"{k} {v}" for k, v in part.items())

    return "\n".join(
        [*lines, *(f"{part}: {show(figures[part])}" for part in ("clean", "retrieval", "invariance", "speed"))]
    )

"""Ours beside other restorers on the same damaged photographs: ``python run.py bench peers [--photos DIR] [--json FILE]``.

Three kinds of damage: white noise alone, which the classical denoisers are made for; the same noise, saved as JPEG; and the pack's everyday
damage (family ``trial``). Every denoiser is told one noise level: the true one, or one estimated from the damaged picture alike for all.
Ours is told nothing.
"""

from __future__ import annotations

import math
import multiprocessing
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ...lib.bridge import weight_folders
from ...lib.degradation.families import FAMILIES
from ...lib.degradation.recipe import Recipe, Step
from ...lib.pictures.metrics import psnr, ssim
from ...lib.samples import load_photographs
from ...lib.vocabulary import UserError
from ...training import perceptual
from .keep import mean_of
from .peers_methods import METHODS, Measured, run_method

SIGMAS, QUALITIES = (4.0, 25.0), (80, 98)  # of the drawn noise and JPEG
DAMAGED = "damaged"
MEASURES = {"psnr": 2, "ssim": 3, "lpips": 3}  # with the digits that are shown
NOISE = {"true": "the true noise level", "estimated": "the noise level estimated from the damaged picture"}


def bench(
    photos: Path | None,
    target: Path,
    *,
    side: int,
    draws: int,
    noise: str,
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> dict[str, Any]:
    """All figures; writes ``peers.png`` (quality against time) into ``target``.

    noise: one of `NOISE`; models: names of upscale models; methods: some of `METHODS`, or all of them. What is not installed is
    listed under ``skipped`` with the reason.
    """
    if side < 96 or draws < 1:
        raise UserError("--side is at least 96 pixels, and --draws at least 1.")
    truths, damaged, cases, sigmas = [], [], [], []
    for name, truth in load_photographs(photos, side):
        for kind, draw in DAMAGES.items():
            for number in range(draws):
                recipe = draw(zlib.crc32(f"{name} {number}".encode()))
                picture = recipe.apply(truth)
                truths.append(truth)
                damaged.append(picture.numpy())
                cases.append((kind, name))
                sigmas.append(recipe.summary()["noise_sigma"] if noise == "true" else estimated_sigma(picture))
    lpips = perceptual.at_hand(weight_folders("personal_restore"))
    rows = {DAMAGED: peer_scores(cases, truths, Measured(damaged, [0.0] * len(damaged), 0.0), lpips)}
    skipped: dict[str, str] = {}
    for name in tqdm([*(methods or METHODS), *models], desc="methods"):
        try:
            rows[name] = peer_scores(cases, truths, _in_own_process(name, damaged, sigmas), lpips)
        except UserError as error:
            skipped[name] = str(error)
    figures = {
        "photographs": len(truths) // len(DAMAGES) // draws,
        "longest_side": side,
        "draws": draws,
        "noise": noise,
        "methods": rows,
        "skipped": skipped,
    }
    target.mkdir(parents=True, exist_ok=True)
    draw_plot(figures, target / "peers.png")
    return figures


def _white_noise(seed: int) -> Recipe:
    sigma = float(np.random.default_rng(seed).uniform(*SIGMAS))
    return Recipe((Step("gaussian_noise", {"sigma": sigma, "gray": False}),), seed, "noise")


def _saved_noise(seed: int) -> Recipe:
    """The same noise, saved as JPEG."""
    quality = int(np.random.default_rng(seed + 1).integers(QUALITIES[0], QUALITIES[1] + 1))
    return Recipe((*_white_noise(seed).steps, Step("jpeg", {"quality": quality})), seed, "saved")


DAMAGES: dict[str, Callable[[int], Recipe]] = {
    "white noise": _white_noise,
    "noise, JPEG": _saved_noise,
    "everyday": FAMILIES["trial"],
}


def estimated_sigma(picture: torch.Tensor) -> float:
    """The noise's standard deviation in levels of 255: the median of the finest diagonal Haar coefficients divided by .6745 (Donoho and
    Johnstone 1994), of ``[1, 3, H, W]``."""
    even = picture[..., : picture.shape[-2] // 2 * 2, : picture.shape[-1] // 2 * 2]
    a, b, c, d = (even[..., top::2, left::2] for top in (0, 1) for left in (0, 1))
    return float(((a - b - c + d) / 2).abs().median() / 0.6745 * 255)


def _in_own_process(name: str, damaged: Sequence[np.ndarray], sigmas: Sequence[float]) -> Measured:
    """So that its memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run_method, name, damaged, sigmas).result()


def peer_scores(
    cases: Sequence[tuple[str, str]],
    truths: Sequence[torch.Tensor],
    done: Measured,
    lpips: perceptual.LPIPS | None = None,
) -> dict[str, Any]:
    """Mean and standard error over photographs of every measure for each kind of damage, seconds per megapixel and megabytes.

    cases: kind of damage and photograph of every result.
    """
    rows: dict[str, dict[str, list[tuple[str, float]]]] = {kind: {} for kind, _ in cases}
    for (kind, photo), truth, picture in zip(cases, truths, done.pictures, strict=True):
        result = torch.from_numpy(picture)
        values = {"psnr": psnr(result, truth, epsilon=1e-10), "ssim": ssim(result, truth)}
        if lpips:
            values["lpips"] = float(lpips(result, truth))
        for measure, value in values.items():
            rows[kind].setdefault(measure, []).append((photo, value))
    pixels = sum(truth[0, 0].numel() for truth in truths)
    return {
        "damage": {
            kind: {measure: [round(value, 4) for value in mean_of(values)] for measure, values in some.items()}
            for kind, some in rows.items()
        },
        "seconds_per_megapixel": round(sum(done.seconds) / pixels * 1e6, 3),
        "memory_mb": round(done.memory / 1e6),
    }


def draw_plot(figures: dict[str, Any], path: Path) -> None:
    """PSNR gained over the damaged picture against seconds per megapixel, one panel for each kind of damage."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = figures["methods"]
    plot, panels = pyplot.subplots(1, len(DAMAGES), figsize=(12, 4), sharex=True, layout="constrained")
    for kind, axes in zip(DAMAGES, panels, strict=True):
        for number, (name, row) in enumerate(methods.items()):
            if name == DAMAGED:
                continue
            point = (
                row["seconds_per_megapixel"],
                row["damage"][kind]["psnr"][0] - methods[DAMAGED]["damage"][kind]["psnr"][0],
            )
            axes.plot(*point, "o")
            # By turns above and below, so that labels side by side can be read.
            beside = (4, 4 if number % 2 else -11)
            axes.annotate(name, point, xytext=beside, textcoords="offset points", fontsize=8)
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.margins(0.35, 0.25)
        axes.set(title=kind, xscale="log", xlabel="seconds per megapixel, one core", ylabel="PSNR gained, dB")
    plot.savefig(path, dpi=110)
    pyplot.close(plot)


def table(figures: dict[str, Any]) -> str:
    """Markdown: PSNR and SSIM, and LPIPS where it was measured, with the standard error of PSNR over pictures."""
    measures = [one for one in MEASURES if one in figures["methods"][DAMAGED]["damage"]["everyday"]]
    shown = ", ".join(name.upper() for name in measures)
    lines = [
        f"{figures['photographs']} photographs, longest side {figures['longest_side']}, {figures['draws']} draw(s) each; denoisers are "
        f"told {NOISE[figures['noise']]}. {shown}:",
        "",
        f"| | {' | '.join(DAMAGES)} | s/megapixel | MB |",
        "|---|" + "---|" * (len(DAMAGES) + 2),
    ]
    for name, row in figures["methods"].items():
        cells = [_cell(row["damage"][kind], measures) for kind in DAMAGES]
        costs = ["", ""] if name == DAMAGED else [f"{row['seconds_per_megapixel']:.1f}", f"{row['memory_mb']}"]
        lines.append(f"| {name} | {' | '.join([*cells, *costs])} |")
    return "\n".join([*lines, *(f"\nNot measured: {name}. {why}" for name, why in figures["skipped"].items())])


def _cell(values: dict[str, list[float]], measures: Sequence[str]) -> str:
    cells = [f"{values[one][0]:.{MEASURES[one]}f}" for one in measures]
    error = values["psnr"][1]
    if not math.isnan(error):  # of one photograph there is none
        cells[0] += f" ± {error:.1f}"
    return ", ".join(cells)

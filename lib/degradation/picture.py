"""Pictures of damage: a gauge of its four numbers, and a sheet that compares restorations with the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..pictures.files import from_pil, to_pil

PAPER, INK, TRACK, ESTIMATED, TRUE = (250, 250, 248), (40, 40, 40), (226, 226, 222), (60, 120, 190), (215, 120, 40)
ROW, GAP, CAPTION, EMPTY = 46, 12, 28, 64


@dataclass(frozen=True)
class Scale:
    """One bar: its label, the value that hardly damages (left end) and the one that ruins (right end)."""

    label: str
    harmless: float
    worst: float
    text: str

    def place(self, value: float) -> float:
        return min(max((value - self.harmless) / (self.worst - self.harmless), 0.0), 1.0)


SCALES = {
    "blur_sigma": Scale("blur", 0, 5, "sigma {:.1f} px"),
    "noise_sigma": Scale("noise", 0, 30, "sigma {:.0f} of 255"),
    "jpeg_quality": Scale("JPEG", 100, 10, "quality {:.0f}"),
    "downscale": Scale("enlarged", 1, 4, "{:.1f} times"),
}


def gauge(estimated: dict[str, float] | None, true: dict[str, float] | None = None, width: int = 420) -> torch.Tensor:
    """Four bars, ``[1, 3, 184, width]``: the estimate as a filled bar, the truth, where known, as a mark and in brackets."""
    picture = Image.new("RGB", (width, ROW * len(SCALES)), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for row, (name, scale) in enumerate(SCALES.items()):
        top, left, right = row * ROW, GAP, width - GAP
        words = [scale.text.format(estimated[name])] if estimated else []
        words += [f"({scale.text.format(true[name])})"] if true else []
        draw.text((left, top + 6), scale.label, INK, font)
        draw.text((right, top + 6), " ".join(words), INK, font, anchor="ra")
        draw.rectangle((left, top + 28, right, top + 38), TRACK)
        for values, color in ((estimated, ESTIMATED), (true, TRUE)):
            if values:
                at = left + (right - left) * scale.place(values[name])
                bar = left, top + 28, at, top + 38
                tick = at - 2, top + 24, at + 2, top + 42
                draw.rectangle(bar if color is ESTIMATED else tick, color)
    return from_pil(picture)[None]


def pair_picture(pair: torch.Tensor | None) -> torch.Tensor:
    """The two pictures of a pair ``[6, h, w]`` side by side, the restored one left, ``[3, h, 2 w]``; empty paper without a pair."""
    return _paper(EMPTY, EMPTY) if pair is None else torch.cat(list(pair.split(3)), -1)


def map_picture(features: torch.Tensor | None) -> torch.Tensor:
    """Z ``[1, C, h, w]`` as colors ``[3, 4 h, 4 w]``, the pair's size: its three strongest principal components, in units of the first
    one's spread. Empty paper without Z."""
    if features is None:
        return _paper(EMPTY, EMPTY)
    cells = features[0].detach().cpu().double().flatten(1)
    cells = cells - cells.mean(1, keepdim=True)
    axes = torch.linalg.eigh(cells @ cells.T).eigenvectors[:, -3:].flip(1)
    strongest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    shown = (axes * strongest.sign()).T @ cells  # else the sign would be chance
    colors = (0.5 + shown / (6 * shown[0].std().clamp(min=1e-12))).clamp(0, 1).float()
    return colors.unflatten(1, features.shape[-2:]).repeat_interleave(4, -2).repeat_interleave(4, -1)


def one_size(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pictures ``[3, h, w]`` as one batch, the smaller ones on paper, at the top left."""
    height, width = (max(one.shape[side] for one in pictures) for side in (-2, -1))
    batch = torch.stack([_paper(height, width) for _ in pictures])
    for sheet, one in zip(batch, pictures, strict=True):
        sheet[:, : one.shape[-2], : one.shape[-1]] = one
    return batch


def _paper(height: int, width: int) -> torch.Tensor:
    return (torch.tensor(PAPER) / 255).view(3, 1, 1).repeat(1, height, width)


def damage_sheet(tiles: list[tuple[str, torch.Tensor]], bars: torch.Tensor) -> torch.Tensor:
    """``[1, 3, H, W]``: pictures of one size ``[1, 3, h, w]``, each under its caption, and the gauge below."""
    tall, width = tiles[0][1].shape[-2:]
    bars = F.interpolate(bars, scale_factor=max(1.0, min(width / bars.shape[-1], 3.0)), mode="bilinear").clamp(0, 1)
    columns = 2 if width > tall else len(tiles)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    height = tall + CAPTION + GAP
    canvas = Image.new(
        "RGB",
        (max(columns * (width + GAP) + GAP, bars.shape[-1] + 2 * GAP), len(rows) * height + bars.shape[-2] + 2 * GAP),
        PAPER,
    )
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for i, row in enumerate(rows):
        for j, (caption, picture) in enumerate(row):
            x, y = GAP + j * (width + GAP), GAP + i * height
            draw.text((x, y), caption, INK, font)
            canvas.paste(to_pil(picture[0]), (x, y + CAPTION))
    canvas.paste(to_pil(bars[0]), (GAP, GAP + len(rows) * height))
    return from_pil(canvas)[None]

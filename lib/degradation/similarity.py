"""Whether a code says what the damage is and not what the picture shows (Face2Scene, section 4.3 and figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, FONT = 420, 300, 46, 40, 40, 14
PAPER, INK, LINE, SHADE = (250, 250, 248), (40, 40, 40), (0, 90, 160), (178, 206, 230)


@dataclass(frozen=True)
class Similarities:
    """Cosines of codes. same: of two pictures under one degradation, ``[D, pairs of pictures]``; across: of one picture under two
    degradations, ``[N, pairs of degradations]``."""

    same: torch.Tensor
    across: torch.Tensor


def code_similarities(codes: torch.Tensor) -> Similarities:
    """codes: ``[D, N, C]``, of D degradations on N pictures, both at least 2; their length does not count."""
    unit = F.normalize(codes.double(), dim=-1)

    def pairs(groups: torch.Tensor) -> torch.Tensor:
        count = groups.shape[1]
        chosen = torch.ones(count, count, dtype=torch.bool).triu(1)
        return (groups @ groups.transpose(1, 2))[:, chosen]

    return Similarities(pairs(unit), pairs(unit.transpose(0, 1)))


def draw_similarities(found: Similarities, degradations: Sequence[str], pictures: Sequence[str]) -> Image.Image:
    """Both panels of figure 3: the mean of each row as a line, its standard deviation shaded."""
    sheet = Image.new("RGB", (2 * WIDTH, HEIGHT), PAPER)
    for number, (values, names, title) in enumerate(
        (
            (found.same, degradations, "two pictures, one degradation"),
            (found.across, pictures, "one picture, two degradations"),
        )
    ):
        sheet.paste(_panel(values, names, title), (number * WIDTH, 0))
    return sheet


def _panel(values: torch.Tensor, names: Sequence[str], title: str) -> Image.Image:
    panel, font = Image.new("RGB", (WIDTH, HEIGHT), PAPER), ImageFont.load_default(FONT)
    draw = ImageDraw.Draw(panel)
    draw.text((LEFT, 10), f"{title}: {values.mean():.2f}", INK, font)

    def place(index: int, value: float) -> tuple[float, float]:
        x = LEFT + (index + 0.5) * (WIDTH - LEFT - 10) / len(names)
        return x, TOP + (1 - value) / 2 * (HEIGHT - TOP - BOTTOM)

    for level in (-1.0, 0.0, 1.0):
        y = place(0, level)[1]
        draw.line([(LEFT, y), (WIDTH - 10, y)], INK if level == 0 else SHADE)
        draw.text((8, y - FONT / 2), f"{level:.0f}", INK, font)
    means, spread = values.mean(1).tolist(), values.std(1, correction=0).tolist()
    upper = [place(index, mean + each) for index, (mean, each) in enumerate(zip(means, spread, strict=True))]
    lower = [place(index, mean - each) for index, (mean, each) in enumerate(zip(means, spread, strict=True))]
    draw.polygon([*upper, *reversed(lower)], SHADE)
    draw.line([place(index, mean) for index, mean in enumerate(means)], LINE, 3)
    for index, (name, mean) in enumerate(zip(names, means, strict=True)):
        x, y = place(index, mean)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], LINE)
        draw.text((x - font.getlength(name) / 2, HEIGHT - BOTTOM + 10), name, INK, font)
    return panel

"""A comparison picture: before | after with the faces marked, and enlarged details of both: known faces, and the background."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..lib.faces.review import mark

LONGEST, GAP, CAPTION, FOOTNOTE = 1000, 12, 30, 18
MOST_SHOWN = 3  # known faces that are enlarged
PAPER, INK = (250, 250, 248), (40, 40, 40)
Box = tuple[int, int, int, int]


def comparison(before: Image.Image, after: Image.Image, faces: list[dict[str, Any]], footnote: str = "") -> Image.Image:
    """faces: the report's, with ``box`` in pixels of ``before`` and ``person``. The pictures may differ in size."""
    factor = after.width / before.width
    before = before.resize(after.size, Image.Resampling.BICUBIC) if factor != 1 else before
    boxes = [tuple(round(v * factor) for v in face["box"]) for face in faces]
    rows = [("before", "after", _fit(_marked(before, faces, boxes)), _fit(_marked(after, faces, boxes)))]
    windows = [(name, _square(box, after.size, 1.3)) for name, box in _shown(faces, boxes)]
    windows.append(("background", _detailed(after, boxes)))
    for name, window in windows:
        side = rows[0][2].width
        zooms = [picture.crop(window).resize((side, side), Image.Resampling.LANCZOS) for picture in (before, after)]
        rows.append((f"{name}, before", f"{name}, after", *zooms))
    return _sheet(rows, footnote)


def _shown(faces: list[dict[str, Any]], boxes: list[Box]) -> list[tuple[str, Box]]:
    """The faces that are enlarged, with their titles: the largest known ones, or else the largest."""

    def area(index: int) -> int:
        left, top, right, bottom = boxes[index]
        return (right - left) * (bottom - top)

    order = sorted(range(len(boxes)), key=area, reverse=True)
    known = [index for index in order if faces[index]["person"] is not None]
    return [(faces[index]["person"] or "face", boxes[index]) for index in known[:MOST_SHOWN] or order[:1]]


def _sheet(rows, footnote: str) -> Image.Image:
    font = ImageFont.load_default(18)
    width = 2 * rows[0][2].width + 3 * GAP
    small = ImageFont.load_default(13)
    lines = _lines(footnote, small, width - 2 * GAP)
    height = sum(row[2].height + CAPTION + GAP for row in rows) + GAP + len(lines) * FOOTNOTE + (GAP if lines else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = GAP
    for left, right, first, second in rows:
        for x, caption, picture in ((GAP, left, first), (2 * GAP + first.width, right, second)):
            draw.text((x, y), caption, INK, font)
            sheet.paste(picture, (x, y + CAPTION))
        y += first.height + CAPTION + GAP
    for number, line in enumerate(lines):
        draw.text((GAP, y + number * FOOTNOTE), line, INK, small)
    return sheet


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines of at most ``width`` pixels, but for single words that are longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fit(picture: Image.Image) -> Image.Image:
    scale = LONGEST / max(picture.size) if max(picture.size) > LONGEST else 1
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _marked(picture: Image.Image, faces: list[dict[str, Any]], boxes: list[Box]) -> Image.Image:
    people = [face["person"] for face in faces]
    return mark(picture, [(box, who or "?", who is not None) for box, who in zip(boxes, people, strict=True)])


def _square(box: Box, size: tuple[int, int], margin: float) -> Box:
    side = min(round(max(box[2] - box[0], box[3] - box[1]) * margin), *size)
    x = min(max((box[0] + box[2] - side) // 2, 0), size[0] - side)
    y = min(max((box[1] + box[3] - side) // 2, 0), size[1] - side)
    return x, y, x + side, y + side


def _detailed(picture: Image.Image, boxes: list[Box]) -> Box:
    """The square of a fifth of the picture that shows the most detail and no face."""
    side = max(min(picture.size) // 5, 1)
    grey = np.asarray(picture.convert("L"), np.float32)
    best, window = -1.0, (0, 0, side, side)
    for y in range(0, picture.height - side + 1, max(side // 2, 1)):
        for x in range(0, picture.width - side + 1, max(side // 2, 1)):
            clear = all(x + side <= b[0] or x >= b[2] or y + side <= b[1] or y >= b[3] for b in boxes)
            contrast = float(grey[y : y + side, x : x + side].std())
            if clear and contrast > best:
                best, window = contrast, (x, y, x + side, y + side)
    return window

"""A graph run over values, and the labeled sheet of what came of it, as the papers' ablations show them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from .vocabulary import UserError

Value = int | float | bool | str
MOST_CELLS = 64
GAP, LINE, FONT = 8, 20, 15
PAPER, INK, BEST = (250, 250, 248), (40, 40, 40), (0, 100, 60)


@dataclass(frozen=True)
class Grid:
    """PR_GRID: the values of an ablation: those of the columns and of the rows, and what they are called.

    The cells run row by row, and so do all lists that belong to a grid. A grid of one axis has a single row without a value.
    """

    columns: tuple[Value, ...]
    rows: tuple[Value | None, ...]
    column_name: str
    row_name: str

    @property
    def cells(self) -> list[tuple[Value, Value | None]]:
        """(column, row) of every cell."""
        return [(column, row) for row in self.rows for column in self.columns]


def make_grid(columns: str, rows: str, column_name: str, row_name: str) -> Grid:
    """The grid of two texts, values separated by commas or lines; ``rows`` may be empty.

    Raises UserError for an axis with no value or one value twice, and for more than 64 cells.
    """
    grid = Grid(tuple(values_of(columns, "columns")), tuple(values_of(rows, "rows")) or (None,), column_name, row_name)
    if not grid.columns:
        raise UserError(
            "Values to Try: columns is empty. Write the values, separated by commas, such as '0.1, 0.2, 0.4'."
        )
    if len(grid.cells) > MOST_CELLS:
        raise UserError(
            f"Values to Try: {len(grid.columns)} columns and {len(grid.rows)} rows are {len(grid.cells)} runs, more than {MOST_CELLS}. "
            "Try fewer values."
        )
    return grid


def values_of(text: str, axis: str) -> list[Value]:
    """Whole numbers, fractions, true and false, and other texts as they are. Raises UserError if one is there twice."""
    words = [word.strip() for line in text.splitlines() for word in line.split(",") if word.strip()]
    if doubles := [word for number, word in enumerate(words) if word in words[:number]]:
        raise UserError(f"Values to Try: {axis} has {doubles[0]} twice.")
    return [_value(word) for word in words]


def _value(word: str) -> Value:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def draw_sheet(
    grid: Grid, pictures: Sequence[Image.Image], measures: Sequence[str] = (), side: int = 256
) -> Image.Image:
    """The pictures in the cells of the grid, at most ``side`` pixels each way, under the values of their columns and beside those of
    their rows; below each its measures, the best of all cells in green.

    measures: for every cell, JSON of `Measures`. Raises UserError for another number of pictures or measures than there are cells.
    """
    _check(grid, len(pictures), "pictures")
    scores = [_means(text) for text in measures]
    if scores:
        _check(grid, len(scores), "measures")
    best = _best(scores, _higher(measures))
    small = [one.copy() for one in pictures]
    for one in small:
        one.thumbnail((side, side), Image.Resampling.LANCZOS)
    width, height = max(one.width for one in small), max(one.height for one in small)
    names = list(dict.fromkeys(name for score in scores for name in score))
    font = ImageFont.load_default(FONT)
    labels = ["" if row is None else _label(grid.row_name, row) for row in grid.rows]
    left = GAP + (round(max(font.getlength(one) for one in labels)) + GAP if any(labels) else 0)
    step_x, step_y = width + GAP, height + LINE * len(names) + GAP
    top = LINE + 2 * GAP
    sheet = Image.new("RGB", (left + step_x * len(grid.columns), top + step_y * len(grid.rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, column in enumerate(grid.columns):
        draw.text((left + number * step_x, GAP), _fitting(_label(grid.column_name, column), font, width), INK, font)
    for number, label in enumerate(labels):
        draw.text((GAP, top + number * step_y + height // 2), label, INK, font)
    for number, picture in enumerate(small):
        x, y = left + number % len(grid.columns) * step_x, top + number // len(grid.columns) * step_y
        sheet.paste(picture, (x, y))
        for line, name in enumerate(names):
            value = scores[number].get(name)
            if value is not None:
                color = BEST if number in best[name] else INK
                draw.text((x, y + height + line * LINE), f"{name} {value:.4g}", color, font)
    return sheet


def grid_table(grid: Grid, measures: Sequence[str] = ()) -> str:
    """CSV: a line for each cell, with its values and measures."""
    scores: list[dict[str, float]] = [_means(text) for text in measures] or [{} for _ in grid.cells]
    names = list(dict.fromkeys(name for score in scores for name in score))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([grid.column_name or "column", grid.row_name or "row", *names])
    for (column, row), score in zip(grid.cells, scores, strict=True):
        writer.writerow([column, "" if row is None else row, *(score.get(name, "") for name in names)])
    return out.getvalue()


def _check(grid: Grid, count: int, what: str) -> None:
    if count != len(grid.cells):
        raise UserError(
            f"Sheet of Values: the grid has {len(grid.cells)} cells, but {count} {what} came. They must come from nodes that the values of "
            "this grid lead to, one for each cell."
        )


def _means(text: str) -> dict[str, float]:
    """The means of `Measures` as JSON, those that were computed. Raises UserError for another text."""
    try:
        read = json.loads(text)
        found: dict[str, Any] = read["mean"]
        read["better"].items()
        return {name: float(value) for name, value in found.items() if value is not None}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError("Sheet of Values: measures is not the json output of Measure. Connect that one.") from error


def _higher(measures: Sequence[str]) -> set[str]:
    """The measures of which more is better."""
    return {name for text in measures for name, better in json.loads(text)["better"].items() if better == "higher"}


def _best(scores: Sequence[dict[str, float]], higher: set[str]) -> dict[str, set[int]]:
    """For each measure, the cells with its best value."""
    best: dict[str, set[int]] = {}
    for name in dict.fromkeys(name for score in scores for name in score):
        values = {number: score[name] for number, score in enumerate(scores) if name in score}
        top = (max if name in higher else min)(values.values())
        best[name] = {number for number, value in values.items() if value == top}
    return best


def _label(name: str, value: Value) -> str:
    return f"{name} {value}".strip()


def _fitting(text: str, font: Any, width: int) -> str:
    """The text, cut where it would be wider."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text

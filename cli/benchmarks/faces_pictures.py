"""The pictures of ``bench faces``: one strip per face on disk, and the sheets made from them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from ...lib.faces.align import crop_face
from ...lib.pictures.files import to_pil
from .faces_figures import Row, main_method

TILE = 200  # pixels
GRID = ("damaged", "scene", "fusion", "gate", "truth", "album")
# Faces on a sheet, and how many of them stand below each other; more are set in two columns.
MOST_ROWS, MOST_BELOW = 16, 6
FOLDER = "faces"


def save_strip(
    target: Path, row: Row, pictures: dict[str, torch.Tensor], landmarks: np.ndarray, album: torch.Tensor
) -> None:
    """Writes the tiles of one face side by side. pictures: ``[1, 3, h, w]`` by ``row.tiles``, without the album's crop."""
    tiles = [crop_face(picture[0], landmarks, TILE)[0] for picture in pictures.values()]
    tiles.append(torch.nn.functional.interpolate(album[None], (TILE, TILE), mode="bicubic", antialias=True)[0])
    path = strip_path(target, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pil(torch.cat(tiles, 2)).save(path)


def strip_path(target: Path, row: Row) -> Path:
    name = "_".join(map(str, (row.person, Path(row.file).stem, row.size, row.family, row.draw)))
    short = re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[:80]
    return target / FOLDER / f"{short}_{zlib.crc32(repr(row.key).encode()):08x}.png"


def faces_sheet(target: Path, rows: Sequence[Row], columns: Sequence[str] | None = None) -> np.ndarray | None:
    """uint8 ``[H, W, 3]``: every face with its label; columns: which tiles, all by default. None if there is no strip."""
    lines = []
    for row in rows:
        path = strip_path(target, row)
        if not path.is_file():
            continue
        with Image.open(path) as file:
            strip = np.array(file.convert("RGB"))
        names = [name for name in row.tiles if columns is None or name in columns]
        cells = [strip[:, row.tiles.index(name) * TILE :][:, :TILE] for name in names]
        bar = np.full((18, TILE * len(cells), 3), 255, np.uint8)
        for number, name in enumerate(names):
            label = f"{name} {row.scores[name]['truth']:.2f}" if name in row.scores else name
            _write(bar, label, number * TILE + 3)
        title = np.full_like(bar, 225)
        found = "" if row.found != "-" else ", not found"
        _write(title, f"{row.person}/{row.file}, {row.size} px, {row.family}{found}", 3)
        lines.append(np.vstack([title, bar, np.hstack(cells)]))
    if not lines:
        return None
    half = len(lines) if len(lines) <= MOST_BELOW else (len(lines) + 1) // 2
    blocks = [_stacked(lines[:half]), *([_stacked(lines[half:])] if lines[half:] else [])]
    height = max(block.shape[0] for block in blocks)
    return np.hstack([np.pad(block, ((0, height - block.shape[0]), (0, 0), (0, 0))) for block in blocks])


def _stacked(lines: Sequence[np.ndarray]) -> np.ndarray:
    width = max(line.shape[1] for line in lines)
    return np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0))) for line in lines])


def grid_rows(rows: Sequence[Row], count: int = MOST_ROWS) -> list[Row]:
    """At most ``count`` faces, spread evenly over sets, sizes and families."""
    rows = sorted(rows, key=lambda row: (row.set, row.size, row.family, row.person, row.file, row.draw))
    if len(rows) <= count:
        return rows
    return [rows[int((number + 0.5) * len(rows) / count)] for number in range(count)]


def write_sheets(target: Path, rows: Sequence[Row], worst: Sequence[Row]) -> list[str]:
    """Writes ``grid.png`` and ``worst.png`` where there is something to show; returns their names."""
    written = []
    columns = GRID if main_method(rows) in GRID else None
    for name, chosen, shown in (("grid.png", grid_rows(rows), columns), ("worst.png", worst, None)):
        picture = faces_sheet(target, chosen, shown)
        if picture is not None:
            Image.fromarray(picture).save(target / name)
            written.append(name)
    return written


def _write(bar: np.ndarray, text: str, x: int) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(bar, plain, (x, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)

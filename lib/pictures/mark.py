"""The mark by which our results are known again: a text in the PNG."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .opening import large_pictures

MARK = "personal-restore"


def result_mark() -> PngInfo:
    """To be saved with a result."""
    text = PngInfo()
    text.add_text(MARK, "result")
    return text


def is_marked(path: Path) -> bool:
    """Whether a file is a picture with the mark. What cannot be read has none."""
    try:
        with large_pictures(), Image.open(path) as picture:
            return MARK in picture.info
    except Exception:  # Pillow's readers raise anything
        return False

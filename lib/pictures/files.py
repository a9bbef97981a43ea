"""Reads picture files of any format into the common layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .opening import levels, opened_picture, upright

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)

VIDEOS = frozenset(
    [".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"]
)


def is_picture(path: Path) -> bool:
    """Whether the file name is that of a picture. Hidden files, such as thumbnails and resource forks, are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def pictures_below(folder: Path) -> list[Path]:
    """All pictures in a folder and in the folders below it, sorted; links to folders, which may form a circle, are not entered."""
    return sorted(path for path in folder.rglob("*") if is_picture(path))


def is_video(path: Path) -> bool:
    """Whether the file name is that of a video."""
    return path.suffix.lower() in VIDEOS


def read_picture(path: str | Path) -> Tensor:
    """Any picture Pillow can open as float32 ``[3, H, W]`` in 0..1, upright (EXIF orientation applied).

    Gray becomes three equal channels, a palette is looked up, 16 bits keep their precision, alpha is dropped.
    Raises UserError, naming the file but not its folder, if it cannot be read.
    """
    with opened_picture(Path(path)) as file:
        return from_pil(upright(file.image))


def read_reduced(path: str | Path, shortest: int) -> tuple[Tensor, bool]:
    """As `read_picture`, but a JPEG is decoded at the half, the quarter or the eighth of its size if its shorter side keeps ``shortest``
    pixels, which takes a fraction of the time; and whether that was done."""
    with opened_picture(Path(path)) as file:
        size = file.image.size
        file.image.draft(None, (shortest, shortest))
        return from_pil(upright(file.image)), file.image.size != size


def from_pil(image: Image.Image) -> Tensor:
    """float32 ``[3, H, W]`` in 0..1, whatever the mode."""
    grey = levels(image)  # Pillow would clip 16-bit gray at 255 instead of scaling it
    if grey is not None:
        return torch.from_numpy(grey)[None].repeat(3, 1, 1)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def to_pil(picture: Tensor) -> Image.Image:
    """``[3, H, W]``, clamped to 0..1 and rounded to 256 levels."""
    return Image.fromarray((picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8))

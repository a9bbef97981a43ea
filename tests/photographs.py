"""Pictures as files, and the command that restores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from personal_restore.cli.main import main
from PIL import Image


def picture(path: Path, photo: torch.Tensor, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((photo[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(path, **options)
    return path


def restore(*arguments) -> int:
    return main(["restore", *map(str, arguments)])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))

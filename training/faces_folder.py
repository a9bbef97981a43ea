"""Pictures of faces from a folder, one by one: what a prior and a base model learn from is too much to be kept in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from ..lib.pictures.files import pictures_below, read_picture
from ..lib.vocabulary import UserError


def pictures_in(folder: Path, node: str) -> list[Path]:
    """All pictures in a folder and below. Raises UserError, which begins with the node's name, if there are none."""
    files = pictures_below(folder)
    if not files:
        raise UserError(
            f"{node}: {folder.name} contains no pictures. Put photographs of faces there, one face in the middle of each."
        )
    return files


class FaceFiles(Dataset):
    """Item i: ``{"picture": [3, side, side]}`` in 0..1 of a file drawn with the seed i; endless by construction.

    crops: how often it is a random part at the picture's own scale, where that is large enough, and not the largest square in the
    middle (PFStorer trains its base model on as many crops as whole faces). Half of them are mirrored.
    """

    def __init__(self, files: list[Path], side: int, length: int, crops: float = 0.0, seed: int = 0):
        self.files, self.side, self.length, self.crops, self.seed = files, side, length, crops, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        picture = read_picture(self.files[rng.integers(len(self.files))])
        height, width = picture.shape[-2:]
        cropped, mirrored = rng.random(2) < (self.crops, 0.5)
        inside = self.side if cropped and min(height, width) >= self.side else min(height, width)
        if inside == self.side and cropped:
            top, left = rng.integers(0, (height - inside + 1, width - inside + 1))
        else:
            top, left = (height - inside) // 2, (width - inside) // 2
        square = picture[:, top : top + inside, left : left + inside]
        if inside != self.side:
            square = F.interpolate(square[None], (self.side, self.side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        return {"picture": square.flip(-1) if mirrored else square}

"""Further training of FaDeX's projector, with more negatives than a queue holds: features of many operators, computed
once.

The features, and with them the tokens, do not change; only the separation of operators does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from ..models.embedded.fadex import FaDeX
from .data import Groups
from .fadex import label_aware_info_nce


@torch.no_grad()
def features(path: Path, groups: Groups, fadex: FaDeX) -> np.ndarray:
    """GAP(Z) of the two pairs of every group, ``[N, 2, C]``, stored in ``path``; an interrupted run resumes."""
    width = fadex.mlp[0].in_features
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, "w+", np.float32, (len(groups), 2, width))  # of zeros, which no pair gives
    found = np.load(path, mmap_mode="r+")
    fadex.eval()
    place = next(fadex.parameters()).device
    for index in tqdm(np.flatnonzero(~found.any((1, 2))), "features of operators", mininterval=5):
        group = groups[int(index)]
        pairs = torch.cat([group["clean"], group["damaged"]], 1).to(place)
        found[index] = fadex(pairs.contiguous(memory_format=torch.channels_last)).mean((-2, -1)).cpu()
    found.flush()
    return found


class Draws(Dataset):
    """Item i: the features ``[2, C]`` of an operator drawn by the seed i, and its label."""

    def __init__(self, found: np.ndarray, seed: int, length: int):
        self.found, self.seed, self.length = found, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        label = int(np.random.default_rng((self.seed, index)).integers(len(self.found)))
        return {"features": torch.from_numpy(np.array(self.found[label])), "label": torch.tensor(label)}


class ProjectorLoss(nn.Module):
    """Each pair's code among those of all the other pictures in the batch, both ways.

    spread: ``[C]``, of the features over the operators; a share of it is added as noise, so that few operators last longer.
    """

    def __init__(self, mlp: nn.Module, spread: torch.Tensor, jitter: float = 0.15):
        super().__init__()
        self.mlp = mlp
        self.register_buffer("noise", jitter * spread)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen, labels = batch["features"], batch["label"]
        first, second = self.mlp(seen + self.noise * torch.randn_like(seen)).float().unbind(1)
        ways = [label_aware_info_nce(a, b, labels, labels) for a, b in ((first, second), (second, first))]
        return {"loss": sum(ways) / 2}

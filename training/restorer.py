"""Trains the one-step restorer: first blind to the damage, then guided by the tokens of another picture's pair."""

from __future__ import annotations

import torch
from torch import nn

from ..models.fadex import FaDeX
from ..models.mapnet import MapNet
from ..models.one_step import OneStepNet


def swapped(groups: torch.Tensor) -> torch.Tensor:
    """``[G, 2, ...]`` to ``[2 G, ...]`` with the two of every group exchanged: each picture's partner under the same operator."""
    return groups.flip(1).flatten(0, 1)


def random_window(pictures: torch.Tensor, smallest: int) -> torch.Tensor:
    """The same square window of all, of random side from ``smallest`` up: faces come in every size."""
    side = int(torch.randint(smallest, pictures.shape[-1] + 1, ()))
    top, left = (int(torch.randint(0, pictures.shape[-1] - side + 1, ())) for _ in range(2))
    return pictures[..., top : top + side, left : left + side]


@torch.no_grad()
def half_restored(pairs: torch.Tensor, restorer: OneStepNet) -> torch.Tensor:
    """``[B, 6, H, W]`` with the true high-quality picture of a random half replaced by the blind restoration of the damaged
    one: a restored face is never perfect, and what reads damage from it must not count on that."""
    true, damaged = pairs.chunk(2, 1)
    restored = restorer(damaged).clamp(0, 1).float()
    imperfect = torch.rand(len(pairs), 1, 1, 1, device=pairs.device) < 0.5
    return torch.cat([torch.where(imperfect, restored, true), damaged], 1)


class BlindLoss(nn.Module):
    """L1 of the restorer on its null tokens."""

    def __init__(self, net: OneStepNet):
        super().__init__()
        self.net = net

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        return {"loss": (self.net(damaged) - clean).abs().mean()}


class GuidedLoss(nn.Module):
    """L1 of the restorer and MapNet on the tokens of the partner's pair.

    Tokens are dropped at random, so that the restorer stays good without a face.
    """

    def __init__(self, net: OneStepNet, mapnet: MapNet, fadex: FaDeX, drop: float = 0.3):
        super().__init__()
        self.net, self.mapnet, self.drop = net, mapnet, drop
        self.frozen = [fadex.eval().requires_grad_(False)]  # in a list: neither trained nor saved with this module

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        pairs = random_window(torch.cat([swapped(batch["clean"]), swapped(batch["damaged"])], 1), 32)
        pairs = half_restored(pairs, self.net)
        with torch.no_grad():
            features = self.frozen[0](pairs)
        tokens = self.mapnet(features)
        dropped = torch.rand(len(tokens), 1, 1, device=tokens.device) < self.drop
        tokens = torch.where(dropped, self.net.null_tokens.to(tokens), tokens)
        error = (self.net(damaged, tokens) - clean).abs().mean((1, 2, 3))
        kept = ~dropped.flatten()
        share = lambda chosen: (error * chosen).sum() / chosen.sum().clamp(min=1)  # noqa: E731
        return {"loss": error.mean(), "guided": share(kept).detach(), "blind": share(~kept).detach()}


class ContrastLoss(nn.Module):
    """FaDeX's loss on pairs of two pictures under the same operator; the high-quality side true or blindly restored."""

    def __init__(self, contrast: nn.Module, restorer: OneStepNet):
        super().__init__()
        self.contrast = contrast
        self.frozen = [restorer.eval().requires_grad_(False)]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        pairs = []
        for view in range(2):
            clean, damaged = batch["clean"][:, view], batch["damaged"][:, view]
            window = random_window(torch.cat([clean, damaged], 1), 48)
            pairs.append(half_restored(window, self.frozen[0]))
        return {"loss": self.contrast(*pairs, batch["label"])}


class GaugeLoss(nn.Module):
    """L1 of the readable scalars from frozen features, over true and blindly restored pairs."""

    def __init__(self, gauge: nn.Module, fadex: FaDeX, restorer: OneStepNet):
        super().__init__()
        self.gauge = gauge
        self.frozen = [fadex.eval().requires_grad_(False), restorer.eval().requires_grad_(False)]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        window = random_window(torch.cat([batch["clean"][:, 0], batch["damaged"][:, 0]], 1), 48)
        pairs = half_restored(window, self.frozen[1])
        with torch.no_grad():
            features = self.frozen[0](pairs)
        error = (self.gauge(features.float()) - batch["scalars"]).abs().mean(0)
        return {"loss": error.mean(), **dict(zip(("blur", "noise", "jpeg", "downscale"), error.detach(), strict=True))}

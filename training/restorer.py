"""The training losses: of the restorer, first blind, then guided by the tokens of another picture's pair; and of FaDeX
in between."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..models.embedded.fadex import FaDeX
from ..models.embedded.mapnet import MapNet
from ..models.embedded.one_step import OneStepNet


def swapped(groups: torch.Tensor) -> torch.Tensor:
    """``[G, 2, ...]`` to ``[2 G, ...]`` with the two of every group exchanged: each picture's partner under the same operator."""
    return groups.flip(1).flatten(0, 1)


def random_window(pictures: torch.Tensor, smallest: int) -> torch.Tensor:
    """The same square window of all, of random side from ``smallest`` up in steps of 16: faces come in every size."""
    whole = pictures.shape[-1]
    side = int(torch.randint(min(smallest, whole) // 16, whole // 16 + 1, ())) * 16
    top, left = (int(torch.randint(0, whole - side + 1, ())) for _ in range(2))
    return pictures[..., top : top + side, left : left + side]


@torch.no_grad()
def imperfect(pairs: torch.Tensor, restorer: OneStepNet, share: float) -> torch.Tensor:
    """``[B, 6, H, W]`` with the true high-quality picture of the first ``share`` replaced by the blind restoration of the damaged
    one: a restored face is never perfect, and the networks that estimate damage must not rely on that."""
    count = round(len(pairs) * share)
    if not count:
        return pairs
    damaged = pairs[:count, 3:]
    restored = torch.cat([restorer(damaged).clamp(0, 1).float(), damaged], 1)
    return torch.cat([restored, pairs[count:]])


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

    Tokens are dropped at random, so that the restorer still works without a face. Online negatives (Face2Scene, section 3.4; S3Diff):
    now and then the target is the damaged picture itself and the prompt the negative one.
    """

    def __init__(self, net: OneStepNet, mapnet: MapNet, fadex: FaDeX, drop: float = 0.25, negative: float = 0.05):
        super().__init__()
        self.net, self.mapnet, self.drop, self.negative = net, mapnet, drop, negative
        self.frozen = [fadex.eval().requires_grad_(False)]  # in a list: neither trained nor saved with this module

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        pairs = random_window(torch.cat([swapped(batch["clean"]), swapped(batch["damaged"])], 1), 32)
        with torch.no_grad():
            features = self.frozen[0](imperfect(pairs, self.net, 0.5))
        with sdpa_kernel(SDPBackend.MATH):  # to so few places, the fused attention takes longer
            tokens = self.mapnet(features)
        dropped, negative = (
            torch.rand(len(tokens), 1, 1, device=tokens.device) < share for share in (self.drop, self.negative)
        )
        tokens = torch.where(dropped, self.net.null_tokens.to(tokens), tokens)
        target = torch.where(negative[..., None], damaged, clean)
        error = (self.net(damaged, tokens, negative=negative) - target).abs().mean((1, 2, 3))
        dropped, negative = dropped.flatten(), negative.flatten()

        def share(chosen):
            return ((error * chosen).sum() / chosen.sum().clamp(min=1)).detach()

        return {
            "loss": error.mean(),
            "guided": share(~dropped & ~negative),
            "blind": share(dropped & ~negative),
            "negative": share(negative),
        }


class ReadingLoss(nn.Module):
    """L1 of the readable scalars, over true and imperfectly restored pairs: teaches FaDeX and gauge together what to look for."""

    def __init__(self, gauge: nn.Module, fadex: FaDeX, restorer: OneStepNet):
        super().__init__()
        self.gauge, self.fadex = gauge, fadex
        self.frozen = [restorer.eval().requires_grad_(False)]

    def pairs(self, batch: dict[str, torch.Tensor], view: int) -> torch.Tensor:
        """``[B, 6, h, w]`` of the first or second picture of every group; never restored for both."""
        window = random_window(torch.cat([batch["clean"][:, view], batch["damaged"][:, view]], 1), 64)
        if view:
            window = window.flip(0)
        made = imperfect(window, self.frozen[0], 0.25)
        return (made.flip(0) if view else made).contiguous(memory_format=torch.channels_last)

    def read(self, features: torch.Tensor, scalars: torch.Tensor) -> dict[str, torch.Tensor]:
        error = (self.gauge(features.float()) - scalars).abs().mean(0)
        return {"loss": error.sum(), **dict(zip(("blur", "noise", "jpeg", "downscale"), error.detach(), strict=True))}

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return self.read(self.fadex(self.pairs(batch, 0)), batch["scalars"])


class ContrastLoss(ReadingLoss):
    """FaDeX's contrastive loss on pairs of two pictures under the same operator, and the readable scalars from the same features."""

    def __init__(self, contrast: nn.Module, gauge: nn.Module, restorer: OneStepNet):
        super().__init__(gauge, contrast.query, restorer)
        self.contrast = contrast

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        features = self.fadex(self.pairs(batch, 0))
        reading = self.read(features, batch["scalars"])
        contrast = self.contrast(features, self.pairs(batch, 1), batch["label"])
        return {**reading, "loss": contrast + reading["loss"], "contrast": contrast.detach()}

"""LPIPS (Zhang et al. 2018, version 0.1 on VGG16): the perceptual distance of two pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torchvision.models import VGG, vgg16

from ..lib.vocabulary import UserError
from ..models.shared.catalogue import find
from ..models.shared.public_weights import load_public

log = logging.getLogger(__name__)

BLOCKS = (4, 9, 16, 23, 30)  # where each of VGG16's five blocks ends, after its last ReLU
WIDTHS = (64, 128, 256, 512, 512)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for pictures in 0..1


class LPIPS(nn.Module):
    """linear: `weigher`, one weight per channel of every block. Frozen."""

    def __init__(self, vgg: VGG, linear: nn.ModuleDict):
        super().__init__()
        self.blocks = nn.ModuleList(vgg.features[a:b] for a, b in zip((0, *BLOCKS), BLOCKS, strict=False))
        for layer in self.blocks.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # a block's output is compared and passed on
        self.linear = linear
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("spread", torch.tensor(SPREAD).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, 3, H, W]`` in 0..1 to ``[B]``; 0 for the same."""
        x = (torch.cat([one, other]) - self.mean) / self.spread
        total = torch.zeros(len(one), device=x.device)
        for index, block in enumerate(self.blocks):
            x = block(x)
            unit = (
                x.float() / (x.float().square().sum(1, keepdim=True) + 1e-10).sqrt()
            )  # the root's slope at 0 is infinite
            a, b = unit.chunk(2)
            total = total + self.linear[f"lin{index}"]["model"]((a - b).square()).float().mean((1, 2, 3))
        return total


def weigher() -> nn.ModuleDict:
    """The linear layers under their public names."""

    def layer(width):
        return nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))

    return nn.ModuleDict({f"lin{i}": nn.ModuleDict({"model": layer(width)}) for i, width in enumerate(WIDTHS)})


def load_lpips(vgg: Path, linear: Path) -> LPIPS:
    """From torchvision's VGG16 and LPIPS's own linear layers. Raises UserError that names file and tensor."""
    network = load_public(vgg16(), vgg, "torchvision's VGG16 (IMAGENET1K_V1)")
    return LPIPS(network, load_public(weigher(), linear, "LPIPS's linear layers for VGG, version 0.1"))


def at_hand(folders: Sequence[Path]) -> LPIPS | None:
    """From the models folders; None, and a log message that lists the missing files, if it is not there."""
    try:
        files = find("vgg16", folders), find("lpips-vgg", folders)
    except UserError as error:
        log.warning("Without LPIPS: %s", error)
        return None
    return load_lpips(*files)

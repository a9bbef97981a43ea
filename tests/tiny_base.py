"""A diffusion base of random weights for faces of 32x32, none of them 0, so that every part has an effect."""

from __future__ import annotations

import torch
from personal_restore.models.embedded.tiny_diffusion import TinyDiffusion

BASE = "small 000"


class Small(TinyDiffusion):
    native_size = 32


def small_base() -> Small:
    torch.manual_seed(0)
    net = Small(width=32).eval().requires_grad_(False)
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return net

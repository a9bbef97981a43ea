"""FaDeX: extracts the degradation from a restored face and the damaged one (Face2Scene, section 3.2).

The layer plan is that of DASR's encoder (the only public MoCo network with exactly conv 3x3, BatchNorm, LeakyReLU and 256
channels) with six input channels; parameter names are the public ones, so that its checkpoints load. The embedded one also reads
the spectra of the pair: convolutions learn slowly what a transfer function shows directly.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .pair_spectrum import SpectrumReader


class FaDeX(nn.Module):
    """widths: channels at full, half and quarter resolution; the paper's are (64, 128, 256). spectrum is ours, not the paper's.

    stride: pixels of the pair per place of Z along each side, 4 as in DASR or 2. MapNet halves Z once more, so that a face of 16 px
    gives its finest grid of 4x4 tokens four places of their own with 4, and sixteen with 2, which is what the paper says.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 128, 256),
        in_channels: int = 6,
        spectrum: bool = False,
        stride: int = 4,
    ):
        super().__init__()
        a, b, c = widths
        layers: list[nn.Module] = []
        plan = [(in_channels, a, 1), (a, a, 1), (a, b, 2), (b, b, 1), (b, c, stride // 2), (c, c, 1)]
        for inside, outside, step in plan:
            layers += [nn.Conv2d(inside, outside, 3, step, 1), nn.BatchNorm2d(outside), nn.LeakyReLU(0.1)]
        self.E = nn.Sequential(*layers)
        self.spectrum = SpectrumReader(c) if spectrum else None
        self.mlp = nn.Sequential(nn.Linear(c, c), nn.LeakyReLU(0.1), nn.Linear(c, c))

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        """Feature map Z. pair: ``[B, 6, H, W]`` in 0..1, the high-quality picture first; Z: ``[B, C, H / stride, W / stride]``."""
        features = self.E(pair)
        return features if self.spectrum is None else features + self.spectrum(pair)[..., None, None]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """u = MLP(GAP(Z)), ``[B, C]``: what the contrastive loss sees, before normalization."""
        return self.mlp(features.mean((-2, -1)))


class InPrecision(nn.Module):
    """Hands on in a precision."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.dtype)


def without_batch_norms(layers: nn.Sequential, dtype: torch.dtype) -> nn.Sequential:
    """FaDeX's ``E`` for inference: batch statistics are part of the convolutions before them, and all but the first of these
    compute in ``dtype``. The first sees a picture, whose noise is less than bfloat16 rounds off.
    """
    convolutions, norms, activations = layers[::3], layers[1::3], layers[2::3]
    first, *others = map(fuse_conv_bn_eval, convolutions, norms)
    rest = [layer for pair in zip(others, activations[1:], strict=True) for layer in pair]
    return nn.Sequential(first, activations[0], InPrecision(dtype), *(layer.to(dtype) for layer in rest))

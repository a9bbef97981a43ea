"""What a pair of pictures says about the damage between them in the frequency domain, whatever the pictures show.

A blur multiplies the spectrum, noise adds to it. Averaged over windows, the cross-spectrum of both pictures over the spectrum
of the good one is the transfer function, and what it does not explain is the spectrum of the noise (Welch's method; the
H1 estimator and the coherent residual of system identification).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WINDOW = 32  # pixels: resolves a transfer function as narrow as that of a blur of sigma 5
FLOOR = 1e-6  # power of the rounding to 8 bits: below it a spectrum says nothing
OPPONENT = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))  # JPEG's Y, Cb, Cr


def pair_spectrum(pair: torch.Tensor) -> torch.Tensor:
    """Transfer function, log residual power and log power of the good picture, ``[B, 6, 32, 17]``, for Y and for Cb and Cr together.

    pair: ``[B, 6, H, W]`` in 0..1, the high-quality picture first; smaller than a window it is continued by its border.
    Powers are variances per frequency in float32, scaled to about -1..1.
    """
    height, width = pair.shape[-2:]
    padded = F.pad(pair.float(), (0, max(WINDOW - width, 0), 0, max(WINDOW - height, 0)), mode="replicate")
    views = torch.einsum("oc,bpchw->bpohw", pair.new_tensor(OPPONENT, dtype=torch.float32), padded.unflatten(1, (2, 3)))
    taper = torch.hann_window(WINDOW, periodic=True, device=pair.device)
    taper = taper[:, None] * taper
    windows = (
        views.unfold(-2, WINDOW, WINDOW // 2).unfold(-2, WINDOW, WINDOW // 2).flatten(3, 4)
    )  # [B, 2, 3, N, 32, 32]
    good, bad = torch.fft.rfft2((windows - windows.mean((-2, -1), keepdim=True)) * taper / taper.norm()).unbind(1)

    def mean(x):
        return torch.stack([x[:, 0].mean(1), x[:, 1:].mean((1, 2))], 1)  # Y alone, Cb with Cr

    power, damaged = mean(good.abs().square()), mean(bad.abs().square())
    cross = mean(bad * good.conj())
    residual = (damaged - cross.abs().square() / (power + FLOOR)).clamp(min=0)

    def scaled(x):
        return (x + FLOOR).log() / 7 + 1

    return torch.cat([cross.real / (power + FLOOR), scaled(residual), scaled(power)], 1)


class SpectrumReader(nn.Module):
    """The spectrum of a pair as one vector ``[B, C]``; zero before training."""

    def __init__(self, channels: int, hidden: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(6 * WINDOW * (WINDOW // 2 + 1), hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, channels),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        with torch.autocast(pair.device.type, enabled=False), torch.no_grad():
            spectrum = pair_spectrum(pair)
        return self.layers(spectrum)

"""A diffusion model small enough to ship (5 MB), on which every way of making a persona runs without downloads.

It is built as Stable Diffusion with DiffBIR's ControlNet is: diffusers' UNet that predicts noise, a ControlNet that is shown the
latent of the damaged picture, cleaned, beside the noisy one, and text. Pixel-unshuffle replaces the VAE, a learned
table of words in that of the text encoder. It was trained on procedural pictures and has never seen a face.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import nn

from ...lib.diffusion.base import Diffusion
from ...lib.diffusion.noise_schedule import NoiseSchedule, stable_diffusion_schedule
from ..diffbir.controlnet import DiffBIRControlNet

WORDS = ("dark", "bright", "grey", "red", "green", "blue", "smooth", "busy", "clean", "damaged")  # what captions say
LENGTH = 12  # tokens of a prompt


class TokenTable(nn.Module):
    """Text to embeddings: one row for the end of the text, one per word of the captions, and ``buckets`` for all other words.

    A word falls into a bucket by its checksum. No caption had those rows, so they are what a rare token is to a text encoder:
    pivots that mean nothing yet.
    """

    end = 0

    def __init__(self, width: int, buckets: int = 64):
        super().__init__()
        self.buckets = buckets
        self.rows = nn.Parameter(torch.randn(1 + len(WORDS) + buckets, width) * 0.5)

    def row(self, word: str) -> int:
        """Where a word is in the table."""
        word = word.lower()
        return 1 + (WORDS.index(word) if word in WORDS else len(WORDS) + zlib.crc32(word.encode()) % self.buckets)

    def indices(self, prompts: Iterable[str]) -> torch.Tensor:
        """int64 ``[B, 12]``: the first words of every prompt, then the end of the text, repeated."""
        rows = [[self.row(word) for word in re.findall(r"[^\s,.]+", prompt)[: LENGTH - 1]] for prompt in prompts]
        return torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])

    def forward(self, indices: torch.Tensor, learnt: tuple[int, torch.Tensor] | None = None) -> torch.Tensor:
        """``[B, 12]`` to ``[B, 12, width]``. learnt: a row and what stands in its place ``[width]``."""
        indices = indices.to(self.rows.device)
        embedded = self.rows[indices]
        if learnt is None:
            return embedded
        row, word = learnt
        return torch.where((indices == row)[..., None], word.to(embedded), embedded)


def frequency_rows(side: int) -> torch.Tensor:
    """Rows that turn a pixel-unshuffled color picture into spatial frequencies (DCT-II) of lightness and two opponent colors.

    Orthonormal ``[3 side^2, 3 side^2]``: white noise stays white.
    """
    place, wave = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy")
    cosines = torch.cos(torch.pi * (place + 0.5) * wave / side) * (2 / side) ** 0.5
    cosines[0] /= 2**0.5
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
    return torch.kron(F.normalize(colours), torch.kron(cosines, cosines))


class TinyDiffusion(Diffusion):
    """From outside it predicts noise in pixels. Inside, the UNet sees frequencies, each scaled to unit variance, and predicts what the
    best linear estimate of the clean picture lacks (the preconditioning of Karras et al. 2022, section 5, per frequency): so few
    channels could not carry all the noise through, and what they lose would stay in the picture.

    unshuffle: pixels per latent place and side; width: channels of all three levels, a multiple of 32.
    """

    native_size = 128
    places = ("up_blocks.0.attentions.0", "up_blocks.0.attentions.1")

    def __init__(self, unshuffle: int = 4, width: int = 64):
        super().__init__()
        channels = 3 * unshuffle**2
        self.unshuffle = unshuffle
        self.unet = UNet2DConditionModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=(width,) * 3,
            layers_per_block=1,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=width // 32,  # what diffusers calls so is the number of heads
            use_linear_projection=True,
            time_embedding_dim=width,
            resnet_time_scale_shift="scale_shift",
        )
        self.control = DiffBIRControlNet(
            channels, channels, width, (1, 1, 1), 1, (), num_head_channels=32, context_dim=width
        )
        self.text = TokenTable(width)
        self.register_buffer("basis", frequency_rows(unshuffle), persistent=False)
        self.register_buffer("variance", torch.ones(channels))  # of the clean pictures, per frequency

    @property
    def schedule(self) -> NoiseSchedule:
        return stable_diffusion_schedule()

    @property
    def multiple(self) -> int:
        """Sides of a picture are multiples of this."""
        return self.unshuffle * 4

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """``[B, 3, H, W]`` in 0..1 to a latent ``[B, 48, H / 4, W / 4]`` in -1..1. Exact."""
        return F.pixel_unshuffle(picture * 2 - 1, self.unshuffle)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(latent, self.unshuffle) / 2 + 0.5

    def shown(self, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Frequencies of unit variance."""
        _, total = self._spread(noisy, t)
        return self._turned(noisy) / total.sqrt()

    def told(self, hint: torch.Tensor) -> torch.Tensor:
        return self._turned(hint) / self.variance.view(1, -1, 1, 1).sqrt()

    def noise(self, predicted: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        left, (share, total) = self.left(noisy, t), self._spread(noisy, t)
        noise = (1 - left).sqrt() / total * self._turned(noisy) - (left * share).sqrt() * predicted
        return torch.einsum("co,bchw->bohw", self.basis, noise)

    @torch.no_grad()
    def measure(self, pictures: torch.Tensor) -> None:
        """Takes the variance of the frequencies from ``[N, 3, S, S]`` in 0..1.

        Not below 1e-3: the highest are next to nothing in clean pictures, but not in what the control is shown.
        """
        self.variance.copy_(self._turned(self.encode(pictures)).square().mean((0, 2, 3)).clamp(min=1e-3))

    def _turned(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,bchw->bohw", self.basis, latent)

    def _spread(self, latent: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of every frequency at time steps ``[B]``: the clean picture's variance over the noisy one's, and the latter."""
        left, variance = self.left(latent, t), self.variance.view(1, -1, 1, 1)
        total = left * variance + 1 - left
        return variance / total, total

    def loss(self, predicted: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Squared error of the noise ``[B, C, h, w]`` per picture, as that of the clean picture over that of the best linear
        estimate, so that no time step dominates: ``[B]``."""
        share, _ = self._spread(noise, t)
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        return error / (self.left(noise, t) * share.mean(1, keepdim=True)).flatten()

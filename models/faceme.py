"""FaceMe's own networks: how several pictures of a person become words of a prompt.

FaceMe (Liu et al., AAAI 2025); code and weights modyu-liu/FaceMe. Every reference picture is seen twice, by PhotoMaker's
CLIP and by ArcFace; ``Mix`` makes one token of the two, which stands in the prompt where the word "face" stood.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..vocabulary import UserError
from .public_weights import advice, fill, read_public

PUBLIC = 2048, 512  # CLIP (768 + 1280 of PhotoMaker) and ArcFace


class Perceptron(nn.Module):
    """Layer normalisation, two linear layers, GELU between them; residual where it leads back to its own width."""

    def __init__(self, wide_in: int, wide_out: int, residual: bool):
        super().__init__()
        self.layernorm = nn.LayerNorm(wide_in)
        self.fc1 = nn.Linear(wide_in, wide_out)
        self.fc2 = nn.Linear(wide_out, wide_out)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))
        return x + out if self.residual else out


class IdentityProjection(nn.Module):
    """ArcFace's ``[B, D]`` to ``[B, 4 D]``, the width of a word."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp1 = Perceptron(width, 2 * width, False)
        self.mlp2 = Perceptron(2 * width, 2 * width, True)
        self.mlp3 = Perceptron(2 * width, 4 * width, False)
        self.mlp4 = Perceptron(4 * width, 4 * width, True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp4(self.mlp3(self.mlp2(self.mlp1(x))))


class Mix(nn.Module):
    """CLIP embedding ``[B, W]`` and unit ArcFace embedding ``[B, D]``, W = 4 D, to one word each, ``[B, W]``.

    Parameters bear the names of the public mix.safetensors, where norm1, which comes between the two, stands last.
    """

    def __init__(self, clip_width: int = PUBLIC[0], identity_width: int = PUBLIC[1]):
        super().__init__()
        self.pro_id = IdentityProjection(identity_width)
        self.mlp1 = Perceptron(clip_width + 4 * identity_width, clip_width, False)
        self.mlp2 = Perceptron(clip_width, clip_width, True)
        self.norm1 = nn.LayerNorm(clip_width)

    def forward(self, clip: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        return self.mlp2(self.norm1(self.mlp1(torch.cat([clip, self.pro_id(identity)], -1))))


def load_mix(path: Path) -> Mix:
    """From the public mix.safetensors, or the same tensors by torch.save; widths are read from it.

    Raises UserError for a missing or damaged file and for the weights of another network.
    """
    what = "FaceMe's mix.safetensors (thomas2modyu/FaceMe, Pi-Lab License 1.0)"
    tensors = read_public(path, what)
    try:
        widths = tensors["norm1.weight"].numel(), tensors["pro_id.mlp1.layernorm.weight"].numel()
    except KeyError as error:
        raise UserError(f"{path.name} is not FaceMe's mix: it lacks {error.args[0]}. {advice(what)}") from error
    return fill(Mix(*widths), tensors, path.name, advice(what))

"""The adversarial loss of Face2Scene (section 3.4): classifiers on several levels of a frozen DINO.

As in vision-aided GANs (Kumari et al. 2022), which the paper follows: two levels of patches and the last class token, spectral
normalization, sigmoid cross-entropy with .8 for real. Their blur before the last stride is average pooling here; their
augmentation of the pictures is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ..lib.vocabulary import UserError
from .perceptual import MEAN, SPREAD

REAL = 0.8  # the label of a real picture: a classifier that is never certain keeps providing gradients


class Heads(nn.Module):
    """The trained part: one classifier per level. width: of DINO's features."""

    def __init__(self, width: int, hidden: int = 256):
        super().__init__()
        self.patches = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(width, hidden, 3, padding=1)),
                nn.LeakyReLU(0.2),
                nn.AvgPool2d(2, ceil_mode=True),
                spectral_norm(nn.Conv2d(hidden, 1, 1)),
            )
            for _ in range(2)
        )
        self.whole = nn.Sequential(
            spectral_norm(nn.Linear(width, hidden)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(hidden, 1))
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor, token: torch.Tensor) -> list[torch.Tensor]:
        """Levels of patches ``[B, C, h, w]`` and the class token ``[B, C]`` to logits per level."""
        return [head(level) for head, level in zip(self.patches, (first, second), strict=True)] + [self.whole(token)]


class Critic(nn.Module):
    """backbone: transformers' ViTModel, frozen; heads are trained."""

    def __init__(self, backbone: Any):
        super().__init__()
        self.heads = Heads(backbone.config.hidden_size)
        self.frozen = [backbone.eval().requires_grad_(False)]  # in a list: neither trained nor saved with this module

    def for_generator(self, made: torch.Tensor) -> torch.Tensor:
        """The generator's loss for pictures ``[B, 3, H, W]`` in 0..1; gives the heads no gradient."""
        self.heads.requires_grad_(False)
        loss = _loss(self._judge(made), REAL)
        self.heads.requires_grad_(True)
        return loss

    def for_itself(self, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """The discriminator's loss on real and generated pictures; gives the generator no gradient."""
        return _loss(self._judge(real), REAL) + _loss(self._judge(made.detach()), 0.0)

    def _judge(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        (vit,) = self.frozen
        side, depth = vit.config.image_size, vit.config.num_hidden_layers
        pictures = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True)
        mean, spread = (torch.tensor(one, device=pictures.device).view(3, 1, 1) for one in (MEAN, SPREAD))
        seen = vit((pictures - mean) / spread, output_hidden_states=True)
        grid = side // vit.config.patch_size
        levels = [seen.hidden_states[depth * third // 3][:, 1:] for third in (1, 2)]
        first, second = (level.transpose(1, 2).unflatten(-1, (grid, grid)) for level in levels)
        return self.heads(first, second, seen.last_hidden_state[:, 0])


def load_discriminator(folder: Path) -> Critic:
    """On the DINO in a transformers folder, such as that of facebook/dino-vitb16. Raises UserError that names the folder."""
    from transformers import ViTModel

    try:
        return Critic(ViTModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder.name}: DINO could not be read ({error}). Download facebook/dino-vitb16 again."
        ) from error


def _loss(logits: list[torch.Tensor], label: float) -> torch.Tensor:
    return sum(F.binary_cross_entropy_with_logits(one, torch.full_like(one, label)) for one in logits)

"""An upper bound for the benefit of knowing the damage: the restorer, trained further with the *true* parameters as tokens.

Everything is as in the guided stage, but the tokens come from the recipe and not from a face. A share of them is dropped, as in that
stage, so that the same network can be measured without them. Only the trial family has a fixed set of parameters, so only that is drawn.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from ..lib.degradation.families import FAMILIES
from ..lib.degradation.recipe import Recipe
from ..lib.degradation.steps import MODES
from ..lib.pictures.metrics import psnr
from ..lib.samples import load_photographs
from ..lib.vocabulary import Place
from ..models.embedded.mapnet import TOKENS
from ..models.embedded.one_step import OneStepNet
from .data import Groups, bank
from .loop import train_loop
from .stages import Config, read_weights

PARAMETERS = 12


def parameters(recipe: Recipe) -> torch.Tensor:
    """A trial recipe's parameters ``[12]``, each on a scale of about 0..1: both sigmas and the double angle (an axis has no
    direction), downscale in octaves and its mode, noise and whether it is gray, JPEG quality."""
    steps = {step.operator: step.parameters for step in recipe.steps}
    blur, small, noise = steps["blur"], steps.get("resize"), steps.get("gaussian_noise")
    return torch.tensor(
        [
            blur["sigma_x"] / 4,
            blur["sigma_y"] / 4,
            math.cos(2 * blur["angle"]),
            math.sin(2 * blur["angle"]),
            -math.log2(small["scale"]) / 2 if small else 0.0,
            *(float(small is not None and small["mode"] == mode) for mode in MODES),
            math.sqrt(noise["sigma"] / 30) if noise else 0.0,
            float(noise is not None),
            float(noise is not None and noise["gray"]),
            steps["jpeg"]["quality"] / 100,
        ]
    )


class TrialGroups(Groups):
    """Groups with the true parameters in place of the readable scalars."""

    def describe(self, recipe: Recipe) -> torch.Tensor:
        return parameters(recipe)


class ParameterTokens(nn.Module):
    """``[B, 12]`` to ``[B, 21, token_width]``."""

    def __init__(self, token_width: int, hidden: int = 256):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(PARAMETERS, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, TOKENS * token_width), nn.Unflatten(-1, (TOKENS, token_width)), nn.LayerNorm(token_width),
        )  # fmt: skip

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layers(values)


class BoundLoss(nn.Module):
    """L1 of the restorer on the tokens of the true parameters, dropped at random."""

    def __init__(self, net: OneStepNet, tokens: ParameterTokens, drop: float = 0.3):
        super().__init__()
        self.net, self.tokens, self.drop = net, tokens, drop

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        tokens = self.tokens(batch["scalars"]).repeat_interleave(2, 0)
        dropped = torch.rand(len(tokens), 1, 1, device=tokens.device) < self.drop
        tokens = torch.where(dropped, self.net.null_tokens.to(tokens), tokens)
        error = (self.net(damaged, tokens) - clean).abs().mean((1, 2, 3))
        kept = ~dropped.flatten()

        def share(chosen):
            return ((error * chosen).sum() / chosen.sum().clamp(min=1)).detach()

        return {"loss": error.mean(), "informed": share(kept), "blind": share(~kept)}


@torch.inference_mode()
def worth(net: OneStepNet, tokens: ParameterTokens, pictures: list[torch.Tensor], draws: int = 2) -> dict[str, float]:
    """Mean PSNR on pictures ``[1, 3, H, W]`` under trial draws, without tokens and with those of the true parameters."""
    without, informed = [], []
    for number, truth in enumerate(pictures):
        for draw in range(draws):
            recipe = FAMILIES["trial"](1000 * number + draw)
            damaged = recipe.apply(truth)
            without.append(psnr(net(damaged).clamp(0, 1), truth))
            informed.append(psnr(net(damaged, tokens(parameters(recipe)[None])).clamp(0, 1), truth))
    helped = fmean(a > b for a, b in zip(informed, without, strict=True))
    return {"without": fmean(without), "informed": fmean(informed), "helped": helped}


def train_bound(folder: Path, config: Config, photos: Path, side: int, place: Place) -> dict[str, float]:
    """Trains on from ``folder``'s restorer in ``folder / "bound"``, leaves the restorer itself alone, and measures on photographs."""
    measured = [picture for _, picture in load_photographs(photos, side)]  # first: raises where there are none
    schedule = config.bound
    net = OneStepNet(**config.restorer).to(memory_format=torch.channels_last)
    net.load_state_dict(read_weights(folder, "restorer"))
    task = BoundLoss(net, ParameterTokens(config.restorer["token_width"]))
    data = replace(config.data, mixture=(("trial", 1.0),), seed=config.data.seed + schedule.seed)
    pictures = bank(folder.parent, config.data)
    optimizer = torch.optim.AdamW(task.parameters(), schedule.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98))
    drawn = partial(TrialGroups, pictures, data)
    task = train_loop(folder / "bound", task, optimizer, drawn, lambda module, batch: module(batch), schedule, place)
    task = task.cpu().eval()
    return worth(task.net, task.tokens, measured)

"""Stable Diffusion 2.1, alone or with DiffBIR's ControlNet, as a base of personas: UNet, VAE and text encoder.

Read from a diffusers folder or from the single file, .safetensors or .ckpt, that ComfyUI keeps in ``models/checkpoints``; SD-Turbo is
the same network. DiffBIR (Lin et al. 2024): v1_face.pth, v1_general.pth and v2.pth belong to Stable Diffusion 2.1 base,
DiffBIR_v2.1.pt to the velocity-predicting one with no signal left at the end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from ...lib.diffusion.base import Diffusion
from ...lib.diffusion.noise_schedule import NoiseSchedule, stable_diffusion_schedule, zero_terminal_schedule
from ...lib.vocabulary import UserError
from ..pfstorer.vico_block import SD_PLACES
from . import sd_vae
from .bases import PREDICTIONS
from .clip_words import ClipWords, load_tokenizer
from .sd_turbo import TEXT, UNET, VAE, networks, text_encoder

Config = dict[str, Any]

# In a single file nothing says what the UNet predicts; ComfyUI tells it by how far this bias spreads.
TELLTALE, SPREAD = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias", 0.09

MODEL = "Stable Diffusion"
ADVICE = (
    "Choose Stable Diffusion 2.1 base (5.2 GB) or SD-Turbo: one .safetensors or .ckpt file in models/checkpoints, or "
    "a folder with unet/, vae/ and text_encoder/ in diffusers format."
)


@dataclass(frozen=True)
class Topology:
    """The configurations, by the names of their folders in diffusers format."""

    unet: Config
    vae: Config
    text_encoder: Config


PUBLIC = Topology(UNET, VAE, TEXT)


class StableDiffusion(Diffusion):
    """velocity: what the UNet predicts; to_the_end: it was trained until nothing of the picture is left."""

    native_size = 512
    multiple = 64
    places = SD_PLACES
    large = True

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: ClipWords,
        control: nn.Module | None = None,
        velocity: bool = False,
        to_the_end: bool = False,
    ):
        super().__init__()
        self.unet, self.vae, self.text, self.control = unet, vae, text, control
        self.velocity = velocity
        schedule = zero_terminal_schedule() if to_the_end else stable_diffusion_schedule()
        self._schedule = replace(schedule, limit=None)
        with torch.no_grad():  # always the same, so the encoder need not run at every step
            self.register_buffer("quiet", self.prompt(""), persistent=False)
        self.eval().requires_grad_(False)

    @property
    def schedule(self) -> NoiseSchedule:
        return self._schedule

    def silence(self, count: int) -> torch.Tensor:
        return self.quiet.expand(count, -1, -1)

    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """0.18215 times the mode of the posterior, ``[B, 4, H / 8, W / 8]``; one picture after the other, to save memory."""
        return torch.cat([sd_vae.encode(self.vae, one * 2 - 1) for one in picture.split(1)])

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.cat([sd_vae.decode_latent(self.vae, one) / 2 + 0.5 for one in latent.split(1)])


def load_stable_diffusion(
    path: Path,
    tokenizer: Path | None = None,
    control: nn.Module | None = None,
    prediction: str = PREDICTIONS[0],
    topology: Topology = PUBLIC,
) -> StableDiffusion:
    """On the CPU, UNet and VAE in the precision of the file. tokenizer: a folder with one, None for that in path; prediction: one of
    `PREDICTIONS`.

    Raises UserError that names the file, and the tensor that does not fit.
    """
    unet, vae = networks(path, MODEL, ADVICE, topology.unet, topology.vae)
    encoder = text_encoder(path, MODEL, ADVICE, topology.text_encoder)
    words = ClipWords(encoder, load_tokenizer(tokenizer or path / "tokenizer"))
    known = _prediction(path, unet) if prediction == PREDICTIONS[0] else prediction
    return StableDiffusion(unet, vae, words, control, known != PREDICTIONS[1], known == PREDICTIONS[3])


def _prediction(path: Path, unet: UNet2DConditionModel) -> str:
    """What the UNet predicts, from the folder's scheduler or from its weights."""
    scheduler = path / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        try:
            said = json.loads(scheduler.read_text(encoding="utf-8"))
            velocity, to_the_end = said.get("prediction_type") == "v_prediction", said.get("rescale_betas_zero_snr")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path.name}/scheduler/scheduler_config.json cannot be read ({error}). {ADVICE}"
            ) from error
        return PREDICTIONS[1] if not velocity else PREDICTIONS[3] if to_the_end else PREDICTIONS[2]
    spread = unet.get_parameter(TELLTALE).float().std(correction=0)
    return PREDICTIONS[2] if spread > SPREAD else PREDICTIONS[1]

"""InstantRestore (Zhang et al., SIGGRAPH 2025): SD-Turbo restores a face in one step and looks at an album while it decodes.

A second, untouched SD-Turbo sees the references; the decoder of the tuned one searches them (`shared_attention`). The public
checkpoints have no license, so one is only ever a file that the user brings; they hold all networks, with adapters.
Steps in time, FreeU and the adapters' scale are those of the published code (snap-research/InstantRestore).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from ...lib.diffusion.noise_schedule import stable_diffusion_schedule
from ...lib.vocabulary import UserError
from ..shared import clip_text
from ..shared.fit import filled, named_tensors
from ..shared.public_weights import advice, read_file
from ..shared.sd_turbo import UNET, VAE
from ..shared.sd_vae import LATENT_SCALE
from .shared_attention import record, share

WHAT = "an InstantRestore checkpoint, such as final_model_ckpt.pt,"
NOISE, REFERENCE_NOISE = 249, 1  # time steps at which the damaged face and the references are seen
FREE_U = {"s1": 0.9, "s2": 0.2, "b1": 1.4, "b2": 1.6}
ADAPTER_SCALE = 0.5  # published adapters were made with alpha = rank / 2, whatever the rank
# "A high-quality photo of a person; professional, 8k" in the byte pairs of CLIP.
PROMPT = 320, 1400, 268, 3027, 1125, 539, 320, 2533, 282, 4774, 267, 279, 330
TEXT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu",
}  # fmt: skip


class InstantRestore(nn.Module):
    """Pictures are ``[B, 3, H, W]`` in -1..1, float32.

    text: the embedded prompt ``[1, 77, C]``; adain, own: see `SharedAttention`; the checkpoint says which it was trained with.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        reference_unet: UNet2DConditionModel,
        reference_vae: AutoencoderKL,
        text: torch.Tensor,
        adain: bool,
        own: bool,
    ):
        super().__init__()
        self.register_buffer("text", text)
        self.unet, self.vae, self.reference_unet, self.reference_vae = unet, vae, reference_unet, reference_vae
        for network in (unet, reference_unet):
            network.enable_freeu(**FREE_U)
        self.shared, self.recorders = share(unet, adain, own), record(reference_unet)

    def forward(self, picture: torch.Tensor, references: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """One damaged face ``[1, 3, H, W]`` and N references ``[N, 3, H, W]`` to the restored face.

        The generator, on the CPU, draws what the encoders and the noise need.
        """
        seen, _ = _noisy(self.reference_vae, references, REFERENCE_NOISE, generator)
        _predict(self.reference_unet, seen, REFERENCE_NOISE, self.text)
        try:
            for shared, recorder in zip(self.shared, self.recorders, strict=True):
                shared.seen = recorder.take(len(references))
            latent, left = _noisy(self.vae, picture, NOISE, generator)
            noise = _predict(self.unet, latent, NOISE, self.text)
        finally:
            for shared in self.shared:
                shared.seen = None
        clean = (latent - math.sqrt(1 - left) * noise) / math.sqrt(left)
        return self.vae.decode((clean / LATENT_SCALE).to(self.vae.dtype)).sample.float().clamp(-1, 1)


def load_instantrestore(
    path: Path,
    unet_config: dict[str, Any] = UNET,
    vae_config: dict[str, Any] = VAE,
    text_config: dict[str, Any] = TEXT,
) -> InstantRestore:
    """From a public checkpoint, in evaluation mode on the CPU, adapters fused.

    Raises UserError that names the file, and the tensor that does not fit.
    """
    content = read_file(path, WHAT)
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    settings = content.get("cfg") if isinstance(content, dict) else None
    model = settings.get("model") if isinstance(settings, dict) else None
    if not isinstance(tensors, dict) or not isinstance(model, dict):
        raise UserError(f"{path.name} has no state_dict and cfg of InstantRestore. {advice(WHAT)}")
    named_tensors(tensors, path.name, advice(WHAT))
    # Trained on several cards, every network is wrapped.
    tensors = {name.replace(".module.", "."): tensor for name, tensor in tensors.items()}
    kinds = {"unet": (UNet2DConditionModel, unet_config), "vae": (AutoencoderKL, vae_config)}

    def part(name: str) -> dict[str, torch.Tensor]:
        prefix = f"net.{name}."
        return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

    def network(name: str) -> Any:
        kind, config = kinds[name.removeprefix("original_")]
        with init_empty_weights():
            empty = kind.from_config(config)
        return filled(empty, fused(part(name)), f"{path.name} ({name})", advice(WHAT))

    networks = [network(name) for name in ("unet", "vae", "original_unet", "original_vae")]
    where = f"{path.name} (text_encoder)"
    encoder = clip_text.encoder(clip_text.empty_encoder(text_config), part("text_encoder"), where, advice(WHAT))
    with torch.no_grad():
        text = encoder(clip_text.text(PROMPT, padding=0)).last_hidden_state
    # Without these two settings the published code does as follows.
    adain, own = (bool(model.get(name, default)) for name, default in (("use_adain", False), ("train_input", True)))
    return InstantRestore(*networks, text, adain, own).eval().requires_grad_(False)


def fused(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under peft's names to those of the plain network, the adapters added to its weights."""
    plain = {name.replace(".base_layer.", "."): value for name, value in tensors.items() if ".lora_" not in name}
    for name, up in tensors.items():
        layer, found, adapter = name.partition(".lora_B.")
        if not found:
            continue
        down = tensors.get(f"{layer}.lora_A.{adapter}")
        weight = plain.get(f"{layer}.weight")
        if down is not None and weight is not None:
            share = up.float().flatten(1) @ down.float().flatten(1)
            plain[f"{layer}.weight"] = weight + ADAPTER_SCALE * share.view_as(weight)
    return plain


def _noisy(
    vae: AutoencoderKL, pictures: torch.Tensor, time: int, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    """Latents ``[B, 4, h, w]`` as they are at a time step, float32, and the share of their variance that is left there."""
    posterior = vae.encode(pictures.to(vae.dtype)).latent_dist

    def draw():
        return torch.randn(posterior.mean.shape, generator=generator).to(pictures)

    latent = (posterior.mean.float() + posterior.std.float() * draw()) * LATENT_SCALE
    schedule = stable_diffusion_schedule()
    return schedule.add_noise(latent, time + 1, draw()), schedule.left(time + 1)


def _predict(unet: UNet2DConditionModel, latent: torch.Tensor, time: int, text: torch.Tensor) -> torch.Tensor:
    text = text.expand(len(latent), -1, -1).to(latent.device, unet.dtype)
    return unet(latent.to(unet.dtype), time, encoder_hidden_states=text).sample.float()

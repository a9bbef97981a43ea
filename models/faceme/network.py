"""FaceMe: SDXL with a ControlNet that sees the damaged face, and a prompt in which pictures of the person are words.

FaceMe (Liu et al., AAAI 2025); code and weights modyu-liu/FaceMe. Every reference picture is seen twice, by PhotoMaker's
CLIP and by ArcFace; ``Mix`` makes one token of the two, which stands in the prompt where the word "face" stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ...lib.vocabulary import UserError
from ..shared import sdxl
from ..shared.fit import filled, named_tensors
from ..shared.public_weights import advice, frozen_with, read_file, read_public
from ..shared.sdxl import Prompt, Topology

PUBLIC = 2048, 512  # CLIP (768 + 1280 of PhotoMaker) and ArcFace
A_PHOTO_OF_FACE = 320, 1125, 539, 1710, 269  # "A photo of face." in the byte pairs of CLIP
PLACE = 4  # of "face" in it, after the start
CLIP_SIZE = 224
# The middle of a detector's box, left, top and side in a crop of 512 px: width 268 and center height 280 are medians of 24
# faces found by MTCNN; sideways it is the middle.
FACE_SQUARE = 122, 146, 268
VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
    "projection_dim": 768,
}  # fmt: skip
CONTROLNET = {
    name: sdxl.UNET[name]
    for name in (
        "block_out_channels", "down_block_types", "transformer_layers_per_block", "attention_head_dim", "cross_attention_dim",
        "use_linear_projection", "addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim",
    )
}  # fmt: skip


class Perceptron(nn.Module):
    """Layer normalization, two linear layers, GELU between them; residual where it leads back to its own width."""

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


class PhotoMakerEncoder(CLIPVisionModelWithProjection):
    """PhotoMaker's first version of CLIP ViT-L/14 with a second projection (Li et al. 2024), under its public names."""

    def __init__(self, config: CLIPVisionConfig, second_projection: int = 1280):
        super().__init__(config)
        self.visual_projection_2 = nn.Linear(config.hidden_size, second_projection, bias=False)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pictures ``[B, 3, 224, 224]``, normalized as CLIP wants them, to ``[B, 768 + 1280]``."""
        pooled = self.vision_model(pixel_values=pixel_values).pooler_output
        return torch.cat([self.visual_projection(pooled), self.visual_projection_2(pooled)], -1)


class FaceMe(nn.Module):
    """Everything that restores. Pictures are ``[B, 3, H, W]`` in -1..1, latents ``[B, 4, H / 8, W / 8]``, both float32."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        controlnet: ControlNetModel,
        encoder: PhotoMakerEncoder,
        mix: Mix,
        prompt: Prompt,
    ):
        super().__init__()
        self.unet, self.vae, self.controlnet, self.encoder, self.mix = unet, vae, controlnet, encoder, mix
        self.register_buffer("words", prompt.words)
        self.register_buffer("pooled", prompt.pooled)

    def person(self, faces: torch.Tensor, identities: torch.Tensor) -> torch.Tensor:
        """The prompt ``[1, 77, W]`` in which one word per reference picture stands for "face"; what is too long is cut off.

        faces: aligned crops ``[N, 3, S, S]`` in 0..1; identities: their unit ArcFace embeddings ``[N, D]``.
        """
        clip = self.encoder(clip_view(faces).to(self.encoder.dtype)).to(self.words)
        names = self.mix(clip, identities.to(self.words))[None]
        return torch.cat([self.words[:, :PLACE], names, self.words[:, PLACE + 1 :]], 1)[:, : self.words.shape[1]]

    def encode(self, picture: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """A draw from the posterior, by standard normal noise of the latent's shape, scaled."""
        posterior = self.vae.encode(picture.to(self.vae.dtype)).latent_dist
        latent = posterior.mean.float() + posterior.std.float() * noise.to(picture)
        return latent * self.vae.config.scaling_factor

    def predict(
        self, latent: torch.Tensor, time: int, picture: torch.Tensor, person: torch.Tensor, cfg: float
    ) -> torch.Tensor:
        """The noise in a latent ``[1, 4, h, w]``, guided away from the prompt that names nobody; picture: the damaged one."""
        dtype = self.unet.dtype
        text = torch.cat([self.words, person]).to(dtype)
        size = picture.shape[-2:]
        sizes = latent.new_tensor([[*size, 0, 0, *size]]).repeat(2, 1)  # original size, crop, target size
        added = {"text_embeds": self.pooled.repeat(2, 1).to(dtype), "time_ids": sizes.to(dtype)}
        both = latent.repeat(2, 1, 1, 1).to(dtype)
        given = {"encoder_hidden_states": text, "added_cond_kwargs": added, "return_dict": False}
        down, middle = self.controlnet(both, time, controlnet_cond=picture.repeat(2, 1, 1, 1).to(dtype), **given)
        (noise,) = self.unet(
            both, time, down_block_additional_residuals=down, mid_block_additional_residual=middle, **given
        )
        away, towards = noise.float().chunk(2)
        return away + cfg * (towards - away)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.vae.decode((latent / self.vae.config.scaling_factor).to(self.vae.dtype)).sample.float().clamp(-1, 1)


def clip_view(faces: torch.Tensor) -> torch.Tensor:
    """The detector's square of aligned crops ``[N, 3, S, S]`` in 0..1 as CLIP's input ``[N, 3, 224, 224]``."""
    scale = faces.shape[-1] / 512
    left, top, side = (round(value * scale) for value in FACE_SQUARE)
    square = faces[..., top : top + side, left : left + side]
    view = F.interpolate(square, (CLIP_SIZE, CLIP_SIZE), mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = (view.new_tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (view - mean) / deviation


@dataclass(frozen=True)
class Files:
    """base: an SDXL checkpoint or diffusers folder; controlnet, mix: FaceMe's; photomaker: photomaker-v1.bin."""

    base: Path
    controlnet: Path
    mix: Path
    photomaker: Path


def load_faceme(
    files: Files,
    topology: Topology = sdxl.PUBLIC,
    controlnet: dict[str, Any] = CONTROLNET,
    vision: dict[str, Any] = VISION,
) -> FaceMe:
    """From the public files, in evaluation mode on the CPU.

    PhotoMaker's file also holds an adapter of the UNet. FaceMe's training and inference mean to load it, but ask for names
    that the file does not have and throw away what they read; so its ControlNet belongs to a UNet without it.
    Raises UserError that names the file, and the tensor that does not fit.
    """
    unet, vae = sdxl.load_sdxl(files.base, topology)
    prompt = sdxl.embed_text(files.base, A_PHOTO_OF_FACE, topology)
    with init_empty_weights():
        control = ControlNetModel.from_config(controlnet)
    what = "FaceMe's controlnet/diffusion_pytorch_model.safetensors (thomas2modyu/FaceMe, Pi-Lab License 1.0)"
    control = filled(control, read_public(files.controlnet, what), files.controlnet.name, advice(what))
    net = FaceMe(unet, vae, control, load_encoder(files.photomaker, vision), load_mix(files.mix), prompt)
    return net.eval().requires_grad_(False)


def load_encoder(path: Path, config: dict[str, Any] = VISION) -> PhotoMakerEncoder:
    """The encoder of photomaker-v1.bin. Raises UserError as `load_mix`."""
    what = "PhotoMaker's photomaker-v1.bin (TencentARC/PhotoMaker, Apache-2.0)"
    content = read_file(path, what)
    tensors = content.get("id_encoder") if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or "visual_projection_2.weight" not in tensors:
        raise UserError(f"{path.name} has no id_encoder of PhotoMaker's first version. {advice(what)}")
    named_tensors(tensors, path.name, advice(what))
    # A constant that older versions of transformers stored.
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    encoder = PhotoMakerEncoder(CLIPVisionConfig(**config), len(tensors["visual_projection_2.weight"]))
    return frozen_with(encoder, tensors, path.name, advice(what))


def load_mix(path: Path) -> Mix:
    """From the public mix.safetensors, or the same tensors by torch.save; widths are read from it.

    Raises UserError for a missing or damaged file and for the weights of another network.
    """
    what = "FaceMe's mix.safetensors (thomas2modyu/FaceMe, Pi-Lab License 1.0)"
    tensors = read_public(path, what)
    try:
        widths = tensors["norm1.weight"].numel(), tensors["pro_id.mlp1.layernorm.weight"].numel()
    except KeyError as error:
        raise UserError(f"{path.name} is not FaceMe's mix: {error.args[0]} is missing. {advice(what)}") from error
    return frozen_with(Mix(*widths), tensors, path.name, advice(what))

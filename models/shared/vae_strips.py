"""The VAE of Stable Diffusion in strips, for pictures whose feature maps do not fit on the device, with the same result.

Whole feature maps stay in main memory, strips of rows visit the device. Every convolution gets the rows beside its strip,
group normalization the statistics of the whole map, and the attention in the middle the whole map, so that, unlike with
tiles that are decoded apart, nothing but the order of sums differs from the VAE in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

STRIP = 2**18  # pixels of a feature map that are on the device at once

Layer = Callable[[torch.Tensor], torch.Tensor]


def moments(vae: AutoencoderKL, picture: torch.Tensor) -> torch.Tensor:
    """Mean and logarithm of the variance ``[B, 8, H / 8, W / 8]`` of a picture ``[B, 3, H, W]`` in -1..1, on its device."""
    encoder, device = vae.encoder, picture.device
    x = _convolved(picture.cpu(), encoder.conv_in, device)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            x = _resnet(x, resnet, device)
        for downsampler in block.downsamplers or ():
            x = _downsampled(x, downsampler, device)
    x = _middle(x, encoder.mid_block, device)
    return vae.quant_conv(_activated(x, encoder.conv_norm_out, encoder.conv_out, device).to(device))


def decode_in_strips(vae: AutoencoderKL, latent: torch.Tensor) -> torch.Tensor:
    """The picture ``[B, 3, H, W]``, not clamped, in main memory. latent: ``[B, 4, H / 8, W / 8]``, not scaled."""
    decoder, device = vae.decoder, latent.device
    x = _convolved(vae.post_quant_conv(latent).cpu(), decoder.conv_in, device)
    x = _middle(x, decoder.mid_block, device)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = _resnet(x, resnet, device)
        for upsampler in block.upsamplers or ():
            x = _convolved(x, upsampler, device, 2)
    return _activated(x, decoder.conv_norm_out, decoder.conv_out, device)


def _middle(x: torch.Tensor, block: nn.Module, device: torch.device) -> torch.Tensor:
    first, second = block.resnets
    x = _resnet(x, first, device)
    x = block.attentions[0](x.to(device)).cpu()
    return _resnet(x, second, device)


def _resnet(x: torch.Tensor, block: nn.Module, device: torch.device) -> torch.Tensor:
    hidden = _activated(x, block.norm1, block.conv1, device)
    out = _activated(hidden, block.norm2, block.conv2, device)
    shortcut = block.conv_shortcut or nn.Identity()
    for rows in _strips(x):
        out[rows] += shortcut(x[rows].to(device)).cpu()
    return out


def _activated(x: torch.Tensor, norm: nn.GroupNorm, conv: nn.Module, device: torch.device) -> torch.Tensor:
    """conv(silu(norm(x)))."""
    scale, shift = _affine(x, norm, device)
    return _convolved(x, lambda strip: conv(F.silu(strip * scale + shift).to(strip.dtype)), device)


def _affine(x: torch.Tensor, norm: nn.GroupNorm, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Group normalization by the whole map's statistics as ``scale * x + shift``, ``[B, C, 1, 1]`` each, at least float32."""
    exact = torch.promote_types(x.dtype, torch.float32)
    # Strips are added in float64 in main memory, as not every device has it.
    sums = torch.zeros(2, len(x), norm.num_groups, dtype=torch.float64)
    for rows in _strips(x):
        groups = x[rows].to(device, exact).unflatten(1, (norm.num_groups, -1)).flatten(2)
        variance, mean = (one.cpu().double() for one in torch.var_mean(groups, -1, correction=0))
        sums += torch.stack([mean, variance + mean.square()]) * groups.shape[-1]
    mean, square = (sums / (x[0].numel() // norm.num_groups)).repeat_interleave(x.shape[1] // norm.num_groups, 2)
    scale = norm.weight.cpu().double() / (square - mean.square() + norm.eps).sqrt()
    shift = norm.bias.cpu().double() - mean * scale
    return scale.to(device, exact)[..., None, None], shift.to(device, exact)[..., None, None]


def _convolved(x: torch.Tensor, layer: Layer, device: torch.device, factor: int = 1) -> torch.Tensor:
    """layer(x), for a layer that enlarges by ``factor`` and looks at most one pixel farther than each."""
    out = None
    for rows in _strips(x):
        top, bottom = rows[1].start, rows[1].stop
        first, last = max(top - 1, 0), min(bottom + 1, x.shape[-2])
        part = layer(x[..., first:last, :].to(device))
        part = part[..., (top - first) * factor : part.shape[-2] - (last - bottom) * factor, :]
        if out is None:
            out = x.new_empty(*part.shape[:2], x.shape[-2] * factor, part.shape[-1])
        out[..., top * factor : bottom * factor, :] = part
    return out


def _downsampled(x: torch.Tensor, layer: Layer, device: torch.device) -> torch.Tensor:
    """layer(x) for diffusers' downsampler, which pads below and to the right only."""
    out = None
    for rows in _strips(x[..., ::2, ::2]):
        top, bottom = rows[1].start, rows[1].stop
        part = layer(x[..., 2 * top : 2 * bottom + 1, :].to(device))
        if out is None:
            out = x.new_empty(*part.shape[:2], x.shape[-2] // 2, part.shape[-1])
        out[..., top:bottom, :] = part
    return out


def _strips(x: torch.Tensor) -> Iterator[tuple]:
    """Indices of strips of rows that cover ``[B, C, H, W]``."""
    height, width = x.shape[-2:]
    step = max(STRIP // width, 1)
    for top in range(0, height, step):
        yield ..., slice(top, min(top + step, height)), slice(None)

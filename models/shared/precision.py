"""The precision of networks: half where that is safe, and the host's user wants it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ...lib.bridge import eight_bits, place
from ...lib.diffusion.lora import LoraLayer
from ...lib.vocabulary import UserError

VAE = torch.bfloat16  # whose range float16 has not: it overflows in the VAE of some pictures


def settle_precision(unets: Iterable[nn.Module], vaes: Iterable[nn.Module], half: torch.dtype) -> None:
    """Puts UNets and ControlNets into ``half``, and VAEs into bfloat16, as far as the user and the device allow it."""
    for kind, precision, parts in (("unet", half, unets), ("vae", VAE, vaes)):
        for part in parts:
            nn.Module.to(
                part, place(kind, precision).dtype
            )  # diffusers' own warns of layers that it does not even have


def in_eight_bits(*unets: nn.Module | None) -> None:
    """Stores the weights of the layers of streamed UNets and ControlNets in 8 bits where ComfyUI's user wants it; they compute in the
    precision of their input. Adapters stay, and so do first layers, whose precision tells what that of the input has to be.
    None: a part that the model lacks."""
    kind = eight_bits()
    if kind is None:
        return
    for unet in filter(None, unets):
        for layer in storable(unet):
            layer.weight.data = layer.weight.data.to(kind)


def storable(unet: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The layers of a UNet whose weights may be stored in 8 bits."""
    from .residual_blocks import TimestepEmbedding  # imported here because diffusers takes seconds to import

    exact = {getattr(unet, "conv_in", None)}
    for layer in unet.modules():
        if isinstance(layer, LoraLayer):
            exact |= {layer.down, layer.up}
        if isinstance(layer, TimestepEmbedding):
            exact.add(layer[0])
    return [layer for layer in unet.modules() if isinstance(layer, nn.Linear | nn.Conv2d) and layer not in exact]


def check_trainable(net: nn.Module, node: str) -> None:
    """Raises UserError where `in_eight_bits` has taken away what a training needs."""
    if any(weight.dtype.itemsize == 1 for weight in net.parameters()):
        raise UserError(
            f"{node}: the weights of this base are stored in 8 bits, too coarse to learn from. Start ComfyUI without "
            "--fp8_e4m3fn-unet and options like it to train; what was trained can be used with them."
        )


def embedded_precision() -> torch.dtype:
    """Of the small networks that ship with the pack, wherever they only see or change pictures: bfloat16 or float32."""
    return place("embedded", torch.bfloat16).dtype

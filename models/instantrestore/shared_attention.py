"""Self-attention that also looks at what another network saw in reference pictures: the core of InstantRestore.

InstantRestore (Zhang et al., SIGGRAPH 2025), section 3: the self-attentions of the decoder search keys and values of the
references beside or instead of their own, and the references' values are brought to the statistics of the picture's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch.nn.functional import scaled_dot_product_attention

EPSILON = 1e-5


@dataclass(frozen=True)
class Seen:
    """Keys and values of one attention in N reference pictures, before the split into heads, ``[B, N, L, C]`` each."""

    keys: torch.Tensor
    values: torch.Tensor


class SharedAttention:
    """A processor for diffusers' Attention.

    adain: bring the values of each reference to mean and deviation of the picture's own, per channel over its places.
    own: search the picture's own keys and values too; without, only those of the references.
    seen: the references, or None for plain self-attention.
    """

    def __init__(self, adain: bool, own: bool):
        self.adain, self.own = adain, own
        self.seen: Seen | None = None

    def __call__(
        self,
        attention: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``[B, L, C]`` to the same."""
        query, key, value = _project(attention, hidden_states)
        if self.seen is not None:
            references = self.seen.values
            if self.adain:
                references = _restyled(references, value[:, None])
            parts = [(key, value)] if self.own else []
            parts.append((self.seen.keys.flatten(1, 2), references.flatten(1, 2)))
            key, value = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
        return _attend(attention, query, key, value)


class Recorder:
    """A processor that attends as ever and keeps its keys and values ``[B, L, C]`` for a `SharedAttention`."""

    def __init__(self) -> None:
        self.keys = self.values = torch.empty(0)

    def __call__(
        self,
        attention: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query, self.keys, self.values = _project(attention, hidden_states)
        return _attend(attention, query, self.keys, self.values)

    def take(self, count: int) -> Seen:
        """What was seen in batches of ``count`` reference pictures each; nothing is kept."""
        seen = Seen(*(tensor.unflatten(0, (-1, count)) for tensor in (self.keys, self.values)))
        self.keys = self.values = torch.empty(0)
        return seen


def share(unet: UNet2DConditionModel, adain: bool, own: bool) -> list[SharedAttention]:
    """Puts a `SharedAttention` at every self-attention of the decoder. Returns them in the order of the layers."""
    return _place(unet, lambda: SharedAttention(adain, own))


def record(unet: UNet2DConditionModel) -> list[Recorder]:
    """Puts a `Recorder` at the same places of the network that sees the references."""
    return _place(unet, Recorder)


def _place(unet: UNet2DConditionModel, make) -> list:
    made = {}
    for name, layer in unet.named_modules():
        if name.startswith("up_blocks.") and name.endswith(".attn1"):
            made[name] = make()
            layer.set_processor(made[name])
    return list(made.values())


def _project(attention: Attention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return attention.to_q(x), attention.to_k(x), attention.to_v(x)


def _attend(attention: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    def split(x):
        return x.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    out = scaled_dot_product_attention(split(query), split(key), split(value), scale=attention.scale)
    out = out.transpose(1, 2).flatten(2)
    for layer in attention.to_out:
        out = layer(out)
    return out


def _restyled(x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """x with mean and deviation of the style, over the tokens ``[..., L, C]``. AdaIN, Huang and Belongie 2017, equation 8."""
    mean, deviation = x.mean(-2, keepdim=True), x.std(-2, keepdim=True) + EPSILON
    return (x - mean) / deviation * (style.std(-2, keepdim=True) + EPSILON) + style.mean(-2, keepdim=True)

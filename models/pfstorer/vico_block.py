"""PFStorer's personalization block: a spatial transformer that also looks at a clean picture of the person.

PFStorer (Varanka et al. 2024), equation 3; the block is ViCo's (Hao et al. 2023;
ldm/modules/attention.py of haoosz/ViCo), under its published parameter names, plus a gate per channel that starts at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import Transformer2DModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from ...lib.vocabulary import UserError

# Where Stable Diffusion's decoder gets a block: output_blocks 4, 6, 8 and 10 of the original, in diffusers' names.
SD_PLACES = (
    "up_blocks.1.attentions.1",
    "up_blocks.2.attentions.0",
    "up_blocks.2.attentions.2",
    "up_blocks.3.attentions.1",
)
THRESHOLDS = 10


@dataclass(frozen=True)
class ReferenceFeatures:
    """What one transformer block saw in the reference pictures, N = h * w places each.

    tokens: features after the text block, ``[B, N, C]``; placeholder, end_of_text: how much every place attends to the
    person's token and to the end of the text, mean of the heads, 0..1, ``[B, N]``.
    """

    tokens: torch.Tensor
    placeholder: torch.Tensor
    end_of_text: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """Where the person is, bool ``[B, N]``."""
        return otsu_mask(self.placeholder.detach())

    @property
    def loss(self) -> torch.Tensor:
        """L_pers of this block, a scalar."""
        return personal_loss(self.placeholder, self.end_of_text)


class PersonalTransformer(nn.Module):
    """Takes the place of a Transformer2DModel, whose layers it shares under their own names, so the base stays what it is.

    Trainable: image_cross_attention, ``20 C^2 + 17 C`` parameters, and gamma ``[C]``, in the precision that the base computes in.

    reference: what ``reading`` left here, one per transformer block; empty: exactly the base.
    strength: the paper's lambda_att, at least 0; gamma * strength 0 is exactly the base, 1 exactly ViCo, more goes beyond it.
    """

    gradient_checkpointing = False  # what diffusers' enable_gradient_checkpointing looks for

    def __init__(self, base: Transformer2DModel):
        super().__init__()
        self.norm, self.proj_in = base.norm, base.proj_in
        self.transformer_blocks, self.proj_out = base.transformer_blocks, base.proj_out
        heads, head_width = base.config.num_attention_heads, base.config.attention_head_dim
        width = heads * head_width
        self.image_cross_attention = BasicTransformerBlock(width, heads, head_width, cross_attention_dim=width)
        self.image_cross_attention.to(base.norm.weight)
        self.gamma = nn.Parameter(torch.zeros(width).to(base.norm.weight))
        self.reference: tuple[ReferenceFeatures, ...] = ()
        self.reading: tuple[torch.Tensor, torch.Tensor] | None = None
        self.strength = 1.0

    def float_own(self) -> None:
        """What is trainable goes to single precision, in which small steps count; the layers of the base stay as they are."""
        self.image_cross_attention.float()
        self.gamma.data = self.gamma.data.float()

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cross_attention_kwargs: dict | None = None,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """As a UNet of diffusers calls it. hidden_states: ``[B, C, h, w]``; encoder_hidden_states: text ``[B, T, D]``."""
        x = self._tokens(hidden_states)
        if self.reading is not None:
            seen = []
            for block in self.transformer_blocks:
                seen.append(_read(block, x, encoder_hidden_states, *self.reading))
                x = seen[-1].tokens
            self.reference = tuple(seen)
            return (self._picture(x, hidden_states),)
        for index, block in enumerate(self.transformer_blocks):
            given = (attention_mask, encoder_hidden_states, encoder_attention_mask, None, cross_attention_kwargs)
            x = self._run(block, x, *given)
            if self.reference:
                x = self._run(self._personal, x, self.reference[index])
        return (self._picture(x, hidden_states),)

    def _personal(self, x: torch.Tensor, reference: ReferenceFeatures) -> torch.Tensor:
        """x + gamma * (block(x) - x) of equation 3; lerp gives either end exactly."""
        # The lowest number: after the softmax a place outside the mask weighs exactly 0.
        bias = torch.zeros_like(reference.placeholder).masked_fill(~reference.mask, torch.finfo(x.dtype).min)
        seen = self.image_cross_attention(
            x, encoder_hidden_states=reference.tokens, encoder_attention_mask=bias[:, None].to(x.dtype)
        )
        return torch.lerp(x, seen, (self.strength * self.gamma).to(x.dtype))

    def _run(self, block, *given):
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *given)
        return block(*given)

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, C, h, w]`` to ``[B, h * w, C]``. proj_in is a 1x1 convolution or, from SD 2 on, a linear layer."""
        x = self.norm(x)
        if isinstance(self.proj_in, nn.Conv2d):
            x = self.proj_in(x)
            return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])
        return self.proj_in(x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1]))

    def _picture(self, tokens: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """``[B, h * w, C]`` back to ``[B, C, h, w]``, added to what came in."""
        rows = tokens if isinstance(self.proj_out, nn.Conv2d) else self.proj_out(tokens)
        picture = rows.unflatten(1, base.shape[-2:]).permute(0, 3, 1, 2).contiguous()
        return (self.proj_out(picture) if isinstance(self.proj_out, nn.Conv2d) else picture) + base


def personalise(network: nn.Module, places: Iterable[str] = SD_PLACES) -> dict[str, PersonalTransformer]:
    """Puts a fresh block, which changes nothing yet, at the named transformers of a UNet. Returns them by name.

    A base that is frozen stays frozen. Raises UserError for a place that is no spatial transformer.
    """
    modules = dict(network.named_modules())
    blocks = {}
    for place in places:
        base = modules.get(place)
        if not isinstance(base, Transformer2DModel):
            raise UserError(
                f"The base model has no spatial transformer at {place}, where the personalization block belongs. "
                "Choose a Stable Diffusion 1 or 2 base, or specify the places in this model."
            )
        blocks[place] = PersonalTransformer(base)
    for place, block in blocks.items():
        parent, _, name = place.rpartition(".")
        network.get_submodule(parent).register_module(name, block)
    return blocks


@contextmanager
def reading(network: nn.Module, placeholder: torch.Tensor, end_of_text: torch.Tensor) -> Iterator[None]:
    """Within it, a pass of the network is the reference path: clean latents, the same time step, the same text.

    What it sees stays in every block's ``reference`` for the passes that follow, which need the same batch size.
    placeholder, end_of_text: positions of the two tokens in the text, int64 ``[B]``.
    """
    blocks = [one for one in network.modules() if isinstance(one, PersonalTransformer)]
    for block in blocks:
        block.reading = (placeholder, end_of_text)
    try:
        yield
    finally:
        for block in blocks:
            block.reading = None


def otsu_mask(maps: torch.Tensor) -> torch.Tensor:
    """Splits every map in two where the variance between the parts is largest (Otsu 1979). ``[B, N]`` to bool ``[B, N]``.

    A map is stretched to 0..1; candidates are 0, .1, ... .9, the first of equally good ones wins, and what equals it is in.
    A constant map has no parts: all of it is in.
    """
    device, maps = maps.device, maps.cpu()  # not every device has float64, in which equally good ones are told apart
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    values = (maps - low) / (high - low)  # a constant map becomes NaN, which is below no threshold
    candidates = torch.tensor([n / THRESHOLDS for n in range(THRESHOLDS)]).to(values)
    above = (values[:, None] >= candidates[:, None]).to(torch.float64)  # [B, 10, N]
    share = above.mean(-1)
    means = [(part * values[:, None]).sum(-1) / part.sum(-1) for part in (above, 1 - above)]
    variance = share * (1 - share) * (means[0] - means[1]).square()
    best = candidates[variance.nan_to_num(0.0).argmax(-1)]  # a part without any place gives NaN
    return ~(values < best[:, None]).to(device)


def personal_loss(placeholder: torch.Tensor, end_of_text: torch.Tensor) -> torch.Tensor:
    """L_pers: the person's token should look where the end of the text looks.

    Both ``[B, N]``, each divided by its maximum; mean squared difference, no gradient to end_of_text. The published
    trainer sums it over the blocks and weights it with 5e-4.
    """
    goal = end_of_text.detach()
    return nn.functional.mse_loss(placeholder / placeholder.amax(-1, keepdim=True), goal / goal.amax(-1, keepdim=True))


def _read(
    block: BasicTransformerBlock,
    x: torch.Tensor,
    text: torch.Tensor,
    placeholder: torch.Tensor,
    end_of_text: torch.Tensor,
) -> ReferenceFeatures:
    """The block step by step, because its attention to the text is wanted, which the fused one never forms."""
    x = x + block.attn1(block.norm1(x))
    query, attention = block.norm2(x), block.attn2
    split = attention.head_to_batch_dim
    weights = attention.get_attention_scores(split(attention.to_q(query)), split(attention.to_k(text)))
    weights = weights.unflatten(0, (len(x), -1)).mean(1)  # [B, N, T]
    batch = torch.arange(len(x), device=x.device)
    columns = (weights[batch, :, position] for position in (placeholder, end_of_text))
    x = x + attention(query, text)
    return ReferenceFeatures(x + block.ff(block.norm3(x)), *columns)

"""CLIP's text encoders around published tensors, for prompts that are known beforehand, so that no tokenizer is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from .fit import filled

# The byte pair encoding that all of them share: ids of start and end, and the length of every text.
START, END, WINDOW = 49406, 49407, 77


def empty_encoder(config: dict[str, Any]) -> CLIPTextModelWithProjection:
    """Without weights."""
    with init_empty_weights():
        return CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=END + 1, **config))


def encoder(
    empty: CLIPTextModelWithProjection, tensors: dict[str, torch.Tensor], where: str, advice: str
) -> CLIPTextModelWithProjection:
    """The encoder in float32. Its projection may be missing, as for those that are published without one.

    Raises UserError, beginning with ``where``, for tensors that do not fit.
    """
    missing = {"text_projection.weight": torch.eye(empty.config.projection_dim, empty.config.hidden_size)}
    # Older files store the positions, which are constant.
    stored = {name: tensor for name, tensor in tensors.items() if not name.endswith("embeddings.position_ids")}
    return filled(empty, missing | stored, where, advice).float()


def text(tokens: Sequence[int], padding: int) -> torch.Tensor:
    """Ids ``[1, 77]`` of a text without its start and end."""
    ids = [START, *tokens, END]
    return torch.tensor([ids + [padding] * (WINDOW - len(ids))])

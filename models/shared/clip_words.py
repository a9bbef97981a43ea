"""The text encoder of Stable Diffusion 2 with the tokenizer that all of CLIP shares, as the `text` of a `Diffusion`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from ...lib.vocabulary import UserError
from . import clip_text

PADDING = 0  # what follows the end of a text: OpenCLIP's
FILES = "vocab.json", "merges.txt"  # of a tokenizer


class ClipWords(nn.Module):
    """Text to embeddings ``[B, 77, D]`` in float32, those of the encoder's last layer, normalized.

    A rare word is a token or several, as the tokenizer cuts it; a learned word takes the place of the embedding of its token.
    """

    end = clip_text.END

    def __init__(self, encoder: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer):
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer

    @property
    def rows(self) -> nn.Parameter:
        """One embedding per token ``[49408, D]``."""
        return self.encoder.get_input_embeddings().weight

    def row(self, word: str) -> int:
        """The token of a word; of a word of several tokens, the first."""
        return self._tokens(word)[0]

    def indices(self, prompts: Iterable[str]) -> torch.Tensor:
        """int64 ``[B, 77]``: start, the first 75 tokens of every prompt, its end, and nothing."""
        room = clip_text.WINDOW - 2
        return torch.cat([clip_text.text(self._tokens(prompt)[:room], PADDING) for prompt in prompts])

    def forward(self, indices: torch.Tensor, learnt: tuple[int, torch.Tensor] | None = None) -> torch.Tensor:
        """``[B, 77]`` to ``[B, 77, D]``. learnt: a token and the embedding that stands in its place ``[D]``."""
        indices = indices.to(self.rows.device)
        if learnt is None:
            return self._encoded(indices)
        row, word = learnt

        def replaced(layer: nn.Module, given: tuple, embedded: torch.Tensor) -> torch.Tensor:
            return torch.where((indices == row)[..., None], word.to(embedded), embedded)

        hook = self.encoder.get_input_embeddings().register_forward_hook(replaced)
        try:
            return self._encoded(indices)
        finally:
            hook.remove()

    def _encoded(self, indices: torch.Tensor) -> torch.Tensor:
        return self.encoder(indices).last_hidden_state.float()

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """From vocab.json and merges.txt. Raises UserError, naming the folder, where they are missing or damaged."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder.name}/ does not contain {' and '.join(missing)} of CLIP's tokenizer. {ADVICE}")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers' own exceptions have no common class
        raise UserError(f"The tokenizer in {folder.name}/ cannot be read ({error}). {ADVICE}") from error


ADVICE = "Download them from openai/clip-vit-large-patch14 (clip-vocabulary and clip-merges in the catalog)."

"""From a face pair to the degradation code of the whole photograph (Face2Scene, 3.2-3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ...lib.degradation.estimate import area
from ...lib.vocabulary import DegradationCode
from .weights import TOKEN_SPACE, Extractor


def estimate_code(extractor: Extractor, pair: torch.Tensor, space: str = TOKEN_SPACE) -> DegradationCode:
    """The code of one pair ``[6, h, w]``. space: that of the extractor's tokens."""
    weight = extractor.mapnet.embed.weight
    features = extractor.fadex(pair[None].to(weight))
    return DegradationCode(features, extractor.mapnet(features), space, extractor.gauge.read(features))


def estimate_each(
    extractor: Extractor,
    pairs: Sequence[torch.Tensor | None],
    space: str = TOKEN_SPACE,
    one_for_all: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DegradationCode:
    """The code of a batch with one pair, or None, per photograph; at least one is a pair.

    one_for_all: the code of the largest pair counts for every photograph. progress: called after every photograph; may raise to
    cancel.
    """
    largest = max((pair for pair in pairs if pair is not None), key=area)
    if one_for_all or len(pairs) == 1:
        return estimate_code(extractor, largest, space)
    codes: list[DegradationCode | None] = []
    best = None
    for number, pair in enumerate(pairs):
        codes.append(None if pair is None else estimate_code(extractor, pair, space))
        best = codes[-1] if pair is largest else best
        progress(number + 1, len(pairs))
    assert best is not None  # the largest is one of them
    return replace(best, frames=tuple(codes))

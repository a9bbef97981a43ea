"""From a face pair to the degradation code of the whole photograph (Face2Scene, 3.2-3.3)."""

from __future__ import annotations

import torch

from ...lib.vocabulary import DegradationCode
from .weights import TOKEN_SPACE, Extractor


def estimate_code(extractor: Extractor, pair: torch.Tensor, space: str = TOKEN_SPACE) -> DegradationCode:
    """The code of one pair ``[6, h, w]``. space: that of the extractor's tokens."""
    weight = extractor.mapnet.embed.weight
    features = extractor.fadex(pair[None].to(weight))
    return DegradationCode(features, extractor.mapnet(features), space, extractor.gauge.read(features))

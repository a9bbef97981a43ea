"""From a face pair to the degradation code of the whole photograph (Face2Scene, 3.2-3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ...lib.vocabulary import DegradationCode, DegradationMaps, FacePairs
from .mapnet import TOKEN_SETS
from .weights import TOKEN_SPACE, Extractor

ALL = next(iter(TOKEN_SETS))


def estimate_code(extractor: Extractor, pair: torch.Tensor, space: str = TOKEN_SPACE) -> DegradationCode:
    """The code of one pair ``[6, h, w]``. space: that of the extractor's tokens."""
    return code_of_map(extractor, extracted_map(extractor, pair), space)


def extracted_map(extractor: Extractor, pair: torch.Tensor) -> torch.Tensor:
    """FaDeX: Z ``[1, C, h / 4, w / 4]`` of one pair ``[6, h, w]``."""
    return extractor.fadex(pair[None].to(extractor.mapnet.embed.weight))


def code_of_map(extractor: Extractor, features: torch.Tensor, space: str, tokens: str = ALL) -> DegradationCode:
    """MapNet: Z to tokens, those of one of `TOKEN_SETS`, with what the gauge reads off Z."""
    features = features.to(extractor.mapnet.embed.weight)
    chosen = extractor.mapnet(features)[:, TOKEN_SETS[tokens]]
    return DegradationCode(features, chosen, space, extractor.gauge.read(features))


def extracted_maps(
    extractor: Extractor,
    pairs: FacePairs,
    name: str,
    space: str = TOKEN_SPACE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DegradationMaps:
    """FaDeX for every pair. name: the extractor's. progress: called after every pair; may raise to cancel."""
    maps: list[torch.Tensor | None] = []
    for number, pair in enumerate(pairs.frames):
        maps.append(None if pair is None else extracted_map(extractor, pair))
        progress(number + 1, len(pairs.frames))
    return DegradationMaps(tuple(maps), pairs.largest, name, space)


def code_of_maps(extractor: Extractor, maps: DegradationMaps, tokens: str = ALL) -> DegradationCode | None:
    """MapNet for every map: the code of a batch, which is that of its largest pair; None without any."""
    if maps.largest is None:
        return None
    codes = tuple(None if one is None else code_of_map(extractor, one, maps.space, tokens) for one in maps.frames)
    best = codes[maps.largest]
    assert best is not None  # the largest is one of them
    return best if len(codes) == 1 else replace(best, frames=codes)

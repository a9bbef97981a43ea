"""What the pack ships, ready for use: the one-step restorer and the extractor, each loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn

from ..models import embedded
from .one_step import OneStepRestorer

Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def restorer(keep: Keep) -> OneStepRestorer:
    """keep(module) hands a module to whoever manages memory and gives back a loader."""
    module, metadata = embedded.load(embedded.RESTORER)
    return OneStepRestorer(keep(module), metadata["token_space"])


@cache
def extractor(keep: Keep) -> Callable[[], embedded.Extractor]:
    return keep(embedded.load(embedded.EXTRACTOR)[0])

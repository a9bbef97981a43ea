"""The models that ship with the pack: the one-step restorer, the extractor and the diffusion base, each loaded once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...lib.extras import require
from ..shared.precision import embedded_precision
from . import weights as embedded
from .fadex import without_batch_norms
from .one_step_restorer import OneStepRestorer

if TYPE_CHECKING:
    from ..shared.diffusion_restorer import DiffusionRestorer

Keep = Callable[[nn.Module], Callable[[], Any]]


@cache
def restorer(keep: Keep) -> OneStepRestorer:
    """keep(module) passes a module to the memory management and returns a loader."""
    module, metadata = embedded.load_embedded(embedded.RESTORER)
    return OneStepRestorer(keep(module.in_precision(embedded_precision())), metadata["token_space"])


@cache
def extractor(keep: Keep) -> Callable[[], embedded.Extractor]:
    module = embedded.load_embedded(embedded.EXTRACTOR)[0]
    module.fadex.E = without_batch_norms(module.fadex.E, embedded_precision()).to(memory_format=torch.channels_last)
    return keep(module)


@cache
def diffusion(keep: Keep) -> DiffusionRestorer:
    require("Diffusion Restorer", "diffusion")
    # Imported here because diffusers takes seconds to import.
    from ...lib.storage.fingerprint import weights_fingerprint
    from ..shared.diffusion_restorer import DiffusionRestorer, first_stage

    module, metadata = embedded.load_embedded(embedded.DIFFUSION)
    module.cleaner = first_stage(restorer(keep))
    # On CPUs, these small convolutions are a quarter faster in the contiguous layout.
    module = module.to(memory_format=torch.contiguous_format)
    return DiffusionRestorer(keep(module), f"{metadata['kind']} {weights_fingerprint(module)}", module.native_size)

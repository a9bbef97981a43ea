"""A base model with other weights for good: what Train Base Model has learned becomes part of the restorer."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from ...lib.storage.fingerprint import tensors_fingerprint
from ...lib.vocabulary import Persona
from ..personas.wear import check_base, tuned_weights
from .bases import loaders
from .diffusion_restorer import DiffusionRestorer
from .precision import in_eight_bits

BASE_MODEL = "base_model"  # the kind of persona that is for everybody


def merged_base(
    restorer: DiffusionRestorer, persona: Persona, strength: float, keep: Callable[..., Callable[..., nn.Module]]
) -> DiffusionRestorer:
    """The restorer on a base of its own name, which can be taught people as the old one could; that stays as it is, and shares
    what did not change. Raises UserError for a persona of another base.
    """
    check_base(persona, restorer.base)
    net = restorer.load()
    shared = {id(one): one for one in (*net.parameters(), *net.buffers())}
    with torch.no_grad():
        whole = copy.deepcopy(net, shared)
        for name, value in tuned_weights(net, persona, strength).items():
            parent, _, last = name.rpartition(".")
            setattr(whole.get_submodule(parent), last, nn.Parameter(value.clone(), False))
    in_eight_bits(whole.unet, whole.control)
    kind = restorer.base.rpartition(" ")[0]
    return replace(restorer, **loaders(keep, whole), base=f"{kind} {_fingerprint(restorer.base, persona, strength)}")


def _fingerprint(base: str, persona: Persona, strength: float) -> str:
    """By what went in: the weights that come out depend on the precision of the device."""
    return hashlib.sha256(f"{base} {tensors_fingerprint(persona.tensors)} {strength:g}".encode()).hexdigest()[:12]

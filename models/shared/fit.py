"""Whether the tensors of a file are those of a network, all of them and no other; a network around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...lib.vocabulary import UserError


def named_tensors(value: Any, where: str, advice: str) -> dict[str, torch.Tensor]:
    """The value, if it is a flat dictionary of tensors by name; otherwise a UserError. A file may hold anything."""
    good = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
        for name, tensor in value.items()
    )
    if not good:
        raise UserError(f"{where} is not a flat dictionary of tensors. {advice}")
    return value


def check_fit(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str, advice: str) -> None:
    """Raises UserError for the first tensor, by name, that is missing, surplus or of another shape.

    where: the file; advice: what to do, as a sentence.
    """
    named_tensors(found, where, advice)
    for name in sorted(expected.keys() | found.keys()):
        wanted, given = (list(side[name].shape) if name in side else None for side in (expected, found))
        if wanted != given:
            problem = f"has the shape {given}" if given is not None else "is missing"
            needs = f"needs {wanted}" if wanted is not None else "has no such tensor"
            raise UserError(f"{where}: the tensor {name} {problem}, but the network {needs}. {advice}")


def filled(empty: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, advice: str) -> Any:
    """A network without weights around these tensors, frozen and in evaluation mode. Raises UserError as `check_fit`."""
    check_fit(empty.state_dict(), tensors, where, advice)
    empty.load_state_dict(tensors, assign=True)
    return empty.eval().requires_grad_(False)

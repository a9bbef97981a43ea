"""Whether the tensors of a file are those of a network, all of them and no other."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..vocabulary import UserError


def check_fit(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str, advice: str) -> None:
    """Raises UserError for the first tensor, by name, that is missing, surplus or of another shape.

    where: the file; advice: what to do, as a sentence.
    """
    for name in sorted(expected.keys() | found.keys()):
        wanted, given = (list(side[name].shape) if name in side else None for side in (expected, found))
        if wanted != given:
            problem = f"has the shape {given}" if given is not None else "is missing"
            needs = f"needs {wanted}" if wanted is not None else "has no such tensor"
            raise UserError(f"{where}: the tensor {name} {problem}, the network {needs}. {advice}")

"""A restorer that wears a persona, for whom it is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ...lib.vocabulary import Conditions, Persona, Restorer


@dataclass(frozen=True)
class PersonalRestorer:
    """A restorer with a persona. person: apply it only to faces recognized as that person; empty for all.

    For all other faces, and with strength 0, the restorer works as without the persona.
    """

    restorer: Restorer
    persona: Persona
    strength: float = 1.0
    person: str = ""

    def __getattr__(self, attribute: str):
        # name, native_size, scale, tileable, needs_references
        if attribute.startswith("__") or attribute == "restorer":
            raise AttributeError(attribute)
        return getattr(self.restorer, attribute)

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        if self.strength > 0 and self.person in ("", conditions.person):
            conditions = replace(conditions, persona=self.persona, persona_strength=self.strength)
        return self.restorer.restore(image, conditions)

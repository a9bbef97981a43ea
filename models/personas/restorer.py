"""A restorer that wears a persona, for whom it is meant."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ...lib.vocabulary import Abilities, Conditions, Persona, Restorer, abilities

SHARED = "name", "native_size", "scale", "tileable", "needs_references"


@dataclass(frozen=True)
class PersonalRestorer:
    """A restorer with a persona. person: apply it only to faces recognized as that person; empty for all.

    attention: of an adapter's blocks, see `Conditions`. For all other faces, and with strength 0, the restorer works as without the
    persona.
    """

    restorer: Restorer
    persona: Persona
    strength: float = 1.0
    person: str = ""
    attention: float = 1.0

    def __getattr__(self, attribute: str):
        if attribute not in SHARED:
            raise AttributeError(attribute)
        return getattr(self.restorer, attribute)

    @property
    def abilities(self) -> Abilities:
        """Another persona may be put on for somebody else, but training and generating are for the bare restorer."""
        return replace(abilities(self.restorer), teachable=False, generates=False)

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        if self.strength > 0 and self.person in ("", conditions.person):
            worn = {"persona": self.persona, "persona_strength": self.strength, "persona_attention": self.attention}
            conditions = replace(conditions, **worn)
        return self.restorer.restore(image, conditions)

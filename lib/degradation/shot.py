"""One degradation code for the frames of a shot, which were damaged alike: the mean over faces and frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..vocabulary import DegradationCode


@dataclass
class MeanCode:
    """The mean of codes that are added one by one, which are not kept."""

    count: int = 0
    _space: str = ""
    _map: torch.Tensor | float = 0.0
    _tokens: torch.Tensor | float = 0.0
    _scalars: dict[str, float] = field(default_factory=dict)

    def add(self, code: DegradationCode) -> None:
        """That of a face, or of all faces of a frame, ``frames`` of which are then its faces."""
        for one in code.frames or (code,):
            if one is None:
                continue
            self.count += 1
            self._space = one.space
            self._map = self._map + one.map.mean((2, 3), keepdim=True)  # faces differ in size
            self._tokens = self._tokens + one.tokens
            self._scalars = {name: self._scalars.get(name, 0.0) + value for name, value in one.scalars.items()}

    @property
    def code(self) -> DegradationCode | None:
        """None if no face revealed the damage. Its map has one place, ``[1, C, 1, 1]``."""
        if not self.count:
            return None
        assert isinstance(self._map, torch.Tensor) and isinstance(self._tokens, torch.Tensor)
        scalars = {name: value / self.count for name, value in self._scalars.items()}
        return DegradationCode(self._map / self.count, self._tokens / self.count, self._space, scalars)

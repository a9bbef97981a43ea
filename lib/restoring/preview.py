"""A preview of a long restoration: the finished parts, reduced to a size that is quick to show."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ..faces.paste import unwarp
from ..fusion.mask import own_mask
from ..vocabulary import Face

PAUSE = 0.4  # seconds between two pictures


class Preview:
    """The damaged photograph, covered by restored parts as they are finished.

    photos: ``[B, 3, H, W]``; tell(done, total, picture): receives the progress and, from time to time, a picture ``[3,
    h, w]`` of at most ``side`` pixels; with 0, nothing is computed. scale: of the parts, see ``Restorer``.
    """

    def __init__(
        self,
        photos: torch.Tensor,
        tell: Callable[[int, int, torch.Tensor | None], None],
        side: int,
        scale: int = 1,
    ):
        self._photos, self._tell, self._side, self._scale = photos, tell, side, scale
        self._number, self._canvas = None, None
        self._changed, self._shown = False, None

    def progress(self, done: int, total: int) -> None:
        """Forwards the progress, with a picture if one is due. This includes the end, because ComfyUI keeps showing the
        last picture, unless everything was done in one step."""
        now = time.monotonic()
        due = self._shown is not None if done >= total else self._shown is None or now - self._shown >= PAUSE
        self._tell(done, total, self._canvas if due and self._changed else None)
        if due and self._changed:
            self._changed, self._shown = False, now

    def part(self, part: torch.Tensor, left: int, top: int, number: int = 0) -> None:
        """A finished part ``[1, 3, h, w]`` of the result of photograph ``number``, and where it lies there."""
        if not self._side:
            return
        canvas, shrink = self._onto(number)
        (x0, x1), (y0, y1) = (
            (round(start * shrink / self._scale), round((start + length) * shrink / self._scale))
            for start, length in ((left, part.shape[-1]), (top, part.shape[-2]))
        )
        place = canvas[:, y0:y1, x0:x1]
        if place.numel():
            place.copy_(_shrunk(part[0], place.shape[-2:]))

    def face(self, number: int, face: Face) -> None:
        """A restored face of photograph ``number``."""
        if not self._side:
            return
        canvas, shrink = self._onto(number)
        stack = torch.cat([face.best, own_mask(face) * face.strength])
        region, valid, (x0, y0, x1, y1) = unwarp(stack, face.similarity.scaled(shrink), canvas.shape[-2:])
        place = canvas[:, y0:y1, x0:x1]
        place.copy_(torch.lerp(place, region[:3], region[3:] * valid))

    def _onto(self, number: int) -> tuple[torch.Tensor, float]:
        """The canvas of a photograph, which is about to change, and its pixels per pixel of the photograph."""
        size = self._photos.shape[-2:]
        shrink = min(1.0, self._side / max(size))
        if number != self._number:
            small = [max(1, round(length * shrink)) for length in size]
            self._canvas = _shrunk(self._photos[number], small)
            self._number = number
        self._changed = True
        return self._canvas, shrink


def _shrunk(picture: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``[3, H, W]`` in another size (h, w); of what is much larger every few pixels are enough, nine for each of the result."""
    step = max(1, min(picture.shape[-2] // size[0], picture.shape[-1] // size[1]) // 3)
    return F.interpolate(picture[None, :, ::step, ::step], size, mode="area")[0]

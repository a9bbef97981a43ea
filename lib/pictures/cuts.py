"""Where a shot of a video ends and the next one begins."""

from __future__ import annotations

import cv2
import numpy as np

WIDTH = 256  # pixels, of the copies that are compared
CONTENT = 27.0  # mean change of hue, saturation and value, of 255 (ContentDetector of PySceneDetect, its default)
SHORTEST = 12  # frames: a change within fewer is a flash, not a cut


class Cuts:
    """Sees a video's frames one after the other."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._length = 0

    def begins(self, frame: np.ndarray) -> bool:
        """Whether a shot begins with this frame, uint8 ``[H, W, 3]``; so it does with the first one."""
        size = (WIDTH, max(1, round(WIDTH * frame.shape[0] / frame.shape[1])))
        now = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2HSV).astype(np.float32)
        changed = self._last is None or now.shape != self._last.shape
        if not changed and self._last is not None:
            changed = self._length >= SHORTEST and float(np.abs(now - self._last).mean()) > CONTENT
        self._last = now
        self._length = 1 if changed else self._length + 1
        return changed

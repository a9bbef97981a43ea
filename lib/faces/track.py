"""Faces followed through the frames of one shot: who belongs together, who that is, and where the face is in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.signal import savgol_filter

from .detection import Detection, overlap
from .embed import Embedder
from .match import Match, assign, weigh

OVERLAP = 0.3  # intersection over union from which two boxes of successive frames may show one face
GAP = 12  # frames without a detection after which a face counts as gone, and fewer of which are filled in
WINDOW, ORDER = 9, 2  # frames and degree of the polynomial that smooths landmarks (Savitzky and Golay 1964)
SHORTEST = 3  # frames: a face that is seen in fewer of a longer shot is a false alarm


@dataclass(frozen=True)
class Sighting:
    """A face of one frame. looks: its embeddings as found and as restored, unit float32 ``[L, D]``, the same L in all frames."""

    detection: Detection
    looks: np.ndarray


@dataclass
class Track:
    """One face through the frames. frames: their numbers, ascending; sums: of its embeddings, ``[L, D]``."""

    frames: list[int] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, frame: int, seen: Sighting) -> None:
        self.sums = self.sums + seen.looks if self.frames else seen.looks
        self.frames.append(frame)
        self.detections.append(seen.detection)

    @property
    def looks(self) -> np.ndarray:
        """The mean embeddings, unit ``[L, D]``: what noise changes from frame to frame is averaged out of them."""
        return self.sums / np.maximum(np.linalg.norm(self.sums, axis=1, keepdims=True), 1e-12)


class Tracker:
    """Follows the faces of a shot. Its memory holds landmarks and boxes of every face and frame, but no picture."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.tracks: list[Track] = []
        self.frames = 0

    def add(self, seen: Sequence[Sighting]) -> None:
        """The next frame. A face belongs to the track whose last box it overlaps, or whose embedding says so without doubt after a few
        frames in which it was not found; of all ways to tell several faces apart, the one with the most overlap and likeness counts."""
        alive = [track for track in self.tracks if self.frames - track.frames[-1] <= GAP]
        scores = np.array([[self._score(track, one) for one in seen] for track in alive]).reshape(len(alive), len(seen))
        taken = set()
        for row, column in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
            if scores[row, column] > 0:
                alive[row].add(self.frames, seen[column])
                taken.add(column)
        for column, one in enumerate(seen):
            if column not in taken:
                self.tracks.append(track := Track())
                track.add(self.frames, one)
        self.frames += 1

    def _score(self, track: Track, seen: Sighting) -> float:
        """Overlap and likeness, 0..2; 0 for faces that cannot be one."""
        last, box = track.detections[-1].box, seen.detection.box
        common = overlap(last, box)
        alike = float(self._embedder.similarity(seen.looks, track.looks).max())
        near = _distance(last, box) <= max(last[2] - last[0], last[3] - last[1])
        return common + alike if common >= OVERLAP or (near and alike >= self._embedder.sure) else 0.0


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2)


def lasting(tracks: Sequence[Track], frames: int) -> list[Track]:
    """Those that are no false alarms of single frames, in a shot of so many frames."""
    return [track for track in tracks if len(track.frames) >= min(SHORTEST, frames)]


def identities(
    tracks: Sequence[Track], similarity: np.ndarray, people: Sequence[str], threshold: float, sure: float
) -> list[Match]:
    """Who each track is: one decision for all of its frames, by the similarity of its mean embeddings, ``[tracks, people]``. As in a
    photograph, nobody is two faces that are seen at the same time; one person may be several tracks one after the other."""
    possible = similarity.copy()
    found = [Match()] * len(tracks)
    for number in np.argsort(-possible.max(1, initial=0), kind="stable"):
        others = [other for other in range(len(tracks)) if _together(tracks, number, other)]
        matrix = possible[[number, *others]]
        found[number] = weigh(matrix, people, assign(matrix, people, threshold), sure)[0]
        if (person := found[number].person) is not None:
            possible[others, people.index(person)] = 0
    return found


def _together(tracks: Sequence[Track], one: int, other: int) -> bool:
    """Whether two tracks share a frame."""
    return one != other and not set(tracks[one].frames).isdisjoint(tracks[other].frames)


def placed(track: Track) -> tuple[int, list[Detection]]:
    """Number of the first frame, and a detection for each up to the last: gaps are filled in, and boxes and landmarks smoothed, so that the
    face is cut out and put back in the same way from frame to frame. A steady motion stays as it is."""
    frames, whole = np.array(track.frames), np.arange(track.frames[0], track.frames[-1] + 1)
    found = np.stack([np.concatenate([np.ravel(one.box), one.landmarks.ravel()]) for one in track.detections])
    filled = np.stack([np.interp(whole, frames, column) for column in found.T], 1)
    window = min(WINDOW, len(whole) - 1 + len(whole) % 2)
    smooth = savgol_filter(filled, window, ORDER, axis=0) if window > ORDER else filled
    score = float(np.mean([one.score for one in track.detections]))
    return int(whole[0]), [
        replace(track.detections[0], box=tuple(row[:4].tolist()), landmarks=row[4:].reshape(5, 2).copy(), score=score)
        for row in smooth
    ]

"""Faces that nobody has a name for: described in a few characters, and grouped by who they look like."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from ..vocabulary import Face
from .align import onto_template
from .embed import SCALES, SIMILARITIES, Embedder

LIVELY = 10_000  # groups that a face is compared with: the last ones that anybody was added to


def description(face: Face, embedder: Embedder) -> str:
    """The face's embedding as text: the space's name, and float16 numbers in base 64. This is biometric data."""
    vector = embedder.embed(onto_template(face, face.best)).astype("<f2")
    return f"{embedder.name}:{base64.b64encode(vector.tobytes()).decode()}"


def vector_of(text: object) -> tuple[str, np.ndarray] | None:
    """The space and the unit float32 ``[D]`` of a description; None for a text that is none."""
    name, _, code = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        vector = np.frombuffer(base64.b64decode(code, validate=True), "<f2").astype(np.float32)
    except (binascii.Error, ValueError):
        return None
    length = float(np.linalg.norm(vector)) if vector.size else 0.0
    return (name, vector / length) if name in SIMILARITIES and np.isfinite(length) and length > 0 else None


class Groups:
    """Groups of faces, made in one pass: a face joins the group whose mean it resembles most, if it is as similar as a match that
    needs no check, and else begins a new one. Faces of one photograph never share a group. Two embedding spaces never mix.

    Memory and time per face are bounded: groups that nobody has joined for long are compared no more, but stay.
    """

    def __init__(self) -> None:
        self._count = 0
        self._spaces: dict[tuple[str, int], _Space] = {}

    def add(self, text: object, taken: set[int]) -> int | None:
        """The number of the described face's group, counted from 0, which is put into ``taken``: the groups of the same photograph.
        None for a text that describes no face."""
        found = vector_of(text)
        if found is None:
            return None
        name, vector = found
        space = self._spaces.setdefault((name, len(vector)), _Space(name))
        number = space.joined(vector, taken)
        if number is None:
            number = self._count
            self._count += 1
            space.begin(vector, number)
        taken.add(number)
        return number


class _Space:
    """The groups of one embedding space: sums of their faces' vectors, numbers, and when they were last joined."""

    def __init__(self, name: str) -> None:
        self._similarity, self._sure = SIMILARITIES[name], SCALES[name][1]
        self._sums = self._means = np.zeros((0, 0), np.float32)
        self._numbers, self._joined = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._length = self._clock = 0

    def joined(self, vector: np.ndarray, taken: set[int]) -> int | None:
        if not self._length:
            return None
        similarity = self._similarity(vector[None], self._means[: self._length])[0].copy()
        for number in taken:
            similarity[self._numbers[: self._length] == number] = -1
        best = int(similarity.argmax())
        if similarity[best] < self._sure:
            return None
        self._sums[best] += vector
        self._means[best] = self._sums[best] / max(float(np.linalg.norm(self._sums[best])), 1e-12)
        self._clock += 1
        self._joined[best] = self._clock
        return int(self._numbers[best])

    def begin(self, vector: np.ndarray, number: int) -> None:
        self._clock += 1
        place = self._length
        if place == LIVELY:
            place = int(self._joined.argmin())
        elif place == len(self._sums):
            room = min(max(64, 2 * place), LIVELY)
            self._sums, self._means = (_longer(one, room, len(vector)) for one in (self._sums, self._means))
            self._numbers, self._joined = np.resize(self._numbers, room), np.resize(self._joined, room)
        self._length = max(self._length, place + 1)
        self._sums[place] = self._means[place] = vector
        self._numbers[place], self._joined[place] = number, self._clock


def _longer(rows: np.ndarray, length: int, width: int) -> np.ndarray:
    """The rows, followed by rows of zeros."""
    longer = np.zeros((length, width), np.float32)
    longer[: len(rows)] = rows.reshape(len(rows), width)
    return longer

"""Who is who: the faces of each photograph against the people of a library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..vocabulary import Face, Faces, Library, UserError
from .embed import Embedder

NOBODY = "nobody"


def assign(similarity: np.ndarray, people: Sequence[str], threshold: float) -> list[str | None]:
    """At most one face per person, and one person per face, of one photograph.

    similarity: ``[faces, people]``. The surest pair goes first (a best sum would give up a sure match for two doubtful
    ones), until nothing reaches the threshold. Ties go to the earlier face, then to the name that sorts first, so that
    the order of people never matters.
    """
    pairs = [
        (-similarity[face, column], face, name, column)
        for face in range(len(similarity))
        for column, name in enumerate(people)
        if similarity[face, column] >= threshold
    ]
    matched: list[str | None] = [None] * len(similarity)
    taken: set[int] = set()
    for _, face, name, column in sorted(pairs):
        if matched[face] is None and column not in taken:
            matched[face] = name
            taken.add(column)
    return matched


def similarity_matrix(faces: Sequence[Face], library: Library, embedder: Embedder) -> np.ndarray:
    """``[faces, people]`` in 0..1: each face's similarity to the most alike reference of each person."""
    matrix = np.zeros((len(faces), len(library.people)))
    if not matrix.size:
        return matrix
    embeddings = np.stack([embedder.embed(face.best) for face in faces])
    for column, person in enumerate(library.people):
        references = [reference.embedding for reference in person.references if reference.embedding is not None]
        if references:
            matrix[:, column] = embedder.similarity(embeddings, np.stack(references)).max(1)
    return matrix


def match_faces(
    faces: Faces, library: Library, embedder: Embedder, threshold: float | None = None, override: str = ""
) -> Faces:
    """The faces with ``person`` and ``confidence`` filled in, one-to-one within each photograph.

    threshold: lowest similarity, 0..1; None takes the embedder's own. override: see ``parse_override``; what it says is
    final, has confidence 1, and the people it names are not matched again in that photograph.
    Raises UserError where the library was made with another embedder.
    """
    threshold = embedder.threshold if threshold is None else threshold
    if library.people and library.embedder != embedder.name:
        raise UserError(
            f"The library was made with the identity embedding {library.embedder}, the faces are matched with "
            f"{embedder.name}. Choose the same for both."
        )
    fixed = parse_override(override, len(faces), [person.name for person in library.people])
    frames, first = [], 0
    for frame in faces.frames:
        here = {index - first: name for index, name in fixed.items() if first <= index < first + len(frame)}
        frames.append(_match_frame(frame, library, embedder, threshold, here))
        first += len(frame)
    return replace(faces, frames=tuple(frames))


def _match_frame(
    frame: tuple[Face, ...], library: Library, embedder: Embedder, threshold: float, fixed: Mapping[int, str | None]
) -> tuple[Face, ...]:
    free = [index for index in range(len(frame)) if index not in fixed]
    people = tuple(person for person in library.people if person.name not in fixed.values())
    matrix = similarity_matrix([frame[index] for index in free], replace(library, people=people), embedder)
    names = [person.name for person in people]
    result = {index: (name, float(name is not None)) for index, name in fixed.items()}
    for row, (index, name) in enumerate(zip(free, assign(matrix, names, threshold), strict=True)):
        result[index] = (name, 0.0 if name is None else float(matrix[row, names.index(name)]))
    return tuple(
        replace(face, person=name, confidence=confidence)
        for face, (name, confidence) in zip(frame, (result[index] for index in range(len(frame))), strict=True)
    )


def parse_override(text: str, faces: int, people: Sequence[str]) -> dict[int, str | None]:
    """``"0=Anna, 2=nobody"`` to ``{0: "Anna", 2: None}``; capitals do not matter, names may hold commas.

    Faces are counted from 0 in reading order over the whole batch. Raises UserError for anything that cannot be meant.
    """
    known = {name.casefold(): name for name in people}
    fixed: dict[int, str | None] = {}
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n](?=\s*\d+\s*=|\s*$)", text))):
        number, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or not number.isdecimal():
            raise UserError(f"The override {entry!r} is not understood. Write face=person, such as 0=Anna, 2=nobody.")
        index = int(number)
        if index >= faces:
            last = f"the last face is number {faces - 1}" if faces else "no face was found"
            raise UserError(f"The override {entry!r} names face {index}, but {last} (counted from 0).")
        if index in fixed:
            raise UserError(f"The override names face {index} twice. Keep one of them.")
        if name.casefold() != NOBODY and name.casefold() not in known:
            known_names = ", ".join(people) or "nobody"
            raise UserError(f"The override {entry!r}: there is no {name!r} in the library. Known: {known_names}.")
        fixed[index] = known.get(name.casefold())
    return fixed

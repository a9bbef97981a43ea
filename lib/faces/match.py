"""Matches the faces in each photograph to the people in a library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..vocabulary import Face, Faces, Library, UserError
from .align import onto_template
from .embed import Embedder

NOBODY = "nobody"
EVERYBODY_KNOWN, STRANGERS, GAPS = "known", "strangers", " \t,;\n"
SEPARATED, BETWEEN = re.compile(r"([,;\n])([^,;\n]*)"), re.compile(f"[{GAPS}]*")
MOST_DIGITS, LONGEST = 9, 200  # of a face's number; of what a message repeats
MARGIN = 0.05  # of similarity
NEARLY = 0.12  # so far below the threshold, who it may be is still said


def assign(similarity: np.ndarray, people: Sequence[str], threshold: float) -> list[str | None]:
    """At most one face per person, and one person per face, of one photograph.

    similarity: ``[faces, people]``. The most similar pair is matched first, until no pair reaches the threshold. (Maximizing the
    sum would give up a certain match for two doubtful ones.) Ties go to the earlier face, then to the name that sorts first, so
    that the order of people never matters.
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
    """``[faces, people]`` in 0..1: each face's similarity to the most similar reference of each person.

    A restored face is compared both as found and as restored, and the higher similarity counts.
    """
    matrix = np.zeros((len(faces), len(library.people)))
    if matrix.size:
        for row, face in enumerate(faces):
            matrix[row] = similarity_to_people(looks_of(face, embedder), library, embedder)
    return matrix


def looks_of(face: Face, embedder: Embedder) -> np.ndarray:
    """The embeddings of a face as found and, if there is one, as restored: ``[1 or 2, D]``."""
    looks = [face.crop] if face.restored is None else [face.crop, face.restored]
    return np.stack([embedder.embed(onto_template(face, look)) for look in looks])


def similarity_to_people(looks: np.ndarray, library: Library, embedder: Embedder) -> np.ndarray:
    """``[people]`` in 0..1: the similarity of a face's embeddings to the most similar reference of each person."""
    known = [[one.embedding for one in person.references if one.embedding is not None] for person in library.people]
    return np.array([embedder.similarity(looks, np.stack(one)).max() if one else 0.0 for one in known])


def match_faces(
    faces: Faces,
    library: Library,
    embedder: Embedder,
    threshold: float | None = None,
    override: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Faces:
    """The faces with ``person``, ``confidence`` and ``doubt`` filled in, one-to-one within each photograph.

    threshold: minimum similarity, 0..1; None uses the embedder's default, and its lower one where a photograph shows as many faces as the
    library knows people and each reaches it with another one. override: see ``parse_override``; its entries
    are final and have confidence 1, and the people in it are not matched again in that photograph. progress: called after every
    photograph; may raise to cancel. Raises UserError if the library was made with another embedder.
    """
    if library.people and library.embedder != embedder.name:
        raise UserError(
            f"The library was made with the identity embedding {library.embedder}, but the faces are matched with "
            f"{embedder.name}. Use the same one for both."
        )
    fixed = parse_override(override, len(faces), [person.name for person in library.people])
    frames, first = [], 0
    for frame in faces.frames:
        here = {index - first: name for index, name in fixed.items() if first <= index < first + len(frame)}
        frames.append(_match_frame(frame, library, embedder, threshold, here))
        first += len(frame)
        progress(len(frames), len(faces.frames))
    return replace(faces, frames=tuple(frames))


def _match_frame(
    frame: tuple[Face, ...],
    library: Library,
    embedder: Embedder,
    threshold: float | None,
    fixed: Mapping[int, str | None],
) -> tuple[Face, ...]:
    free = [index for index in range(len(frame)) if index not in fixed]
    people = tuple(person for person in library.people if person.name not in fixed.values())
    matrix = similarity_matrix([frame[index] for index in free], replace(library, people=people), embedder)
    names = [person.name for person in people]
    if threshold is None:
        # As many faces as people, and each like another one: they are meant, however damage makes all less similar.
        meant = len(free) == len(people) and (len(free) == 1 or None not in assign(matrix, names, embedder.alone))
        threshold = embedder.alone if meant else embedder.threshold
    matches = suspected(matrix, names, weigh(matrix, names, assign(matrix, names, threshold), embedder.sure), threshold)
    result = {index: Match(name, float(name is not None)) for index, name in fixed.items()}
    result |= dict(zip(free, matches, strict=True))
    return tuple(
        replace(face, person=found.person, confidence=found.confidence, doubt=found.doubt)
        for face, found in zip(frame, (result[index] for index in range(len(frame))), strict=True)
    )


@dataclass(frozen=True)
class Match:
    """The result for one face: ``person``, ``confidence`` and ``doubt`` of ``Face``."""

    person: str | None = None
    confidence: float = 0.0
    doubt: str = ""


def weigh(similarity: np.ndarray, people: Sequence[str], names: Sequence[str | None], sure: float) -> list[Match]:
    """How far each assignment of ``assign`` can be trusted; an assignment that a crowd explains equally well is undone.

    similarity: ``[faces, people]``. Among many strangers, someone always looks a little like a known person, and someone else nearly
    as much. Below ``sure``, a face must therefore exceed the unmatched faces by ``MARGIN``.
    """
    strangers = [row for row, name in enumerate(names) if name is None]
    matches = []
    for row, name in enumerate(names):
        if name is None:
            matches.append(Match())
            continue
        column = people.index(name)
        confidence = float(similarity[row, column])
        rival = max(similarity[strangers, column], default=0.0)
        others = [(float(value), other) for value, other in zip(similarity[row], people, strict=True) if other != name]
        second, other = max(others, default=(0.0, ""))
        if confidence < sure and confidence - rival < MARGIN:
            matches.append(Match(doubt=f"perhaps {name} ({confidence:.2f}), but another face is equally similar"))
        elif confidence - second < MARGIN:
            matches.append(Match(name, confidence, f"nearly as similar to {other}, {second:.2f}: check"))
        else:
            matches.append(Match(name, confidence, "" if confidence >= sure else "not sure: check"))
    return matches


def suspected(similarity: np.ndarray, people: Sequence[str], matches: Sequence[Match], threshold: float) -> list[Match]:
    """The matches, with the doubt of those faces that hardly miss one of the people nobody was taken for; one face per person.

    similarity: ``[faces, people]``, as in ``weigh``. Damage makes a face less similar to everybody: only a person can say then.
    """
    taken = {match.person for match in matches}
    open_faces = [row for row, match in enumerate(matches) if match == Match()]
    missed = [column for column, name in enumerate(people) if name not in taken]
    names = [people[column] for column in missed]
    likely = assign(similarity[np.ix_(open_faces, missed)], names, threshold - NEARLY)
    told = list(matches)
    for row, name in zip(open_faces, likely, strict=True):
        if name is not None:
            found = similarity[row][people.index(name)]
            told[row] = Match(doubt=f"perhaps {name} ({found:.2f}), but {threshold:.2f} is needed: say who it is")
    return told


def parse_override(text: str, faces: int, people: Sequence[str]) -> dict[int, str | None]:
    """``"0=Anna, 2=nobody"`` to ``{0: "Anna", 2: None}``; case does not matter, and names may contain commas.

    Faces are counted from 0 in reading order over the whole batch. Raises UserError for invalid entries.
    """
    known = {name.casefold(): name for name in people}
    fixed: dict[int, str | None] = {}
    for entry in _entries(text):
        number, equals, name = (part.strip() for part in entry.partition("="))
        entry = entry if len(entry) <= LONGEST else f"{entry[:LONGEST]}..."
        if not equals or not number.isdecimal():
            raise UserError(f"The override {entry!r} is not valid. Write face=person, for example 0=Anna, 2=nobody.")
        index = int(number) if len(number) <= MOST_DIGITS else faces
        if index >= faces:
            last = f"the last face is number {faces - 1}" if faces else "no face was found"
            raise UserError(f"The override {entry!r} names face {index}, but {last} (numbered from 0).")
        if index in fixed:
            raise UserError(f"The override names face {index} twice. Keep only one entry.")
        if name.casefold() != NOBODY and name.casefold() not in known:
            known_names = ", ".join(people) or "nobody"
            raise UserError(
                f"The override {entry!r}: there is no {name[:LONGEST]!r} in the library. Known: {known_names}."
            )
        fixed[index] = known.get(name.casefold())
    return fixed


def _entries(text: str) -> list[str]:
    """The entries of an override: a comma separates only where a number follows, because names may contain commas."""
    entries: list[list[str]] = []
    for separator, part in SEPARATED.findall(f",{text}"):
        number, equals, _ = part.partition("=")
        if equals and number.strip().isdecimal():
            entries.append([part])
        elif entries:
            entries[-1] += separator, part
        elif part.strip():
            entries.append([part])
    return ["".join(entry).strip(GAPS) for entry in entries]


def chosen_people(text: str, people: Sequence[str], complete: bool = True) -> Callable[[str | None], bool]:
    """``"Anna, strangers"`` to whether a person (None for a stranger) is meant; an empty text means everybody.

    people: the names there are; "known" stands for all of them, "strangers" for everyone else. Case does not matter,
    and names may contain commas. Raises UserError for an unknown name, if the names are ``complete``.
    """
    words = {name.casefold(): name for name in (EVERYBODY_KNOWN, STRANGERS, *people)}
    # Longest first: "Smith, Anna" before "Smith".
    names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    name, part = re.compile(rf"({names})\s*(?:[,;\n]|$)"), re.compile(r"[^,;\n]*")
    chosen: set[str] = set()
    rest, place = text.casefold().strip(GAPS), 0
    while place < len(rest):
        found, unknown = name.match(rest, place), part.match(rest, place)
        assert unknown is not None  # it may be empty, but it always matches
        if not found and complete:
            raise UserError(
                f"There is nobody called {unknown[0].strip()[:LONGEST]!r} in the library. Known: "
                f"{', '.join(people) or 'nobody'}. Besides names, you can enter {EVERYBODY_KNOWN!r} and {STRANGERS!r}."
            )
        chosen.add(words[found[1]] if found else unknown[0])
        place = (found or unknown).end()
        if between := BETWEEN.match(rest, place):
            place = between.end()

    def wanted(person: str | None) -> bool:
        return not chosen or person in chosen or (STRANGERS if person is None else EVERYBODY_KNOWN) in chosen

    return wanted

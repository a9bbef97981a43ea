"""A library as one .safetensors file: names, aligned crops (8 bit), landmarks and embeddings. No pickle, no paths.

The contents are biometric data. `delete_person` rewrites the file without a person; nothing about the person is stored
elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..vocabulary import Library, Person, Reference, UserError
from .names import stored_path
from .tensors import OpenTensors, opened_tensors, write_tensors
from .whole import exclusive, remains

FORMAT = "personal-restore-library-1"
LARGEST = 4096  # side of a crop


def save_library(library: Library, folder: Path, name: str) -> Path:
    """Writes ``folder/name.safetensors``, replacing a file of that name, and returns its path.

    The notes are not stored: they are about the pictures that the library was made from. Raises UserError for a name that leads
    out of the folder, and where the file cannot be written.
    """
    path = stored_path(folder, name, "library")
    with exclusive(path):
        _write(library, path)
    return path


def _write(library: Library, path: Path) -> None:
    tensors, people = {}, []
    for number, person in enumerate(library.people):
        for index, reference in enumerate(person.references):
            key = f"{number}.{index}"
            tensors[f"{key}.crop"] = (reference.crop.clamp(0, 1) * 255).round().byte().cpu().contiguous()
            tensors[f"{key}.landmarks"] = torch.tensor(reference.landmarks, dtype=torch.float64)
            if reference.embedding is not None:
                tensors[f"{key}.embedding"] = torch.tensor(reference.embedding, dtype=torch.float32)
        names = [reference.name for reference in person.references]
        people.append({"name": person.name, "noun": person.noun, "references": names})
    metadata = {"format": FORMAT, "embedder": library.embedder, "people": json.dumps(people)}
    try:
        write_tensors(path, tensors, metadata, private=True)
    except OSError as error:
        raise UserError(
            f"The library {path.name} cannot be written. Check the free space and the permissions of its folder."
        ) from error


def load_library_file(folder: Path, name: str) -> Library:
    """The library of ``folder/name.safetensors``. Raises UserError if it is missing or is no library."""
    path = stored_path(folder, name, "library")
    if not path.is_file():
        raise UserError(f"There is no library {path.name}. Check the spelling, or save a library first.")
    try:
        with opened_tensors(path) as file:
            metadata = file.metadata
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            people = tuple(_people(file, json.loads(metadata["people"])))
            return Library(people, metadata["embedder"])
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{path.name} is not a library of this pack ({error}). Make it again from the album."
        ) from error


def delete_person(folder: Path, name: str, person: str) -> Library:
    """Rewrites the file without a person, removes it with the last one, and returns the remaining library.

    Raises UserError if the library does not hold the person.
    """
    path = stored_path(folder, name, "library")
    with exclusive(path):  # from reading to writing, so that nobody comes back or gets lost
        library = load_library_file(folder, name)
        if library.get(person) is None:
            known = ", ".join(other.name for other in library.people) or "nobody"
            raise UserError(f"There is no {person!r} in the library {name!r}. Known: {known}.")
        left = Library(tuple(other for other in library.people if other.name != person), library.embedder)
        if left.people:
            _write(left, path)
        try:
            if not left.people:
                path.unlink()
            for partial in remains(path):  # of a killed writer: it holds the person, too
                partial.unlink()
        except OSError as error:
            raise UserError(
                f"The library {path.name} cannot be removed. Close the program that uses it, or delete the file by hand."
            ) from error
    return left


def library_stamp(folder: Path, name: str) -> tuple[int, int] | None:
    """Modification time and size of a library's file, or None if there is none. The stamp changes with the library."""
    path = stored_path(folder, name, "library")
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


def _people(file: OpenTensors, people: list[dict[str, Any]]) -> Iterator[Person]:
    """Everything that is used later is checked here. Raises ValueError, or what a value of a wrong kind raises."""
    seen, widths = set(), set()
    for number, person in enumerate(people):
        name, noun = person["name"], person["noun"]
        if not isinstance(name, str) or not isinstance(noun, str) or name in seen:
            raise ValueError(f"person {number} has no name of their own")
        if not isinstance(person["references"], list) or not person["references"]:
            raise ValueError(f"person {number} has no references")
        seen.add(name)
        references = [_reference(file, f"{number}.{index}", str(one)) for index, one in enumerate(person["references"])]
        widths |= {len(one.embedding) for one in references if one.embedding is not None}
        yield Person(name, tuple(references), noun)
    if len(widths) > 1:
        raise ValueError("its embeddings have different lengths")


def _reference(file: OpenTensors, key: str, name: str) -> Reference:
    crop, landmarks = file.get(f"{key}.crop"), file.get(f"{key}.landmarks")
    square = crop.ndim == 3 and crop.shape == (3, crop.shape[2], crop.shape[2]) and 0 < crop.shape[2] <= LARGEST
    if crop.dtype != torch.uint8 or not square or landmarks.shape != (5, 2):
        raise ValueError(f"reference {key} has the wrong shape")
    points = landmarks.double()
    if not landmarks.is_floating_point() or not points.isfinite().all():
        raise ValueError(f"the landmarks of reference {key} are not numbers")
    if f"{key}.embedding" not in file.names:
        return Reference(name, crop.float().div_(255), points.numpy().copy(), None)
    embedding = file.get(f"{key}.embedding")
    if embedding.ndim != 1 or not len(embedding):
        raise ValueError(f"the embedding of reference {key} has the wrong shape")
    if not embedding.is_floating_point() or not embedding.float().isfinite().all():
        raise ValueError(f"the embedding of reference {key} is not made of numbers")
    return Reference(name, crop.float().div_(255), points.numpy().copy(), embedding.float().numpy().astype(np.float32))

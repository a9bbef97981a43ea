"""A library as one .safetensors file: names, aligned crops (8 bit), landmarks and embeddings. No pickle, no paths.

The contents are biometric data. `delete_person` rewrites the file without a person; nothing about the person is stored
elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ..vocabulary import Library, Person, Reference, UserError
from .names import stored
from .tensors import OpenTensors, opened, write_tensors

FORMAT = "personal-restore-library-1"


def save_library(library: Library, folder: Path, name: str) -> Path:
    """Writes ``folder/name.safetensors``, replacing a file of that name, and returns its path.

    The notes are not stored: they are about the pictures that the library was made from. Raises UserError for a name that leads
    out of the folder, and where the file cannot be written.
    """
    path = stored(folder, name, "library")
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
        write_tensors(path, tensors, metadata)
    except OSError as error:
        raise UserError(
            f"The library {path.name} cannot be written. Check the free space and the permissions of its folder."
        ) from error
    return path


def load_library_file(folder: Path, name: str) -> Library:
    """The library of ``folder/name.safetensors``. Raises UserError if it is missing or is no library."""
    path = stored(folder, name, "library")
    if not path.is_file():
        raise UserError(f"There is no library {path.name}. Check the spelling, or save a library first.")
    try:
        with opened(path) as file:
            metadata = file.metadata
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            people = tuple(_people(file, json.loads(metadata["people"])))
            return Library(people, metadata["embedder"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path.name} is not a library of this pack ({error}). Make it again from the album."
        ) from error


def delete_person(folder: Path, name: str, person: str) -> Library:
    """Rewrites the file without a person, removes it with the last one, and returns the remaining library.

    Raises UserError if the library does not hold the person.
    """
    library = load_library_file(folder, name)
    if library.get(person) is None:
        known = ", ".join(other.name for other in library.people) or "nobody"
        raise UserError(f"There is no {person!r} in the library {name!r}. Known: {known}.")
    left = Library(tuple(other for other in library.people if other.name != person), library.embedder)
    if left.people:
        save_library(left, folder, name)
        return left
    path = stored(folder, name, "library")
    try:
        path.unlink()
    except OSError as error:
        raise UserError(
            f"The library {path.name} cannot be removed. Close the program that uses it, or delete the file by hand."
        ) from error
    return left


def stamp(folder: Path, name: str) -> tuple[int, int] | None:
    """Modification time and size of a library's file, or None if there is none. The stamp changes with the library."""
    path = stored(folder, name, "library")
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


def _people(file: OpenTensors, people: list[dict]) -> Iterator[Person]:
    for number, person in enumerate(people):
        references = []
        for index, name in enumerate(person["references"]):
            key = f"{number}.{index}"
            crop, landmarks = file.get(f"{key}.crop"), file.get(f"{key}.landmarks")
            embedding = file.get(f"{key}.embedding") if f"{key}.embedding" in file.names else None
            square = crop.ndim == 3 and crop.shape == (3, crop.shape[2], crop.shape[2])
            if crop.dtype != torch.uint8 or not square or landmarks.shape != (5, 2):
                raise ValueError(f"reference {key} has the wrong shape")
            if embedding is not None and embedding.ndim != 1:
                raise ValueError(f"the embedding of reference {key} has the wrong shape")
            unit = None if embedding is None else embedding.numpy().astype(np.float32)
            references.append(Reference(str(name), crop.float() / 255, landmarks.double().numpy().copy(), unit))
        yield Person(str(person["name"]), tuple(references), str(person["noun"]))

"""What results are made from, by content, so that a change of any of it is seen and nothing else is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...lib.bridge import weight_folders
from ...lib.faces.embed import best_embedder
from ...lib.pictures.files import pictures_below
from ...lib.standin.graph import Graph
from ...lib.storage.fingerprint import file_sha256
from ...lib.vocabulary import UserError
from .manifest import Origin

DIGITS = 16  # of SHA-256
KINDS = (
    "personal_restore",
    "facerestore_models",
    "checkpoints",
    "upscale_models",
    "diffusers",
    "controlnet",
    "loras",
    "vae",
)
EMBEDDED = Path(__file__).resolve().parents[2] / "models" / "embedded"


def content(path: Path) -> str:
    """Of a file. Raises OSError."""
    return file_sha256(path)[:DIGITS]


def origin(graph: Graph, album: Path) -> Origin:
    """Of a graph with its settings, and of an album by the names and contents of its pictures, wherever it lies.

    The weights are those that ship with the pack, those in the root of the folder ``personal_restore``, where detectors and
    recognizers are, and every file of a folder of weights that the graph names.
    """
    plain = json.dumps(_without(graph, str(album)), sort_keys=True)
    pictures = pictures_below(album)
    try:
        return Origin(
            hashlib.sha256(plain.encode()).hexdigest()[:DIGITS],
            _digest(files_of_weights(graph), best_embedder(weight_folders("personal_restore")).name),
            _digest((path.relative_to(album).as_posix(), path) for path in pictures),
        )
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}). Check its permissions.") from error


def files_of_weights(graph: Graph) -> Iterator[tuple[str, Path]]:
    """Name and path of everything that the graph may load."""
    found = {f"embedded/{path.name}": path for path in EMBEDDED.glob("*.safetensors")}
    named = {text for node in graph.values() for text in node["inputs"].values() if isinstance(text, str) and text}
    for kind in KINDS:
        for folder in filter(Path.is_dir, weight_folders(kind)):
            for path in folder.rglob("*"):
                beside = kind == "personal_restore" and path.parent == folder
                name = path.relative_to(folder).as_posix()
                if path.is_file() and (beside or named & {name, path.name, path.stem, name.split("/")[0]}):
                    found[f"{kind}/{name}"] = path
    yield from sorted(found.items())


def _digest(files: Iterable[tuple[str, Path]], *texts: str) -> str:
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name, path in files:
        digest.update(json.dumps([name, content(path)]).encode())
    return digest.hexdigest()[:DIGITS]


def _without(value: Any, album: str) -> Any:
    """The graph without where the album lies, and without titles, which change nothing."""
    if isinstance(value, dict):
        return {name: _without(one, album) for name, one in value.items() if name != "_meta"}
    return "" if value == album else value

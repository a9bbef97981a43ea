"""What a dataset is built with, from the files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..lib.bridge import device, keep, weight_folders
from ..lib.faces.embed import best_embedder
from ..lib.faces.library import load_library
from ..lib.vocabulary import Library, Restorer, UserError
from ..models.album import ready as album
from ..models.embedded import ready as embedded

if TYPE_CHECKING:
    from ..training.dataset import Tools

FACES = "auto", "faceme", "embedded"  # restorers of faces with an album


def dataset_tools(albums: Path | None, faces: str, quality: bool) -> tuple[Tools, list[str]]:
    """The tools, and notes for the user. albums: a folder with one subfolder of pictures per person; faces: one of FACES, of which auto is
    FaceMe where its files are; quality: measure by pyiqa, too.

    Raises UserError for FaceMe without its files.
    """
    # Imported here because scikit-image and the like take seconds to import.
    from ..training.dataset import Tools
    from ..training.gates import pyiqa_scorers

    folders = weight_folders("personal_restore")
    embedder, one_step = best_embedder(folders), embedded.restorer(keep)
    library = load_library(albums, embedder, folders) if albums else Library()
    notes = list(library.notes)
    faceme = None if faces == "embedded" else _faceme(faces == "faceme", notes)
    references = (faceme,) if faceme else (one_step, album.restorer(keep))
    scorers = pyiqa_scorers(device()) if quality else {}
    return Tools(library, embedder, references, one_step, scorers, folders), notes


def _faceme(required: bool, notes: list[str]) -> Restorer | None:
    """FaceMe as created by its node; None, and a note, if its files are missing and not required."""
    from ..models.faceme.build import BASE, NEEDED, restorer_from
    from ..models.shared.catalogue import find_all

    try:
        find_all([BASE, *NEEDED], weight_folders)
    except UserError as error:
        if required:
            raise
        notes.append(
            f"Faces are restored without FaceMe, with the restorers that ship with the pack. FaceMe needs:\n{error}"
        )
        return None
    return restorer_from()

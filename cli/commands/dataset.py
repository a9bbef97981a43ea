"""``run.py dataset``: what Face2Scene is trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...lib.vocabulary import Restorer, UserError


def add(commands: argparse._SubParsersAction) -> None:
    dataset = commands.add_parser("dataset", help="build a dataset for training face2scene; see docs/training.md")
    dataset.add_argument("--photos", type=Path, required=True, help="undamaged photographs, in folders of any depth")
    dataset.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the dataset; run the command again to resume after an interruption",
    )
    dataset.add_argument("--albums", type=Path, help="a folder with one subfolder of good pictures per person")
    dataset.add_argument(
        "--faces",
        choices=("auto", "faceme", "embedded"),
        default="auto",
        help="restorer for faces with an album: FaceMe, or the restorers that ship with the pack (default: FaceMe if "
        "its weights are present)",
    )
    dataset.add_argument(
        "--quality",
        action="store_true",
        help="also filter by MUSIQ, CLIP-IQA and MANIQA; pyiqa downloads their weights itself",
    )
    dataset.add_argument("--config", type=Path, help="a JSON file that overrides the default gates, versions or data")
    dataset.set_defaults(run=_dataset)


def _dataset(options: argparse.Namespace) -> int:
    from ...lib.bridge import device, keep, weight_folders
    from ...lib.faces.embed import best_embedder
    from ...lib.faces.library import load_library
    from ...lib.vocabulary import Library
    from ...models.album import ready as album
    from ...models.embedded import ready as embedded
    from ...training import dataset
    from ...training.gates import pyiqa_scorers

    config = dataset.read_config(options.config) if options.config else dataset.Config()
    embedder, one_step = best_embedder(weight_folders("personal_restore")), embedded.restorer(keep)
    library = (
        load_library(options.albums, embedder, weight_folders("personal_restore")) if options.albums else Library()
    )
    for note in library.notes:
        print(note)
    faceme = None if options.faces == "embedded" else _faceme(required=options.faces == "faceme")
    tools = dataset.Tools(
        library,
        embedder,
        (faceme,) if faceme else (one_step, album.restorer(keep)),
        one_step,
        pyiqa_scorers(device()) if options.quality else {},
        weight_folders("personal_restore"),
    )
    print(json.dumps(dataset.build_dataset(options.photos, options.out, config, tools), indent=2))
    print(
        f"-> {options.out / dataset.MANIFEST} lists the measurements of every photograph, and why photographs were "
        "rejected."
    )
    return 0


def _faceme(required: bool) -> Restorer | None:
    """FaceMe as created by its node; None if its weights are missing and not required."""
    from ...lib.bridge import weight_folders
    from ...models.faceme.build import BASE, NEEDED, restorer_from
    from ...models.shared.catalogue import find_all

    try:
        find_all([BASE, *NEEDED], weight_folders)
    except UserError as error:
        if required:
            raise
        print(f"Faces are restored without FaceMe, with the restorers that ship with the pack. FaceMe needs:\n{error}")
        return None
    return restorer_from()

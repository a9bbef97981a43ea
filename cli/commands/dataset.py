"""``run.py dataset``: what Face2Scene is trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...lib.vocabulary import Restorer, UserError


def add(commands: argparse._SubParsersAction) -> None:
    dataset = commands.add_parser("dataset", help="build what face2scene is trained on; see docs/training.md")
    dataset.add_argument("--photos", type=Path, required=True, help="undamaged photographs, in folders of any depth")
    dataset.add_argument("--out", type=Path, required=True, help="the dataset; killed, it is built on from there")
    dataset.add_argument("--albums", type=Path, help="a folder with one sub-folder of good pictures per person")
    dataset.add_argument(
        "--faces",
        choices=("auto", "faceme", "embedded"),
        default="auto",
        help="what restores faces that have an album: FaceMe, or what comes with the pack (default: FaceMe where its weights are)",
    )
    dataset.add_argument(
        "--quality",
        action="store_true",
        help="gates by MUSIQ, CLIP-IQA and MANIQA too; pyiqa fetches their weights itself",
    )
    dataset.add_argument("--config", type=Path, help="a JSON file with other gates, versions or data than the defaults")
    dataset.set_defaults(run=_dataset)


def _dataset(options: argparse.Namespace) -> int:
    from ...lib.bridge import device, keep, models_folder
    from ...lib.faces.embed import best_embedder
    from ...lib.faces.library import load_library
    from ...lib.vocabulary import Library
    from ...models.embedded import ready as embedded
    from ...models.embedded.reference_restorer import ReferenceRestorer
    from ...training import dataset
    from ...training.gates import pyiqa_scorers

    config = dataset.read_config(options.config) if options.config else dataset.Config()
    embedder, one_step = best_embedder(models_folder()), embedded.restorer(keep)
    library = load_library(options.albums, embedder, models_folder()) if options.albums else Library()
    for note in library.notes:
        print(note)
    faceme = None if options.faces == "embedded" else _faceme(required=options.faces == "faceme")
    tools = dataset.Tools(
        library,
        embedder,
        (faceme,) if faceme else (one_step, ReferenceRestorer()),
        one_step,
        pyiqa_scorers(device()) if options.quality else {},
        models_folder(),
    )
    print(json.dumps(dataset.build(options.photos, options.out, config, tools), indent=2))
    print(f"-> {options.out / dataset.MANIFEST} says of every photograph what was measured, and why it was refused.")
    return 0


def _faceme(required: bool) -> Restorer | None:
    """FaceMe as its node makes it; None where its weights are not there and it need not be."""
    from ...lib.bridge import weight_folders
    from ...models.faceme.build import BASE, NEEDED, restorer_from
    from ...models.shared.catalogue import find_all

    try:
        find_all([BASE, *NEEDED], weight_folders)
    except UserError as error:
        if required:
            raise
        print(f"Faces are restored without FaceMe, by what comes with the pack. What FaceMe lacks:\n{error}")
        return None
    return restorer_from()

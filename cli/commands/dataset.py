"""``run.py dataset``: what Face2Scene is trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


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
    from ...nodes.dataset_tools import dataset_tools
    from ...training import dataset

    config = dataset.read_config(options.config) if options.config else dataset.Config()
    tools, notes = dataset_tools(options.albums, options.faces, options.quality)
    for note in notes:
        print(note)
    print(json.dumps(dataset.build_dataset(options.photos, options.out, config, tools), indent=2))
    print(
        f"-> {options.out / dataset.MANIFEST} lists the measurements of every photograph, and why photographs were "
        "rejected."
    )
    return 0

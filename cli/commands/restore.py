"""``run.py restore``: photographs of one's own, by a bundled workflow."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ...lib.vocabulary import UserError

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"


def add(commands: argparse._SubParsersAction) -> None:
    restore = commands.add_parser("restore", help="restore your own photographs")
    restore.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="pictures, or folders of pictures")
    restore.add_argument(
        "--album",
        type=Path,
        help="a folder with one subfolder of good pictures per person, or just pictures of one person",
    )
    restore.add_argument(
        "--workflow", default="face2scene", help="face2scene, perfuse, or an API-format JSON file (default: face2scene)"
    )
    restore.add_argument("--out", type=Path, default=Path("output"), help="folder for the results (default: output)")
    restore.add_argument("--seed", type=int, default=0)
    restore.add_argument(
        "--strength", type=float, default=1.0, help="0 returns the photograph unchanged, 1 restores fully (default)"
    )
    restore.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change any value in the workflow"
    )
    restore.set_defaults(run=_restore)


def _restore(options: argparse.Namespace) -> int:
    from ...lib.standin.core_nodes import CORE_NODES
    from ...lib.standin.graph import apply_overrides, kinds, load_graph
    from ...lib.standin.host import allow_folder
    from ...nodes import NODES
    from .. import own
    from ..restore import restore_file

    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength {options.strength} is not between 0 and 1.")
    bundled = WORKFLOWS / f"{options.workflow}.json"
    graph = load_graph(bundled if bundled.is_file() else Path(options.workflow))
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as nobody:
        album = options.album or Path(nobody)
        if not album.is_dir():
            raise UserError(f"--album {album}: the folder does not exist.")
        graph = own.with_album(graph, allow_folder(album))
        graph = own.with_seed(own.with_strength(graph, options.strength), options.seed)
        graph = apply_overrides(graph, options.set, kinds((*CORE_NODES, *NODES)))
        photos, failed = list(_pictures(options.photos)), []
        if not photos:
            raise UserError(f"There are no pictures in {', '.join(map(str, options.photos))}.")
        for photo in photos:
            print(f"\n{photo.name}", flush=True)
            try:
                print(f"-> {restore_file(graph, photo, options.out)}", flush=True)
            except UserError as error:
                failed.append(f"{photo.name}: {error}")
                print(f"error: {error}", file=sys.stderr, flush=True)
    if failed and len(photos) > 1:
        print(f"\n{len(failed)} of {len(photos)} failed:", *failed, sep="\n- ", file=sys.stderr)
    return 1 if failed else 0


def _pictures(paths: Iterable[Path]) -> Iterable[Path]:
    """The given files, and the pictures in the given folders."""
    from ...lib.pictures.files import is_picture

    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if is_picture(file))
        else:
            yield path

"""``run.py restore``: photographs of one's own, by a bundled workflow."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ...lib.vocabulary import UserError

log = logging.getLogger(__name__)

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
        "--edit", type=Path, help="with --workflow keep_the_person: what an editing model made of the one photograph"
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
    from ...lib.storage.whole import check_room
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
        graph = own.with_album(graph, own.opened_album(album))
        graph = own.with_seed(own.with_strength(graph, options.strength), options.seed)
        graph = apply_overrides(graph, options.set, kinds((*CORE_NODES, *NODES)))
        if options.edit is not None:
            graph = own.with_edit(graph, allow_folder(options.edit).resolve())
        photos = list(_pictures(options.photos))
        if not photos:
            raise UserError(f"There are no pictures to restore in {', '.join(map(str, options.photos))}.")
        check_room(options.out, 0, f"--out {options.out}")
        failed = []
        for photo in photos:
            print(f"\n{photo.name}", flush=True)
            try:
                print(f"-> {restore_file(graph, photo, options.out)}", flush=True)
            except UserError as error:
                failed.append(f"{photo.name}: {error}")
                print(f"error: {error}", file=sys.stderr, flush=True)
            except Exception as error:  # one picture never ends the others
                failed.append(f"{photo.name}: {type(error).__name__}: {error}")
                log.exception("error: %s", photo.name)
    if failed and len(photos) > 1:
        print(f"\n{len(failed)} of {len(photos)} failed:", *failed, sep="\n- ", file=sys.stderr)
    return 1 if failed else 0


def _pictures(paths: Iterable[Path]) -> Iterable[Path]:
    """The given files, and the pictures in the given folders that are no results of this command."""
    from ...lib.pictures.files import is_picture
    from ..restore import is_result

    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            files = sorted(file for file in path.iterdir() if is_picture(file))
        except OSError as error:
            raise UserError(f"The folder {path} cannot be read ({error.strerror}). Check its permissions.") from error
        results = {file for file in files if is_result(file)}
        if results:
            print(
                f"{path.name}: {len(results)} results of earlier runs are skipped. Name one to restore it.", flush=True
            )
        yield from (file for file in files if file not in results)

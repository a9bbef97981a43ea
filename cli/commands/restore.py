"""``run.py restore``: photographs of one's own, or a folder of folders of them, by a bundled workflow."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.extras import require
from ...lib.vocabulary import UserError

if TYPE_CHECKING:
    from ...lib.standin.graph import Graph
    from ..archive.photograph import Job
    from ..archive.run import Restoring

log = logging.getLogger(__name__)

FOR_FOLDERS = "redo", "retry_failed", "workers", "servers", "ray"
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"


def add(commands: argparse._SubParsersAction) -> None:
    restore = commands.add_parser("restore", help="restore your own photographs")
    restore.add_argument(
        "photos",
        type=Path,
        nargs="+",
        metavar="PHOTO",
        help="pictures, videos, or one folder, whose subfolders are restored too",
    )
    restore.add_argument(
        "--album",
        type=Path,
        help="a folder with one subfolder of good pictures per person, or just pictures of one person",
    )
    restore.add_argument(
        "--edit", type=Path, help="with --workflow keep_the_person: what an editing model made of the one photograph"
    )
    workflow = restore.add_mutually_exclusive_group()
    workflow.add_argument(
        "--workflow", default="face2scene", help="face2scene, perfuse, or an API-format JSON file (default: face2scene)"
    )
    workflow.add_argument(
        "--old",
        action="store_const",
        dest="workflow",
        const="old_photo",
        help="a scanned print: first find and fill scratches, folds, dust and stains (the workflow old_photo)",
    )
    restore.add_argument("--out", type=Path, default=Path("output"), help="folder for the results (default: output)")
    restore.add_argument("--seed", type=int, default=0)
    restore.add_argument(
        "--strength", type=float, default=1.0, help="0 returns the photograph unchanged, 1 restores fully (default)"
    )
    restore.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change any value in the workflow"
    )
    restore.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of each process; on the CPU, equal bytes need equal threads (default: its share of the cores)",
    )
    folder = restore.add_argument_group("for a folder")
    folder.add_argument("--redo", action="store_true", help="also restore what is up to date")
    folder.add_argument("--retry-failed", action="store_true", help="also try again what failed and has not changed")
    folder.add_argument("--workers", type=int, metavar="N", help="processes, as far as memory holds them (default: 1)")
    folder.add_argument("--servers", metavar="URL,URL", help="ComfyUI servers that restore instead of this machine")
    folder.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="a Ray cluster (default: one on this machine)"
    )
    clip = restore.add_argument_group("for videos and bursts")
    clip.add_argument("--clip", action="store_true", help="the folder holds the frames of one clip")
    clip.add_argument(
        "--no-tracking", action="store_true", help="restore every frame by itself, without deciding anything for a shot"
    )
    restore.set_defaults(run=_restore)


def _restore(options: argparse.Namespace) -> int:
    from ...lib.standin.core_nodes import CORE_NODES
    from ...lib.standin.graph import apply_overrides, kinds, load_graph
    from ...lib.storage.whole import check_room
    from ...nodes import NODES
    from .. import own

    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength {options.strength} is not between 0 and 1.")
    folders = [path for path in options.photos if path.is_dir()]
    if folders and len(options.photos) > 1:
        raise UserError(
            f"{folders[0]} is a folder. Name one folder alone, such as the one that holds all of them, or only pictures."
        )
    if options.edit is not None and (folders or len(options.photos) > 1):
        raise UserError(f"--edit {options.edit} was made of one photograph. Name only that one.")
    _check_kinds(options, bool(folders))
    if options.servers and (options.workers or options.threads or options.ray):
        raise UserError("--servers restores elsewhere. Omit --workers, --threads and --ray.")
    if any(number is not None and number < 1 for number in (options.workers, options.threads)):
        raise UserError("--workers and --threads need a number of at least 1.")
    if options.threads:
        from ..archive.workers import set_threads

        set_threads(options.threads)
    bundled = WORKFLOWS / f"{options.workflow}.json"
    graph = load_graph(bundled if bundled.is_file() else Path(options.workflow))
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as nobody:
        album = options.album or Path(nobody)
        if not album.is_dir():
            raise UserError(f"--album {album}: there is no such folder.")
        graph = own.with_album(graph, own.opened_album(album))
        graph = own.with_seed(own.with_strength(graph, options.strength), options.seed)
        graph = apply_overrides(graph, options.set, kinds((*CORE_NODES, *NODES)))
        if options.clip:
            return _files(partial(_clip, graph, album, options), options.photos)
        if folders:
            return _folder(graph, folders[0], album.resolve(), options)
        check_room(options.out, 0, f"--out {options.out}")
        return _files(partial(_file, graph, album, options), options.photos)


def _check_kinds(options: argparse.Namespace, folder: bool) -> None:
    """Raises UserError for options that are not for what is named."""
    from ...lib.pictures.files import is_video

    clips = options.clip or any(map(is_video, options.photos))
    for name in () if folder and not options.clip else FOR_FOLDERS:
        if getattr(options, name) not in (None, False):
            raise UserError(f"--{name.replace('_', '-')} is for a folder of photographs. Name one.")
    if options.clip and not folder:
        raise UserError("--clip is for a folder of frames. Name one, or omit it for a video file.")
    if options.no_tracking and not clips:
        raise UserError("--no-tracking is for a video, or for a folder of frames with --clip.")
    if options.edit is not None and clips:
        raise UserError(f"--edit {options.edit} was made of one photograph, not of a clip.")


def _folder(graph: Graph, folder: Path, album: Path, options: argparse.Namespace) -> int:
    from ..archive.origin import origin
    from ..archive.photograph import Job
    from ..archive.run import Wanted, check_folders, run, summary
    from ..own import with_likeness

    folder, out = folder.resolve(), options.out.resolve()
    check_folders(folder, out, album)  # before all weights are read, which may take minutes
    graph = with_likeness(graph)
    job = Job(folder, out, graph, album, origin(graph, album), album.name if options.album else "")
    counts = run(job, _restoring(job, options), Wanted(options.redo, options.retry_failed))
    print(*summary(counts, options.out), sep="\n", flush=True)
    return 1 if counts.failed else 0


def _restoring(job: Job, options: argparse.Namespace) -> Restoring:
    """Where the photographs of a folder are restored."""
    if options.servers:
        require("--servers", "servers")
        from ..archive.servers import servers

        return partial(servers, job, [url.strip() for url in options.servers.split(",") if url.strip()])
    if options.ray:
        require("--ray", "cluster")
        from ..archive.cluster import cluster

        return partial(cluster, job, options.ray, actors=options.workers, threads=options.threads)
    if options.workers:
        from ..archive.workers import workers

        return partial(workers, job, options.workers, threads=options.threads)
    from ..archive.photograph import Here

    return Here(job).all


def _file(graph: Graph, album: Path, options: argparse.Namespace, path: Path) -> Path:
    from ...lib.pictures.files import is_video
    from ..restore import restore_file

    if is_video(path):
        return _clip(graph, album, options, path)
    return restore_file(graph, path, options.out, options.edit)


def _clip(graph: Graph, album: Path, options: argparse.Namespace, path: Path) -> Path:
    from ..video.clip import restore_clip

    return restore_clip(graph, album.resolve(), path.resolve(), options.out, tracked=not options.no_tracking)


def _files(restored: Callable[[Path], Path], photos: list[Path]) -> int:
    failed = []
    for photo in photos:
        print(f"\n{photo.name}", flush=True)
        try:
            print(f"-> {restored(photo)}", flush=True)
        except UserError as error:
            failed.append(f"{photo.name}: {error}")
            print(f"error: {error}", file=sys.stderr, flush=True)
        except Exception as error:  # one picture never ends the others
            failed.append(f"{photo.name}: {type(error).__name__}: {error}")
            log.exception("error: %s", photo.name)
    if failed and len(photos) > 1:
        print(f"\n{len(failed)} of {len(photos)} failed:", *failed, sep="\n- ", file=sys.stderr)
    return 1 if failed else 0

"""One photograph of a folder: restored, saved under its mirrored name, and described in an entry of the manifest."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from ...lib.pictures.mirror import mirrored
from ...lib.pictures.opening import large_pictures
from ...lib.standin.graph import Graph
from ...lib.standin.runner import Kept
from ...lib.storage.whole import check_room, whole
from ...lib.vocabulary import UserError
from ..own import opened_album
from ..photograph import prepared_photograph
from ..restore import Restored, is_result, restore_source, restored_frames, save_result
from .manifest import Entry, Origin
from .origin import content

log = logging.getLogger(__name__)

PREVIEWS, WORKSHOP = "previews", ".unfinished"
ANIMATIONS = "AVIF", "GIF", "PNG", "WEBP"  # the result is an animated PNG; the pages of a TIFF are no animation
SIDE, QUALITY = 1024, 85  # of the JPEG of the photograph that the page shows
ROOM = 1_000_000  # bytes that a preview and the manifest's line need at most


class Lost(Exception):
    """Where a photograph was to be restored is gone, and nothing is known of the photograph. The message is a sentence."""


class Unstarted(Lost):
    """It was gone before it could begin, so that the photograph has nothing to do with it."""


class OutputError(Exception):
    """Nothing more can be saved, so that it would be no use to go on with the next photograph."""


@dataclass(frozen=True)
class Job:
    """What all photographs of a run have in common. graph: with the album and the settings, without a photograph; people: the album as
    the page is to call it, empty if there is none."""

    folder: Path
    out: Path
    graph: Graph
    album: Path
    origin: Origin
    people: str = ""


class Here:
    """Restores in this process. What does not depend on the photograph, such as the album and the networks, is made once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        opened_album(job.album)
        self._kept = Kept(frozenset(["photograph"]))

    def __call__(self, photograph: str) -> Entry:
        return entry_of(self._job, photograph, self._run)

    def all(self, photographs: Iterator[str]) -> Generator[Entry]:
        yield from map(self, photographs)

    def _run(self, source: Path) -> Restored:
        return restore_source(self._job.graph, source, self._kept)


def entry_of(job: Job, photograph: str, run: Callable[[Path], Restored]) -> Entry:
    """Restores a photograph with ``run``, which gets a file to load, and saves the result. Whatever is wrong with the photograph is in
    the entry. Raises OutputError if nothing can be saved any more, and Lost where ``run`` does."""
    start = time.perf_counter()
    base = failed(job, photograph)
    try:
        done = base if base.reason else _restored(job, base, job.folder / photograph, run)
    except (OutputError, Lost):
        raise
    except UserError as error:
        done = replace(base, reason=str(error))
    except Exception as error:  # one photograph never ends the others
        log.debug("%s", photograph, exc_info=True)
        done = replace(base, reason=f"{type(error).__name__}: {error}")
    return replace(done, seconds=round(time.perf_counter() - start, 3), finished=_now())


def failed(job: Job, photograph: str, reason: str = "") -> Entry:
    """The entry of a photograph that was not restored, with the state of its file; ``reason`` is replaced if that cannot be read."""
    path = job.folder / photograph
    try:
        status = path.stat()
        return Entry(
            photograph, status.st_size, status.st_mtime_ns, content(path), job.origin, reason=reason, finished=_now()
        )
    except OSError as error:
        reason = f"{path.name} cannot be read ({error.strerror or error})."
        return Entry(photograph, 0, 0, "", job.origin, reason=reason, finished=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _restored(job: Job, base: Entry, path: Path, run: Callable[[Path], Restored]) -> Entry:
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder, large_pictures():
        photo = prepared_photograph(path, Path(folder), ANIMATIONS)
        width, height = photo.size
        try:
            check_room(job.out, ROOM + 5 * width * height * photo.frames, f"The output folder {job.out}")
        except UserError as error:
            raise OutputError(str(error)) from error
        result = mirrored(base.photograph)
        if (job.out / result).exists() and not is_result(job.out / result):
            raise UserError(
                f"{result} in the output folder is not a result of this command. Move it, or choose another folder."
            )
        done = run(photo.source)
        animated = restored_frames(path, photo, Path(folder), run).options("PNG") if photo.frames > 1 else {}
        workshop = job.out / WORKSHOP
        try:
            with whole(job.out / PREVIEWS / f"{result}.jpg", workshop=workshop) as partial:
                _preview(done.before).save(partial, "JPEG", quality=QUALITY)
            with whole(job.out / result, workshop=workshop) as partial:
                save_result(photo, done.after, partial, **animated)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(
                f"{job.out / result} cannot be saved ({reason}). Make room, or check the folder."
            ) from error
    report = done.report
    return replace(
        base,
        result=result,
        before=done.before.size,
        after=done.after.size,
        faces=report.get("faces", []),
        damage=report.get("damage"),
        notes=photo.notes,
    )


def _preview(before: Image.Image) -> Image.Image:
    small = before.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small

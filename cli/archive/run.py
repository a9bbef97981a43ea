"""Restores a folder of folders: what is missing or has changed, with a manifest that says what was done."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ...lib.pictures.files import is_video
from ...lib.pictures.mirror import photographs
from ...lib.storage.whole import check_room, exclusive
from ...lib.vocabulary import UserError
from ..restore import is_result
from .manifest import FAILED, NAME, Entry, Manifest, is_output
from .origin import content
from .page import PAGE, write_page
from .photograph import WORKSHOP, Job, OutputError

# Restores photographs, and yields their entries as they are finished, in any order.
Restoring = Callable[[Iterator[str]], Generator[Entry]]


@dataclass(frozen=True)
class Wanted:
    """redo: also what is up to date; retry_failed: also what failed and has not changed since."""

    redo: bool = False
    retry_failed: bool = False


@dataclass
class Counts:
    """Of photographs. results: pictures in the input folder that are results of this command, which are not restored again; videos: files
    beside them that are left as they are."""

    found: int = 0
    pending: int = 0
    done: int = 0
    failed: int = 0
    results: int = 0
    videos: int = 0


def run(job: Job, restoring: Restoring, wanted: Wanted) -> Counts:
    """Restores what is pending, in folders that were checked. However it ends, manifest, list of failures and page are complete, and
    the next run goes on.

    Raises UserError if nothing can be saved any more.
    """
    busy = f"--out {job.out}: another run is writing there. Wait for it, or choose another folder."
    with exclusive(job.out / NAME, busy):
        workshop = job.out / WORKSHOP
        shutil.rmtree(workshop, ignore_errors=True)  # of a run that was killed
        workshop.mkdir(parents=True)
        manifest, counts = Manifest(job.out), Counts()
        try:
            manifest.find(found(job.folder, job.out, job.album, counts))
            counts.pending = manifest.plan(_pending(job, manifest, wanted, counts))
            _restore(manifest, restoring, counts)
        except OutputError as error:
            raise UserError(str(error)) from error
        except (OSError, sqlite3.Error) as error:
            raise _incomplete(job, error) from error
        finally:
            try:
                write_page(manifest, job, workshop)
                manifest.close(workshop)
            except (OSError, sqlite3.Error) as error:
                raise _incomplete(job, error) from error
            shutil.rmtree(workshop, ignore_errors=True)
    return counts


def _incomplete(job: Job, error: OSError | sqlite3.Error) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"--out {job.out}: manifest and page cannot be written ({reason}). Make room, and run it again.")


def check_folders(folder: Path, out: Path, album: Path) -> None:
    """Raises UserError if input and output are the same, there is nothing to restore, or the output cannot be written."""
    if folder.is_relative_to(out):
        raise UserError(f"--out {out}: the photographs themselves are there. Choose another folder for the results.")
    if not is_output(out) and any(taken := [name for name in (NAME, FAILED, PAGE) if (out / name).exists()]):
        raise UserError(f"--out {out}: {taken[0]} in it is not from this command. Choose another folder.")
    if next(found(folder, out, album, Counts()), None) is None and not is_output(out):
        raise UserError(f"There are no pictures to restore in {folder}.")
    check_room(out, 0, f"--out {out}")


def found(folder: Path, out: Path, album: Path, counts: Counts) -> Iterator[str]:
    """The folder's photographs, without the album, this output and others that lie in it. Its videos are counted."""

    def count(file: Path) -> None:
        counts.videos += is_video(file)

    try:
        yield from photographs(folder, lambda inner: inner in (out, album) or is_output(inner), count)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}). Check its permissions.") from error


def _pending(job: Job, manifest: Manifest, wanted: Wanted, counts: Counts) -> Iterator[str]:
    for photograph in manifest.found():
        counts.found += 1
        last = manifest.get(photograph)
        if last and not wanted.redo and _is_current(job, manifest, last, wanted.retry_failed):
            continue
        if is_result(job.folder / photograph):
            counts.results += 1
        else:
            yield photograph


def _is_current(job: Job, manifest: Manifest, last: Entry, retry_failed: bool) -> bool:
    """Whether a photograph needs no work. One with a new time but the same content gets its line renewed."""
    if last.origin != job.origin or (last.reason and retry_failed):
        return False
    if not last.reason and not (job.out / last.result).is_file():
        return False
    path = job.folder / last.photograph
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (last.size, last.modified):
            return True
        if status.st_size != last.size or content(path) != last.content:
            return False
    except OSError:
        return False
    manifest.add(replace(last, modified=status.st_mtime_ns))
    return True


def _restore(manifest: Manifest, restoring: Restoring, counts: Counts) -> None:
    with (
        tqdm(total=counts.pending, unit="photo", dynamic_ncols=True, smoothing=0.05, disable=not counts.pending) as bar,
        closing(restoring(manifest.pending())) as entries,
    ):
        for entry in entries:
            manifest.add(entry)
            counts.done += 1
            counts.failed += bool(entry.reason)
            if entry.reason:
                name = PurePosixPath(entry.photograph).name
                bar.write(f"{entry.photograph}: {entry.reason.removeprefix(f'{name}: ')}")
            bar.set_postfix(failed=counts.failed, refresh=False)
            bar.update()


def summary(counts: Counts, out: Path) -> Iterator[str]:
    """Sentences for the end of a run."""
    current = counts.found - counts.pending - counts.results
    yield f"{counts.done - counts.failed} restored, {counts.failed} failed, {current} were up to date."
    if counts.results:
        yield f"{counts.results} results of earlier runs in the folder are skipped. Name one to restore it."
    if counts.videos:
        yield f"{counts.videos} videos in the folder are left as they are. Name one to restore it."
    if counts.failed:
        yield f"-> {out / FAILED}"
    yield f"-> {out / PAGE}"

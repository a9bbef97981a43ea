"""Runs a restoration workflow on a file, and writes picture, comparison and report."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from ..lib.pictures.mark import is_marked, result_mark
from ..lib.pictures.opening import large_pictures
from ..lib.standin.core_nodes import without_path
from ..lib.standin.graph import Graph, node_label, title
from ..lib.standin.host import allow_folder, folders
from ..lib.standin.runner import Kept, Results, run_graph
from ..lib.storage.whole import check_room, whole, write_whole
from ..lib.vocabulary import UserError
from ..nodes import NODES
from .comparison import comparison
from .frames import ENDINGS, Together, further, options, put_aside, together
from .old_print import notes_on_print
from .own import with_edit, with_photo
from .photograph import Photograph, noticed, prepared_photograph, summary_line, with_file_of_edit, with_transparency
from .progress import GraphProgress

COMPARISON = 16_000_000  # bytes that a comparison and a report need at most
RESULT = "Restored"  # the title of the node that saves the result, if a workflow saves other pictures, too
COMPRESSION = 4  # of 9, as in ComfyUI's Save Image: more takes twice the time and saves little
LONGEST_NAME = 255  # bytes of a file name, nearly everywhere
NAMES = "restored.png", "comparison.png", "report.json"


@dataclass(frozen=True)
class Restored:
    """before, after: RGB pictures; report: the workflow's, with ``seconds`` per stage."""

    before: Image.Image
    after: Image.Image
    report: dict[str, Any]


def restore(graph: Graph, kept: Kept | None = None) -> Restored:
    """Runs a graph that ends in SaveImage, ImageCompare and a shown report.

    kept: what it has in common with other photographs' graphs, of which many are restored: nothing is printed then.
    """
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder:
        folders.output = Path(folder)
        try:
            if kept is None:
                with GraphProgress() as progress:
                    results = run_graph(graph, NODES, on_node=progress.node, on_progress=progress.step)
            else:
                results = run_graph(graph, NODES, kept=kept)
            after = _picture(results, graph, "SaveImage", "images", folders.output)
            before = _picture(results, graph, "ImageCompare", "a_images", folders.temp)
        finally:
            folders.clear_temp()  # megabytes for every photograph of a folder
    report = report_of(results, graph)
    report["seconds"] = {
        without_path(title(graph[id])) or node_label(id, graph[id]): round(seconds, 2)
        for id, seconds in results.seconds.items()
    }
    report["seconds"]["all"] = round(sum(results.seconds.values()), 2)
    return Restored(before, after, report)


def report_of(results: Results, graph: Graph) -> dict[str, Any]:
    """The one that the workflow shows as a text; other texts may be shown beside it, or none."""
    for id, node in graph.items():
        if node["class_type"] != "PreviewAny" or id not in results.ui:
            continue
        try:
            report = json.loads(results.ui[id]["text"][0])
        except (ValueError, TypeError, LookupError, RecursionError):
            continue
        if isinstance(report, dict):
            faces = report.get("faces")
            return report | {"faces": [face for face in faces if _is_face(face)] if isinstance(faces, list) else []}
    return {}


def _is_face(face: Any) -> bool:
    """Whether it can be marked in the comparison."""
    box = face.get("box") if isinstance(face, dict) else None
    numbers = isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
    sane = numbers and all(abs(side) < 1e6 for side in box) and box[0] < box[2] and box[1] < box[3]
    return sane and isinstance(face.get("person", ""), str | None) and "person" in face


def shown_file(ui: Mapping[str, Any], graph: Graph, kind: str, key: str) -> dict[str, str]:
    """What ComfyUI says of the file of the first node of that kind, but rather of the one titled "Restored" if there are several."""
    made = [id for id, shown in ui.items() if graph[id]["class_type"] == kind and shown.get(key)]
    if not made:
        raise UserError(f"The workflow has no {kind} node that outputs a picture, so there is no result to save.")
    return ui[min(made, key=lambda id: title(graph[id]) != RESULT)][key][0]


def _picture(results: Results, graph: Graph, kind: str, key: str, folder: Path) -> Image.Image:
    file = shown_file(results.ui, graph, kind, key)
    with Image.open(folder / file["subfolder"] / file["filename"]) as picture:
        return picture.convert("RGB")


def restore_file(graph: Graph, photo: Path, out: Path, edit: Path | None = None) -> Path:
    """Restores one photograph into ``out``: NAME_restored.png, NAME_comparison.png and NAME_report.json. Nothing is overwritten, and
    each of the three is there whole or not at all. Of a file with several frames or pages every one is restored, and all of them are
    saved in a file of the same kind, too.

    EXIF (with the orientation applied), ICC profile and transparency are carried over; what cannot be is printed before anything is
    computed, and is among the report's ``notes``. Returns the restored picture's path.

    edit: of the photograph, for a workflow that keeps the people of one; of the photograph's frames only the first then counts, and
    profile and transparency are the edit's.
    """
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder, large_pictures():
        photograph = prepared_photograph(photo, Path(folder), every_frame=ENDINGS if edit is None else ())
        if edit is not None:
            graph, photograph = _with_edit(graph, photograph, edit, Path(folder))
        for note in photograph.notes:
            print(f"note: {photo.name}: {note}.", flush=True)
        width, height = photograph.size
        check_room(out, COMPARISON + 6 * width * height * photograph.frames, f"The output folder {out}")
        done = restore_source(graph, photograph.source)
        if line := summary_line(done.report):
            print(line, flush=True)
        noted = (*noticed(done.report), *notes_on_print(graph, done.before))
        for note in noted:
            print(f"note: {photo.name}: {note}.", flush=True)
        photograph = replace(photograph, notes=(*photograph.notes, *noted))
        run = partial(restore_source, graph)
        frames = restored_frames(photo, photograph, Path(folder), run) if photograph.frames > 1 else None
        try:
            return _saved(photo, photograph, done, out, frames)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"The results cannot be saved in {out} ({reason}). Make room, or choose another folder."
            ) from error


def _with_edit(graph: Graph, photograph: Photograph, edit: Path, folder: Path) -> tuple[Graph, Photograph]:
    (folder / "edit").mkdir()
    own = prepared_photograph(edit, folder / "edit")
    return with_edit(graph, allow_folder(own.source).resolve()), with_file_of_edit(photograph, own)


@dataclass(frozen=True)
class RestoredFrames:
    """Those after the first one, put aside as files; durations: of all frames; reports: of these."""

    common: Together
    durations: list[float]
    files: list[Path]
    reports: list[dict[str, Any]]

    def options(self, kind: str) -> dict[str, Any]:
        """Those of Pillow for saving them after the first one, in a file of this kind."""
        rest = [Image.open(file) for file in self.files]
        return options(replace(self.common, kind=kind), self.durations, rest)


def restored_frames(
    photo: Path, photograph: Photograph, folder: Path, run: Callable[[Path], Restored]
) -> RestoredFrames:
    """The frames after the first one, restored one by one with ``run``, which gets a file to load, and put aside in the folder."""
    common, first = together(photo)
    found = RestoredFrames(common, [first], [], [])
    for frame in further(photo, photograph, folder):
        done = run(frame.photograph.source)
        found.files.append(put_aside(frame.photograph, done.after, folder / f"restored_{len(found.files)}.png"))
        found.durations.append(frame.duration)
        found.reports.append(done.report)
    return found


def restore_source(graph: Graph, source: Path, kept: Kept | None = None) -> Restored:
    """Restores the picture in a file, which the graph may read meanwhile. kept: see `restore`."""
    allow_folder(source)
    try:
        return restore(with_photo(graph, source.resolve()), kept)
    finally:
        folders.allowed.pop()


def save_result(photograph: Photograph, after: Image.Image, path: Path, **animated: Any) -> None:
    """The PNG of a restored picture, with the mark of our results and with what the photograph's file held beside the pixels.

    animated: Pillow's options for its further frames.
    """
    with_transparency(photograph, after).save(
        path,
        "PNG",
        pnginfo=result_mark(),
        compress_level=COMPRESSION,
        exif=photograph.exif,
        icc_profile=photograph.profile,
        **animated,
    )


def _saved(photo: Path, photograph: Photograph, done: Restored, out: Path, frames: RestoredFrames | None) -> Path:
    stem = free_stem(out, photo.stem)
    animated = frames.options("PNG") if frames and frames.common.kind == "PNG" else {}
    while True:
        try:
            with whole(target := out / f"{stem}_restored.png", new=True) as partial:
                save_result(photograph, done.after, partial, **animated)
            break
        except FileExistsError:  # another run has just taken the name
            stem = free_stem(out, photo.stem)
    with whole(out / f"{stem}_comparison.png") as partial:
        comparison(done.before, done.after, done.report.get("faces", [])).save(
            partial, "PNG", pnginfo=result_mark(), compress_level=COMPRESSION
        )
    report = {"photograph": photo.name, "notes": list(photograph.notes), **done.report}
    if frames:
        report["further_frames"] = frames.reports
        if not animated:
            with whole(target := out / f"{stem}_restored{frames.common.ending}") as partial:
                with_transparency(photograph, done.after).save(
                    partial, frames.common.kind, **frames.options(frames.common.kind)
                )
    write_whole(out / f"{stem}_report.json", json.dumps(report, indent=2, ensure_ascii=False))
    return target


def is_result(path: Path) -> bool:
    """Whether a picture was written by `restore_file`, by its mark or, from earlier versions, by the report beside it."""
    for what in NAMES[:2]:
        start = path.stem.removesuffix(what.removesuffix(".png"))  # a result with several frames has another ending
        if start != path.stem and start.endswith("_") and path.with_name(f"{start}{NAMES[2]}").is_file():
            return True
    return is_marked(path)


def free_stem(out: Path, stem: str, names: Sequence[str] = NAMES) -> str:
    """How the results' names can begin, before an underline and one of ``names``, so that none of them exists."""
    number, free = 1, _fitting(stem, "", names)
    while any((out / f"{free}_{what}").exists() for what in names):
        number += 1
        free = _fitting(stem, f"_{number}", names)
    return free


def _fitting(stem: str, ending: str, names: Sequence[str]) -> str:
    """The stem, shortened where the names of the results would be too long."""
    room = LONGEST_NAME - max(len(what) for what in names) - 1 - len(ending)
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + ending

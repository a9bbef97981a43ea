"""Restores a clip, shot by shot, into one result that is there whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ...lib.pictures.cuts import Cuts
from ...lib.standin.graph import Graph
from ...lib.storage.whole import check_room, exclusive, write_whole
from ...lib.vocabulary import UserError
from ..archive.origin import content, origin
from ..restore import free_stem
from .graph import Graphs, graph_alone, graphs_for_shots
from .output import FolderOutput, Output, VideoOutput
from .shot import Plan, Shots
from .source import FolderSource, Frame, VideoSource

T = TypeVar("T")
REPORT = "report.json"


def restore_clip(graph: Graph, album: Path, path: Path, out: Path, tracked: bool = True) -> Path:
    """Restores a video file, or a folder of frames, into ``out``: NAME_restored.mp4 (or .mkv, or a folder) and NAME_report.json.

    A run that is stopped goes on after the last shot that is complete, if clip, workflow, weights and album are the same. Nothing is
    overwritten. tracked: who is in a shot, where their faces are and how it was damaged is decided for the whole shot. Returns the
    result's path; raises UserError if the clip cannot be read, or nothing can be written.
    """
    source = FolderSource(path) if path.is_dir() else VideoSource(path)
    for note in source.notes:
        print(f"note: {path.name}: {note}.", flush=True)
    first = next(source.frames(), None)
    if first is None:
        raise UserError(f"{path.name} has no frame.")
    shots = Shots(graphs_for_shots(graph) if tracked else Graphs(graph_alone(graph)))
    workshop = out / f".clip {_key(graph, album, source, tracked)}"  # of an earlier run with the same, if there is one
    with exclusive(workshop, f"{path.name}: another run is restoring it into {out}. Wait for it."):
        output: Output = FolderOutput(workshop) if isinstance(source, FolderSource) else VideoOutput(source, workshop)
        size = round(output.room * source.count * first.image[0, ..., 0].numel())
        check_room(out, size, f"The output folder {out}")
        workshop.mkdir(exist_ok=True)
        try:
            told = _restored(shots, source, output, workshop, tracked)
            stem = free_stem(out, path.stem, (f"restored{output.ending}", REPORT))
            target = out / f"{stem}_restored{output.ending}"
            report = {"clip": path.name, "notes": list(source.notes), "tracked": tracked, "shots": told}
            write_whole(out / f"{stem}_{REPORT}", json.dumps(report, indent=2, ensure_ascii=False))
            output.finish(target, len(told))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"The results cannot be saved in {out} ({reason}). Make room, or choose another folder."
            ) from error
        shutil.rmtree(workshop)
    return target


def _key(graph: Graph, album: Path, source: FolderSource | VideoSource, tracked: bool) -> str:
    """Of everything that the result depends on."""
    files = source.files if isinstance(source, FolderSource) else [source.path]
    parts = [vars(origin(graph, album)), [[file.name, content(file)] for file in files], tracked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _restored(
    shots: Shots, source: FolderSource | VideoSource, output: Output, workshop: Path, tracked: bool
) -> list[dict[str, Any]]:
    """What the report says of each shot. The clip is read twice at the same time, so that no frame has to be kept: ``ahead`` ends a shot,
    and ``behind`` then goes through it."""
    told: list[dict[str, Any]] = []
    behind = source.frames()
    with tqdm(total=source.count or None, unit="frame", dynamic_ncols=True) as bar:
        for number, numbered in itertools.groupby(_by_shot(source.frames()), key=itemgetter(0)):
            ahead = (frame for _, frame in numbered)
            receipt = workshop / f"shot {number:05}.json"
            if receipt.is_file():
                told.append(json.loads(receipt.read_text("utf-8")))
                bar.update(sum(1 for _ in itertools.islice(behind, told[-1]["frames"])))
                continue
            plan = shots.look(ahead) if tracked else Plan(sum(1 for _ in ahead))
            frames = itertools.islice(behind, plan.count)
            results = shots.restore(frames, plan) if tracked else shots.alone(frames)
            output.write(number, _counted(results, bar))
            told.append(_told(plan))
            write_whole(receipt, json.dumps(told[-1]))
    return told


def _counted(results: Iterator[T], bar: tqdm) -> Iterator[T]:
    for one in results:
        yield one
        bar.update()


def _by_shot(frames: Iterator[Frame]) -> Iterator[tuple[int, Frame]]:
    cuts, number = Cuts(), -1
    for frame in frames:
        number += cuts.begins(frame.pixels)
        yield number, frame


def _told(plan: Plan) -> dict[str, Any]:
    """frames; faces: the tracks; damage: by the node that reads it."""
    damage = {
        name: code and {key: round(value, 2) for key, value in code.scalars.items()}
        for name, code in plan.codes.items()
    }
    return {"frames": plan.count, "faces": plan.tracks, "damage": damage}

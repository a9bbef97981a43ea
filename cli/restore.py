"""Runs a restoration workflow on a file, and writes picture, comparison and report."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ..lib.standin.graph import Graph, label, title
from ..lib.standin.host import allow_folder, folders
from ..lib.standin.runner import Results, run_graph
from ..lib.vocabulary import UserError
from ..nodes import NODES
from .comparison import comparison
from .own import with_photo

ORIENTATION = 0x0112
MIRRORED = (2, 4, 5, 7)


@dataclass(frozen=True)
class Restored:
    """before, after: RGB pictures; report: the workflow's, with ``seconds`` per stage."""

    before: Image.Image
    after: Image.Image
    report: dict[str, Any]


def restore(graph: Graph) -> Restored:
    """Runs a graph that ends in SaveImage, ImageCompare and a shown report."""
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder:
        folders.output = Path(folder)
        results = run_graph(
            graph, NODES, on_node=lambda name, index, count: print(f"[{index + 1}/{count}] {name}", flush=True)
        )
        after = _picture(results, graph, "SaveImage", "images", folders.output)
        before = _picture(results, graph, "ImageCompare", "a_images", folders.temp)
    shown = [
        results.ui[id]["text"][0]
        for id, node in graph.items()
        if node["class_type"] == "PreviewAny" and id in results.ui
    ]
    report = json.loads(shown[0]) if shown else {}
    report["seconds"] = {
        title(graph[id]) or label(id, graph[id]): round(seconds, 2) for id, seconds in results.seconds.items()
    }
    report["seconds"]["all"] = round(sum(results.seconds.values()), 2)
    return Restored(before, after, report)


def _picture(results: Results, graph: Graph, kind: str, key: str, folder: Path) -> Image.Image:
    for id, shown in results.ui.items():
        if graph[id]["class_type"] == kind and shown.get(key):
            file = shown[key][0]
            with Image.open(folder / file["subfolder"] / file["filename"]) as picture:
                return picture.convert("RGB")
    raise UserError(f"The workflow has no {kind} node that outputs a picture, so there is no result to save.")


def restore_file(graph: Graph, photo: Path, out: Path) -> Path:
    """Restores one photograph into ``out``: NAME_restored.png, NAME_comparison.png and NAME_report.json. Nothing is overwritten.

    EXIF (with the orientation applied) and ICC profile are carried over. Returns the restored picture's path.
    """
    try:
        with Image.open(photo) as picture:
            exif, profile = picture.getexif(), picture.info.get("icc_profile")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{photo.name} cannot be read as a picture: {error}") from error
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder:
        source = photo
        if exif.get(ORIENTATION) in MIRRORED:  # which the image loader, like ComfyUI's, leaves unchanged
            source = Path(folder) / f"{photo.stem}.png"
            with Image.open(photo) as picture:
                ImageOps.exif_transpose(picture).save(source)
        allow_folder(source)
        done = restore(with_photo(graph, source.resolve()))
    exif.pop(ORIENTATION, None)
    out.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(out, photo.stem)
    target = out / f"{stem}_restored.png"
    extra = {"icc_profile": profile} if profile and profile[16:20] == b"RGB " else {}
    done.after.save(target, exif=exif, **extra)
    comparison(done.before, done.after, done.report.get("faces", [])).save(out / f"{stem}_comparison.png")
    report = {"photograph": photo.name, **done.report}
    (out / f"{stem}_report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    return target


def _free_stem(out: Path, stem: str) -> str:
    number, free = 1, stem
    while any((out / f"{free}_{what}").exists() for what in ("restored.png", "comparison.png", "report.json")):
        number += 1
        free = f"{stem}_{number}"
    return free

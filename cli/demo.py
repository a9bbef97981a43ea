"""``demo``: the bundled workflow on the sample photograph, with the album and without it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from ..lib import samples
from ..lib.standin.graph import Graph
from ..lib.standin.host import allow_folder
from .comparison import comparison
from .own import with_album
from .restore import restore


def demo(graph: Graph, out: Path) -> dict:
    """Leaves restored.png, comparison.png and report.json in ``out``; returns the report."""
    print("With the album:", flush=True)
    with_people = restore(graph)
    print("Without the album, for comparison:", flush=True)
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as empty:
        allow_folder(empty)
        without = restore(with_album(graph, Path(empty).resolve()))
    report = with_people.report
    report["quality"]["without_album"] = without.report["quality"]
    report["note"] = samples.NOTE
    out.mkdir(parents=True, exist_ok=True)
    with_people.after.save(out / "restored.png")
    comparison(with_people.before, with_people.after, report["faces"], samples.NOTE).save(out / "comparison.png")
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    return report

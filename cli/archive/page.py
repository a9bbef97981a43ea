"""``index.html`` of an output folder: every photograph before and after, doubts, strangers and failures, in one file without a server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...lib.faces.likeness import Groups
from ...lib.storage.whole import whole
from .manifest import Entry, Manifest
from .photograph import PREVIEWS, Job

PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("page.html")
ROWS = "__ROWS__"  # in the template, where the data go


def write_page(manifest: Manifest, job: Job, workshop: Path) -> None:
    """Reads the manifest twice and holds neither it nor the page in memory, but a number per stranger's face."""
    numbers = _grouped(manifest)
    head, tail = _template(job.people).split(ROWS)
    with whole(job.out / PAGE, workshop=workshop) as partial, partial.open("w", encoding="utf-8") as page:
        page.write(head)
        strangers = iter(numbers)
        for number, entry in enumerate(manifest):
            page.write((",\n" if number else "") + _safe(_row(entry, strangers)))
        page.write(tail)


def _grouped(manifest: Manifest) -> array[int]:
    """For each face of the manifest the number of its group, -1 for a known one."""
    groups, numbers = Groups(), array("q")
    for entry in manifest:
        taken: set[int] = set()
        for face in entry.faces:
            number = groups.add(face.get("likeness"), taken)
            numbers.append(-1 if number is None else number)
    return numbers


def _row(entry: Entry, numbers: Iterator[int]) -> list[Any]:
    """Path, where the result is (as a part of an address), reason, size before, faces, damage, notes. In page.html ``row``."""
    faces = [
        [
            face.get("person"),
            face.get("confidence"),
            face.get("doubt"),
            face.get("box"),
            next(numbers),
        ]
        for face in entry.faces
    ]
    words = entry.damage.get("words") if isinstance(entry.damage, dict) else None
    address = quote(os.fsencode(entry.result))
    return [entry.photograph, address, entry.reason, list(entry.before), faces, words, list(entry.notes)]


def _safe(value: Any) -> str:
    """JSON that cannot end the script element that it stands in, nor break UTF-8, whatever the names are."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _template(people: str) -> str:
    """The page with everything but the rows. Only its own script may run, whatever the rows hold."""
    text = TEMPLATE.read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fixed = _safe({"previews": PREVIEWS, "album": people})
    return text.replace("__SCRIPT__", digest).replace("__FIXED__", fixed)

"""Says of a photograph that it looks like a damaged print, so that somebody who did not ask for it learns of ``--old``."""

from __future__ import annotations

from PIL import Image

from ..lib.bridge import keep
from ..lib.pictures.files import from_pil
from ..lib.standin.graph import Graph
from ..models.old_photo import ready
from ..models.old_photo.apply import find_damage

SIDE = 1024  # pixels of the longer side: enough for damage that anybody sees, and half a second
# How sure the finder has to be, and of what share of the picture: see docs/old_photographs.md for what photographs reach.
SURE, SHARE = 0.95, 0.004
NOTE = "this looks like a scratched print: add --old"


def notes_on_print(graph: Graph, before: Image.Image) -> tuple[str, ...]:
    """The note, if the photograph looks damaged and the graph does not look for such damage itself."""
    if any(node["class_type"] == "PR_DamageMask" for node in graph.values()):
        return ()
    small = before.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    found = find_damage(from_pil(small)[None], ready.finder(keep))
    return (NOTE,) if float((found >= SURE).float().mean()) >= SHARE else ()

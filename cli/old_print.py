"""Says of a photograph that it looks like a damaged print, so that somebody who did not ask for it learns of ``--old``."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from ..lib.bridge import keep
from ..lib.pictures.files import from_pil
from ..lib.standin.graph import Graph
from ..models.old_photo import ready
from ..models.old_photo.apply import THRESHOLD, find_damage, mask_of

SIDE = 1024  # pixels of the longer side: enough for damage that anybody sees, and half a second
# Share of the picture that is found, and in how many of 8 x 8 cells some is that does not touch the border. Of 91 photographs the two
# scratched prints have at least .015 and 16; a border or padding has as large a share but few cells, a busy picture the other way round.
SHARE, CELLS, GRID = 0.01, 12, 8
NOTE = "this looks like a scratched print: add --old"


def notes_on_print(graph: Graph, before: Image.Image) -> tuple[str, ...]:
    """The note, if the photograph looks damaged and the graph does not look for such damage itself."""
    if any(node["class_type"] == "PR_DamageMask" for node in graph.values()):
        return ()
    small = before.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    probability = find_damage(from_pil(small)[None], ready.finder(keep))
    return (NOTE,) if is_scratched(mask_of(probability, THRESHOLD, 0)[0, 0].numpy()) else ()


def is_scratched(mask: np.ndarray) -> bool:
    """Whether so much of a picture is found to be damaged, and so widely spread, that it is a print. mask: ``[H, W]``, above 0 if found."""
    parts = cv2.connectedComponents((mask > 0).astype(np.uint8), connectivity=8)[1]
    at_border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    inside = (mask > 0) & ~np.isin(parts, at_border)
    cells = [cell.any() for row in np.array_split(inside, GRID) for cell in np.array_split(row, GRID, axis=1)]
    return bool((mask > 0).mean() >= SHARE and sum(cells) >= CELLS)

"""The bundled workflows by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from personal_restore.lib.standin.graph import load_graph

WORKFLOWS = Path(__file__).parent.parent / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
# What loads weights that nobody has who has not fetched them.
LOADERS = {
    "PR_S3DiffRestorer",
    "PR_Face2SceneRestorer",
    "PR_FaceMeRestorer",
    "CheckpointLoaderSimple",
    "PR_TrainFace2Scene",
}
# What names a trained model that may not be there, beside those.
NAMING = {"PR_ApplyFace2Scene", "PR_EstimateDegradation"}
IN_COMFYUI_ONLY = {"face2scene_native"}


def bundled(name: str) -> dict:
    """The machine twin."""
    return load_graph(WORKFLOWS / "api" / f"{name}.json")


RUN_AS_THEY_ARE = [name for name in NAMES if not LOADERS & {node["class_type"] for node in bundled(name).values()}]
TRAINING = {
    *("dualpivot_train", "dualpivot_restore", "pfstorer_train", "pfstorer_restore_tiled"),
    *("gen2res_single_image", "gen2res_personal", "compare_personas"),
}  # they learn a person first, which takes a minute
SLOW = TRAINING | {"perfuse_group"}  # at twice the size; what it does has a test of its own
QUICK_FIRST = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RUN_AS_THEY_ARE]

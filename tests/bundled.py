"""The bundled workflows by name, and those of version 0.1.0 that are kept in ``released/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from personal_restore.lib.standin.graph import load_graph

WORKFLOWS = Path(__file__).parent.parent / "workflows"
RELEASED = Path(__file__).parent / "released"
RELEASED_NAMES = sorted(path.stem for path in (RELEASED / "api").glob("*.json"))
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
# What loads weights, or photographs, that nobody has who has not fetched them.
LOADERS = {
    "PR_S3DiffRestorer",
    "PR_Face2SceneRestorer",
    "PR_FaceMeRestorer",
    "CheckpointLoaderSimple",
    "CLIPLoader",
    "DualCLIPLoader",
    "LoadMediaPipeFaceLandmarker",
    "UNETLoader",
    "VAELoader",
    "PR_TrainFace2Scene",
    "PR_LoadNextPhotographs",
    "PR_StableSRRestorer",
    "PR_DiffBIRRestorer",
    "PR_GenerationRestorer",
    "PR_BuildDataset",
}
# What names a trained model that may not be there, beside those.
NAMING = {"PR_ApplyFace2Scene", "PR_EstimateDegradation", "PR_FaDeX"}
# Our nodes around models of core's.
WITH_CORE = ("old_photo_colorize", "qwen_edit_keep_the_person", "sam3_and_mediapipe", "seedvr2_scene")
IN_COMFYUI_ONLY = {"face2scene_native", *WITH_CORE}


def bundled(name: str) -> dict:
    """The machine twin."""
    return load_graph(WORKFLOWS / "api" / f"{name}.json")


def released(form: str, name: str) -> dict[str, Any]:
    """As it was, in ``api`` or ``ui`` format."""
    return json.loads((RELEASED / form / f"{name}.json").read_text("utf-8"))


def as_released(prompt: dict, twin: dict, known: dict) -> dict:
    """A prompt without the inputs that came after its released twin; these have their defaults. known: the kinds of nodes."""
    for id, one in prompt.items():
        inputs = {item.id: item for item in known[one["class_type"]].schema.inputs}
        for added in one["inputs"].keys() - twin[id]["inputs"].keys():
            assert one["inputs"].pop(added) == inputs[added].options["default"], f"{id}: {added}"
    return prompt


def then_and_now() -> list[dict[str, Any]]:
    """A graph with the base of a released workflow under its old names of inputs, and the same graph under today's."""
    graph = released("api", "pfstorer_restore_tiled")
    old = next(node for node in graph.values() if node["class_type"] == "PR_DiffusionRestorer")
    assert {"noise_steps": 200, "samples": 6, "guidance": 0.0}.items() <= old["inputs"].items()
    new = {"denoise": 0.2, "steps": 6, "control": 1.0, "cfg": 1.5, "prompt": "", "skip_guidance": 0.0}
    shrink = {"image": ["sample", 0], "upscale_method": "area", "scale_by": 0.25}
    scene = {"image": ["small", 0], "restorer": ["base", 0], "strength": 1.0, "seed": 3}
    return [
        {
            "sample": {"class_type": "PR_Sample", "inputs": {}},
            "small": {"class_type": "ImageScaleBy", "inputs": shrink},
            "base": {"class_type": "PR_DiffusionRestorer", "inputs": inputs},
            "scene": {"class_type": "PR_RestoreScene", "inputs": scene},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["scene", 0], "filename_prefix": "then and now"}},
        }
        for inputs in (old["inputs"], new)
    ]


def node(graph: dict, kind: str) -> str:
    return next(id for id, one in graph.items() if one["class_type"] == kind)


RUN_AS_THEY_ARE = [name for name in NAMES if not LOADERS & {node["class_type"] for node in bundled(name).values()}]
TRAINING = {
    *("dualpivot_train", "dualpivot_restore", "pfstorer_train", "pfstorer_restore_tiled"),
    *("gen2res_single_image", "gen2res_personal", "compare_personas", "ablation_gen2res", "consistency"),
}  # they learn a person first, which takes a minute
# Two work at twice the size, and what they do has tests of its own; two restore and measure several times; one computes what
# face2scene does, which a test of its own says; one draws what a test of its own computes.
SLOW = TRAINING | {
    "perfuse_group",
    "perfuse_published",
    "evaluate",
    "ablation_face2scene",
    "face2scene_expanded",
    "fadex_invariance",
}
QUICK_FIRST = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RUN_AS_THEY_ARE]

"""What is imported is required somewhere, and what only some nodes need is named by them when it is missing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from personal_restore.lib import extras
from personal_restore.lib.vocabulary import UserError

from .conftest import ROOT, run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
REQUIRED = [
    line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")
]
# Installed under another name than they are imported by.
MODULES = {"opencv-python": "cv2", "pillow": "PIL", "scikit-image": "skimage", "facenet-pytorch": "facenet_pytorch"}
# ComfyUI brings these (outside it, run.py installs torch); httpx comes with huggingface_hub, onnx with insightface, timm with pyiqa.
BROUGHT = {
    "timm",
    "torch",
    "torchvision",
    "comfy",
    "comfy_api",
    "comfy_execution",
    "folder_paths",
    "server",
    "aiohttp",
    "httpx",
    "onnx",
}
OURS = {"personal_restore", "run"}
ROOMS = ("lib", "models", "training", "nodes", "cli")

# Nodes that need an extra, and who says so: the node, or what it builds on.
NEEDS = {
    "SegmentPeople": "segmentation",
    "S3DiffRestorer": "diffusion",
    "InstantRestoreRestorer": "diffusion",
    "RestorationByGeneration": "diffusion",
    "DiffusionBase": "diffusion",
    "GenerativeAlbum": "diffusion",
    "ApplyPersona": "diffusion",
    "TrainPersona": "training",
    "TrainFace2Scene": "training",
    "FaceModelRestorer": "upscale",
}


def module_of(requirement: str) -> str:
    name = re.split(r"[<>=]", requirement)[0]
    return MODULES.get(name) or extras.imported(requirement)


def third_party(path: Path) -> set[str]:
    """The names of other packages that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - OURS


def test_every_package_that_is_imported_is_a_requirement_or_in_an_extra():
    known = BROUGHT | {module_of(one) for one in (*REQUIRED, *(one for extra in PROJECT.values() for one in extra))}
    files = [path for room in (*ROOMS, "tests") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 250
    assert not {(path.relative_to(ROOT).as_posix(), name) for path in files for name in third_party(path) - known}


def test_every_requirement_is_used():
    used = set().union(*(third_party(path) for room in ROOMS for path in (ROOT / room).rglob("*.py")))
    # Of this one, only files are read: the detector's weights.
    assert {module_of(one) for one in REQUIRED} - used == {"facenet_pytorch"}


def test_every_extra_that_is_asked_for_exists():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
                if name in ("require", "command") and path.name != "extras.py":
                    named = node.args[1:] if name == "require" else node.args
                    assert {one.value for one in named} <= PROJECT.keys(), f"{path.name}:{node.lineno}"


def test_torch_is_in_no_extra():
    assert not [one for extra in PROJECT.values() for one in extra if re.match(r"torch(vision|audio)?\b", one)]


def test_run_py_installs_every_extra_but_the_ones_on_request():
    on_request = {"codeformer", "metrics", "mesh-labels", "low-memory", "cluster", "peers"}
    tested = {one for extra, packages in PROJECT.items() if extra not in on_request for one in packages}
    assert tested <= set(run.wanted("test"))
    usual = set(run.wanted("demo"))
    assert {*PROJECT["segmentation"], *PROJECT["training"]} <= usual and not set(PROJECT["test"]) & usual
    assert set(PROJECT["dev"]) <= set(run.wanted("check"))


def test_nothing_is_said_where_everything_is_installed():
    extras.require("Anything", "diffusion")


def test_what_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as told:
        extras.require("Segment People", "segmentation")
    (needed,) = PROJECT["segmentation"]
    assert str(told.value) == (f'Segment People needs ultralytics, which is not installed. Run: pip install "{needed}"')


def test_two_extras_are_one_command(monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name != "transformers" else object())
    with pytest.raises(UserError, match="FaceMe needs accelerate, diffusers, insightface, onnxruntime, which are not"):
        extras.require("FaceMe", "diffusion", "insightface")
    both = [*PROJECT["diffusion"], *PROJECT["insightface"]]
    assert extras.command("diffusion", "insightface") == "pip install " + " ".join(f'"{one}"' for one in both)


def test_an_installed_pack_names_its_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "PROJECT", tmp_path / "pyproject.toml")
    lines = ["numpy>=1.25", 'ultralytics>=8.4; extra == "segmentation"', 'av>=14; extra == "other"']
    monkeypatch.setattr(extras.importlib.metadata, "requires", lambda name: lines)
    assert extras.packages("segmentation") == ["ultralytics>=8.4"]
    assert extras.command("segmentation") == 'pip install "personal-restore[segmentation]"'


def test_without_the_extras_the_nodes_load_and_say_what_they_need():
    """In a process that finds only what requirements.txt names, as after the lean installation."""
    hidden = {module_of(one) for extra in PROJECT.values() for one in extra} - {"pytest"}
    script = f"""
        import importlib.abc, importlib.util, inspect, sys
        import torch
        HIDDEN, NEEDS = {hidden!r}, {NEEDS!r}
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name in HIDDEN else found(name, package)
        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in HIDDEN:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Absent())
        import run
        run.load_package()
        from personal_restore import nodes
        from personal_restore.lib.extras import command
        from personal_restore.lib.standin.core_nodes import CORE_NODES
        from personal_restore.lib.vocabulary import UserError
        from personal_restore.models.embedded import ready
        from personal_restore.models.diffbir import build as diffbir
        from personal_restore.models.face2scene import build as face2scene
        from personal_restore.models.faceme import build as faceme
        from personal_restore.models.stablesr import build as stablesr
        from personal_restore.models.yolo import segment
        nodes.masks.find = lambda *arguments: None
        called = {{name: getattr(nodes, name).execute for name in NEEDS}}
        for build in (diffbir, face2scene, stablesr):
            called[build.__name__], NEEDS[build.__name__] = build.restorer_from, "diffusion"
        try:
            faceme.restorer_from()
        except UserError as error:
            assert command("diffusion", "insightface") in str(error), error
        for name, call in called.items():
            given = [p.name for p in inspect.signature(call).parameters.values()
                     if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
            try:
                call(**dict.fromkeys(given) | ({{"image": torch.zeros(1, 8, 8, 3)}} if "image" in given else {{}}))
            except UserError as error:
                assert "not installed. Run: " + command(NEEDS[name]) in str(error), (name, error)
            else:
                raise AssertionError(f"{{name}} says nothing")
        print("said")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "said", done.stderr[-2000:]

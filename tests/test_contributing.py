"""The restorer that CONTRIBUTING.md shows how to write works as it is written there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.vocabulary import Conditions, Restorer
from personal_restore.nodes import NODES

CONTRIBUTING = Path(__file__).parent.parent / ".github" / "CONTRIBUTING.md"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The two listings, loaded as the files that they are said to be."""
    listings = re.findall(
        r"`(models|nodes)/([\w/]+)\.py`:\n\n```python\n(.*?)```", CONTRIBUTING.read_text("utf-8"), re.DOTALL
    )
    loaded = {}
    for room, name, code in listings:
        path = tmp_path / f"{room}_{name.replace('/', '_')}.py"
        path.write_text(code, "utf-8")
        full_name = f"personal_restore.{room}.{name.replace('/', '.')}"
        spec = importlib.util.spec_from_file_location(full_name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full_name, module)
        spec.loader.exec_module(module)
        loaded[room] = module
    assert loaded.keys() == {"models", "nodes"}
    return loaded


def test_the_restorer_has_thirty_lines(modules):
    assert len(Path(modules["models"].__file__).read_text("utf-8").splitlines()) <= 30


def test_it_restores(modules, astronaut):
    restorer = modules["models"].MedianRestorer()
    assert isinstance(restorer, Restorer)
    specks = torch.rand(1, 1, 512, 512, generator=torch.Generator().manual_seed(0)) < 0.05
    damaged = astronaut.masked_fill(specks, 1.0)
    assert psnr(restorer.restore(damaged, Conditions()), astronaut) > psnr(damaged, astronaut) + 5


def test_the_shell_takes_its_node(modules):
    graph = {
        "1": {"class_type": "PR_Sample", "inputs": {}},
        "2": {"class_type": "PR_MedianRestorer", "inputs": {"radius": 2}},
        "3": {"class_type": "PR_DetectFaces", "inputs": {"image": ["1", 0], "threshold": 0.0}},
        "4": {
            "class_type": "PR_RestoreFaces",
            "inputs": {"image": ["1", 0], "faces": ["3", 0], "restorer": ["2", 0], "strength": 1.0, "seed": 0},
        },
        "5": {
            "class_type": "PR_RestoreScene",
            "inputs": {"image": ["1", 0], "restorer": ["2", 0], "strength": 1.0, "seed": 0},
        },
        "6": {
            "class_type": "PR_BlendFaces",
            "inputs": {"scene": ["5", 0], "faces": ["4", 0], "strength": 1.0, "per_face": "", "context": "target"}
            | {"color": "none"},
        },
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }
    assert run_graph(graph, (*NODES, modules["nodes"].MedianRestorerNode)).ui["7"]["images"]

"""Nodes that load what other nodes have saved: dropdowns of the files that are there, and what older workflows put in their place."""

from __future__ import annotations

import pytest
from personal_restore.lib.bridge import io, weight_folders
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.graph import kinds
from personal_restore.lib.standin.validate import checked
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes import NODES
from personal_restore.nodes.library_files import ForgetPerson, LoadLibraryFile
from personal_restore.nodes.personas import LoadPersona

KINDS = [(LoadLibraryFile, "libraries"), (ForgetPerson, "libraries"), (LoadPersona, "personas")]
KNOWN = kinds((*CORE_NODES, *NODES))


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    return weight_folders("personal_restore")[0]


def choices(node: type[io.ComfyNode]) -> list[str]:
    return next(item for item in node.define_schema().inputs if item.id == "name").options["options"]


@pytest.mark.parametrize(("node", "folder"), KINDS)
def test_the_dropdown_lists_the_files_that_are_there_by_name(models, node, folder):
    assert choices(node) == ["none found"]
    for name in ("work.safetensors", "Anna.safetensors", ".hidden.safetensors", "notes.txt", "training/x.safetensors"):
        path = models / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert choices(node) == ["Anna", "work"]


@pytest.mark.parametrize("value", ["not there yet", ["text", 1]])  # a report, which is a STRING
@pytest.mark.parametrize(("node", "folder"), KINDS)
def test_a_typed_or_linked_name_of_an_older_workflow_is_accepted(models, node, folder, value):
    inputs = {"name": value} | ({"person": "Anna"} if node is ForgetPerson else {})
    graph = {
        "load": {"class_type": node.define_schema().node_id, "inputs": inputs},
        "text": {"class_type": "PR_LoadLibrary", "inputs": {"folder": "album"}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["load", 0]}},
    }
    assert checked(graph, KNOWN)["load"]["inputs"]["name"] == value


@pytest.mark.parametrize("name", ["not there yet", "none found"])
def test_a_file_that_is_not_there_is_named(models, name):
    for run in (
        lambda: LoadLibraryFile.execute(name),
        lambda: ForgetPerson.execute(name, "Anna"),
        lambda: LoadPersona.execute(name),
    ):
        with pytest.raises(UserError, match=name):
            run()

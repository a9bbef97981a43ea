"""Workflows of version 0.1.0, in ``released/`` as they were, load under today's names and give the same pixels."""

from __future__ import annotations

import json

import pytest
from personal_restore.lib.renamed_inputs import RENAMED, renamed_prompt, renamed_workflow
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.graph import kinds, load_graph
from personal_restore.lib.standin.host import folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.nodes import NODES
from personal_restore.tests.bundled import RELEASED, RELEASED_NAMES, as_released, released, then_and_now
from PIL import Image

KNOWN = kinds((*CORE_NODES, *NODES))


def known_inputs(kind: str) -> dict[str, str]:
    return {item.id: item.io_type for item in KNOWN[kind].schema.inputs}


@pytest.mark.parametrize("kind", RENAMED)
def test_the_table_leads_from_names_that_are_gone_to_names_that_are_there(kind):
    ids = list(known_inputs(kind))
    for old, new in RENAMED[kind].items():
        assert old not in ids and new["name"] in ids
        if "thousandths" in new:
            ordered = sorted(KNOWN[kind].schema.inputs, key=lambda item: bool(item.optional))
            widgets = [item.id for item in ordered if item.io_type in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")]
            assert widgets[new["widget"]] == new["name"] and known_inputs(kind)[new["name"]] == "FLOAT"


@pytest.mark.parametrize("name", RELEASED_NAMES)
def test_a_released_prompt_has_only_inputs_of_today_and_the_values_of_then(name):
    before, after = released("api", name), load_graph(RELEASED / "api" / f"{name}.json")
    renamed = 0
    for id, node in before.items():
        if node["class_type"] not in KNOWN:
            continue
        assert after[id]["inputs"].keys() <= known_inputs(node["class_type"]).keys()
        for old, value in node["inputs"].items():
            new = RENAMED.get(node["class_type"], {}).get(old, {"name": old})
            now = after[id]["inputs"][new["name"]]
            assert round(1000 * now) == value if "thousandths" in new else now == value
            renamed += old != new["name"]
    assert renamed


@pytest.mark.parametrize("name", RELEASED_NAMES)
def test_a_released_workflow_of_the_editor_gives_the_same_prompt_as_its_released_twin(name):
    made, twin = to_api(released("ui", name), KNOWN), load_graph(RELEASED / "api" / f"{name}.json")
    assert as_released(made, twin, KNOWN) == twin


def test_a_linked_input_is_renamed_in_both_formats_and_the_link_counts():
    slot = {"name": "samples", "type": "INT", "link": 1, "widget": {"name": "samples"}}
    node = {"id": 2, "type": "PR_DiffusionRestorer", "inputs": [slot], "widgets_values": [400, 25, 1.0, 1.0, "", 0.0]}
    number = {"id": 1, "type": "PrimitiveInt", "inputs": [], "widgets_values": [7]}
    workflow = {"nodes": [number, node], "links": [[1, 1, 0, 2, 0, "INT"]]}
    made = renamed_workflow(workflow)["nodes"][1]
    assert made["inputs"] == [slot | {"name": "steps", "widget": {"name": "steps"}}]
    assert made["widgets_values"][:2] == [0.4, 25] and node["widgets_values"][0] == 400
    # An editor that does not know the table sends both.
    sent = {"2": {"class_type": "PR_DiffusionRestorer", "inputs": {"steps": 25, "samples": ["1", 0], "guidance": 0.5}}}
    assert renamed_prompt(sent)["2"]["inputs"] == {"steps": ["1", 0], "skip_guidance": 0.5}


def test_a_workflow_of_today_stays_as_it_is():
    names = {"denoise": 1.0, "steps": 2, "control": 1.0, "cfg": 1.0}
    prompt = {"1": {"class_type": "PR_DiffusionRestorer", "inputs": names}}
    node = {"id": 1, "type": "PR_DiffusionRestorer", "inputs": [], "widgets_values": [1.0, 2, 1.0, 1.0, "", 0.0]}
    assert renamed_prompt(prompt) == prompt
    assert renamed_workflow({"nodes": [node], "links": []})["nodes"] == [node]


@pytest.mark.parametrize(
    "odd", [None, [], "text", {"1": None}, {"1": {"class_type": [], "inputs": {}}}, {"1": {"inputs": 3}}]
)
def test_what_is_no_graph_is_left_to_those_who_report_it(odd):
    assert renamed_prompt(odd) == odd


@pytest.mark.parametrize(
    "odd", [None, [], {"nodes": [None, {"type": "PR_NoiseToSigmas", "inputs": [3], "widgets_values": []}]}]
)
def test_what_is_no_workflow_is_left_to_those_who_report_it(odd):
    assert renamed_workflow(odd) == odd


def test_old_names_give_the_pixels_of_the_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "output", tmp_path)
    pictures = []
    for graph in then_and_now():
        path = tmp_path / "graph.json"
        path.write_text(json.dumps(graph))
        (file,) = run_graph(load_graph(path), NODES).ui["save"]["images"]
        pictures.append(Image.open(tmp_path / file["filename"]).tobytes())
    assert pictures[0] == pictures[1]

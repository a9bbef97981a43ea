"""Subgraphs: laid flat as the editor does, and the blueprints that are cut out of the workflows."""

from __future__ import annotations

import copy
import functools
import json

import pytest
from personal_restore.cli.tools import subgraphs
from personal_restore.cli.tools.generated import stale_files
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.graph import GraphError
from personal_restore.lib.standin.subgraphs import INPUTS, OUTPUTS
from personal_restore.tests.bundled import bundled

from .conftest import ROOT

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WANTED = {
    "Restore Photograph",
    "Restore Known Faces",
    "Estimate Damage",
    "Who Is Who",
    "Keep the Person",
    "Mend Old Print",
}


def test_the_files_are_what_the_workflows_say():
    files = subgraphs.made_files()
    assert not stale_files(files, BLUEPRINTS)
    changed = next(iter(files))
    assert stale_files(files | {changed: "{}"}, BLUEPRINTS) == [changed]


def test_every_blueprint_is_one_node_with_few_inputs_that_says_in_both_languages_what_it_does():
    assert {path.stem for path in BLUEPRINTS} == WANTED
    for path in BLUEPRINTS:
        workflow = json.loads(path.read_text("utf-8"))
        (host,), (definition,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
        assert host["type"] == definition["id"] and 2 <= len(host["inputs"]) <= 6
        assert [one["name"] for one in host["inputs"]] == [one["name"] for one in definition["inputs"]]
        assert [one["name"] for one in host["outputs"]] == [one["name"] for one in definition["outputs"]]
        english, chinese = definition["description"].split("\n\n")
        assert english.isascii() and any("一" <= letter <= "鿿" for letter in chinese)


def test_every_blueprint_is_on_the_canvas_of_a_workflow():
    saved = [json.loads(path.read_text("utf-8")) for path in (ROOT / "workflows").glob("*.json")]
    assert {piece["name"] for one in saved for piece in one.get("definitions", {}).get("subgraphs", ())} == WANTED


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_does_what_its_part_of_the_workflow_does(path):
    wanted = next(one for one in subgraphs.specified()["blueprint"] if one["name"] == path.stem)
    source = bundled(wanted["source"])
    inner = to_api(json.loads(path.read_text("utf-8")), subgraphs.KNOWN)
    assert {id.removeprefix("1:") for id in inner} == {str(id) for id in wanted["nodes"]}
    open_ends = 0
    for id, node in inner.items():
        twin = source[id.removeprefix("1:")]
        expected = {
            name: [f"1:{value[0]}", value[1]] if isinstance(value, list) else value
            for name, value in twin["inputs"].items()
            if not isinstance(value, list) or int(value[0]) in wanted["nodes"]
        }
        open_ends += len(twin["inputs"]) - len(expected)
        assert (node["class_type"], node["inputs"]) == (twin["class_type"], expected)
    assert open_ends >= 2, "photograph and faces or album come from outside"


def computed(graph: dict) -> dict[str, str]:
    """What every node computes, by title: its class, its values and, the same way, all that leads to it."""

    @functools.cache
    def of(id: str) -> str:
        inputs = graph[id]["inputs"].items()
        values = [(name, [of(value[0]), value[1]] if isinstance(value, list) else value) for name, value in inputs]
        return json.dumps([graph[id]["class_type"], sorted(values)])

    return {node["_meta"]["title"]: of(id) for id, node in graph.items()}


def test_the_template_of_one_node_computes_what_the_expanded_one_does():
    """So that the same pixels come out: every node has the same class, the same values and the same sources."""
    one, expanded = computed(bundled("face2scene")), computed(bundled("face2scene_expanded"))
    assert {"Restored", "Before and after", "Report", "Show the report"} <= one.keys()
    assert {title: expanded[title] for title in one} == one


def test_a_workflow_with_blueprints_on_its_canvas_has_them_as_they_are_now():
    """Also after their source was changed; link numbers occur once in the whole file."""
    path = ROOT / "workflows" / "seedvr2_scene.json"
    saved = json.loads(path.read_text("utf-8"))
    ids = [one["id"] for one in saved["definitions"]["subgraphs"]]
    pieces = {id: subgraphs.Piece(piece, {}) for id, piece in zip(ids, saved["definitions"]["subgraphs"], strict=True)}
    assert subgraphs.with_blueprints(saved, pieces) == saved
    inner = [link["id"] for piece in saved["definitions"]["subgraphs"] for link in piece["links"]]
    numbers = [link[0] for link in saved["links"]] + inner
    assert len(set(numbers)) == len(numbers) and max(numbers) == saved["last_link_id"]
    pieces[ids[0]].definition["nodes"][0]["title"] = "Changed"
    changed = subgraphs.with_blueprints(copy.deepcopy(saved), pieces)["definitions"]["subgraphs"][0]
    assert changed["nodes"][0]["title"] == "Changed" and changed["links"]


def subgraph(name: str, nodes: list, links: list, widget: str = "steps") -> dict:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return {"id": name, "name": name, "nodes": nodes, "links": [dict(zip(keys, link, strict=True)) for link in links]}


def blank(id: int, kind: str, links: list[int | None], **more) -> dict:
    """A node whose inputs are an image and the widget ``width``."""
    slots = [{"name": "image", "link": links[0]}, {"name": "width", "widget": {"name": "width"}, "link": links[1]}]
    return {"id": id, "type": kind, "inputs": slots} | more


def nested() -> dict:
    """A picture goes into "outer", through "inner" within it, and is saved. Every level has a width of its own."""
    scale = blank(5, "Scale", [1, 2], widgets_values=[111])
    inner = subgraph("inner", [scale], [[1, INPUTS, 0, 5, 0], [2, INPUTS, 1, 5, 1], [3, 5, 0, OUTPUTS, 0]])
    host = blank(5, "inner", [1, 2], widgets_values=[222])
    outer = subgraph("outer", [host], [[1, INPUTS, 0, 5, 0], [2, INPUTS, 1, 5, 1], [3, 5, 0, OUTPUTS, 0]])
    return {
        "nodes": [
            {"id": 1, "type": "LoadImage", "widgets_values": ["a.png", "image"]},
            blank(2, "outer", [1, None], widgets_values=[333]),
            {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "link": 2}], "widgets_values": ["saved"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        "definitions": {"subgraphs": [outer, inner]},
    }


def test_nested_subgraphs_are_laid_flat_and_the_outermost_value_counts():
    workflow = nested()
    graph = to_api(workflow, subgraphs.KNOWN)
    assert graph.keys() == {"1", "2:5:5", "3"}
    assert graph["2:5:5"]["inputs"] == {"image": ["1", 0], "width": 333}
    assert graph["3"]["inputs"]["images"] == ["2:5:5", 0]
    workflow["nodes"][1]["widgets_values"] = []
    assert to_api(workflow, subgraphs.KNOWN)["2:5:5"]["inputs"]["width"] == 222
    workflow["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"] = None
    assert to_api(workflow, subgraphs.KNOWN)["2:5:5"]["inputs"]["width"] == 111


def test_a_link_to_the_host_counts_more_than_its_value():
    workflow = nested()
    workflow["nodes"][1]["inputs"][1]["link"] = 9
    workflow["links"].append([9, 1, 1, 2, 1, "INT"])
    assert to_api(workflow, subgraphs.KNOWN)["2:5:5"]["inputs"]["width"] == ["1", 1]


def test_a_muted_subgraph_does_not_run():
    workflow = nested()
    workflow["nodes"][1]["mode"] = 2
    graph = to_api(workflow, subgraphs.KNOWN)
    assert graph.keys() == {"1", "3"} and "images" not in graph["3"]["inputs"]


def test_a_subgraph_used_twice_is_there_twice():
    workflow = nested()
    workflow["nodes"].append(blank(7, "outer", [2, None], widgets_values=[444]))
    graph = to_api(workflow, subgraphs.KNOWN)
    assert (
        graph["7:5:5"]["inputs"] == {"image": ["2:5:5", 0], "width": 444} and graph["2:5:5"]["inputs"]["width"] == 333
    )


def test_endless_and_circular_subgraphs_are_refused_and_an_output_that_leads_to_its_own_input_is_open():
    around = nested()
    around["definitions"]["subgraphs"][1]["nodes"][0]["type"] = "outer"
    with pytest.raises(GraphError, match="contains itself"):
        to_api(around, subgraphs.KNOWN)

    doubling = nested()
    copies = [subgraph(str(level), [blank(1, str(level + 1), [None, None]), blank(2, str(level + 1), [None, None])], [])
              for level in range(40)]  # fmt: skip
    doubling["definitions"]["subgraphs"] = copies
    doubling["nodes"][1]["type"] = "0"
    with pytest.raises(GraphError, match="more than 10000 nodes"):
        to_api(doubling, subgraphs.KNOWN)

    through = nested()
    passing = copy.deepcopy(through["definitions"]["subgraphs"][0])
    passing |= {"nodes": [], "links": subgraph("", [], [[1, INPUTS, 0, OUTPUTS, 0]])["links"]}
    through["definitions"]["subgraphs"] = [passing]
    assert to_api(through, subgraphs.KNOWN)["3"]["inputs"]["images"] == ["1", 0]
    through["links"][0] = [1, 2, 0, 2, 0, "IMAGE"]
    assert "images" not in to_api(through, subgraphs.KNOWN)["3"]["inputs"]


def test_what_becomes_of_a_seed_is_no_input_of_a_node_that_is_unknown_here():
    names = ("seed", "steps", "cfg")
    slots = [{"name": name, "widget": {"name": name}, "link": None} for name in names]
    for values in ([5, "randomize", 20, 1.5], [5, 20, 1.5]):
        sampler = {"id": 1, "type": "KSampler", "inputs": slots, "widgets_values": values}
        graph = to_api({"nodes": [sampler], "links": []}, {})
        assert graph["1"]["inputs"] == {"seed": 5, "steps": 20, "cfg": 1.5}


@pytest.mark.parametrize(
    ("definitions", "said"),
    [
        ([], None),
        ({"subgraphs": {}}, None),
        ("text", "not an object with a list"),
        ({"subgraphs": "text"}, "not an object with a list"),
        ({"subgraphs": [{}]}, "entry 0 of its subgraphs is not a subgraph with an id"),
        ({"subgraphs": [{"id": "a", "nodes": []}]}, "has no list of nodes or no list of links"),
        ({"subgraphs": [{"id": "a", "nodes": [1], "links": []}]}, "a node at 0 that is not a node"),
        ({"subgraphs": [{"id": "a", "nodes": [], "links": [[1, 2]]}]}, "a link at 0 that is not a link"),
    ],
)
def test_malformed_definitions_are_named(definitions, said):
    workflow = nested() | {"definitions": definitions}
    if said is None:
        assert "2" in to_api(workflow | {"nodes": [blank(2, "Scale", [None, None], widgets_values=[1])]}, {})
        return
    with pytest.raises(GraphError, match=said):
        to_api(workflow, subgraphs.KNOWN)

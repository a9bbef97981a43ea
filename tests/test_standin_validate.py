"""Every mistake in a graph has its own message, with the node, the input, and what is allowed."""

from __future__ import annotations

import copy
import json

import pytest
from personal_restore.lib.bridge import io
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.graph import GraphError, apply_overrides, kinds, load_graph
from personal_restore.lib.standin.validate import checked


class Restore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Restore",
            inputs=[
                io.Image.Input("image"),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0),
                io.Int.Input("seed", default=0, min=0, max=100),
                io.Combo.Input("method", options=["wavelet", "adain"], default="adain"),
                io.Boolean.Input("fast", default=False),
                io.String.Input("note", default=""),
                io.BoundingBox.Input("box", optional=True),
                io.Mask.Input("mask", optional=True),
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(cls, **inputs):
        raise AssertionError("nothing may run")


class Picture(Restore):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Picture",
            inputs=[io.Int.Input("even", min=0, max=4)],
            outputs=[io.Image.Output(), io.String.Output()],
        )

    @classmethod
    def validate_inputs(cls, even):
        return True if even % 2 == 0 else "it must be even"


KNOWN = kinds((*CORE_NODES, Restore, Picture))
VALUES = {"strength": 0.5, "seed": 3, "method": "adain", "fast": True, "note": "hello"}
GRAPH = {
    "1": {"class_type": "Picture", "inputs": {"even": 2}},
    "2": {"class_type": "Restore", "inputs": {"image": ["1", 0], **VALUES}, "_meta": {"title": "Restore it"}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}


def changed(node, **inputs):
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"] |= inputs
    return graph


def problems(graph) -> tuple[str, ...]:
    with pytest.raises(GraphError) as error:
        checked(graph, KNOWN)
    return error.value.problems


def problem(graph) -> str:
    (only,) = problems(graph)
    return only


def test_a_good_graph_passes_in_dependency_order():
    backwards = dict(reversed(GRAPH.items()))
    assert list(checked(backwards, KNOWN)) == ["1", "2", "3"]
    assert checked(GRAPH, KNOWN)["2"]["inputs"] == {"image": ["1", 0], **VALUES}


def test_the_node_is_named_by_id_title_and_class():
    assert problem(changed("2", seed=101)).startswith('node 2 "Restore it" (Restore), input "seed": ')


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("strength", 1.5, "1.5 is above the largest allowed value, 1.0"),
        ("strength", -0.1, "-0.1 is below the smallest allowed value, 0.0"),
        ("strength", "1.0", "'1.0' is not a number"),
        ("strength", True, "True is not a number"),
        ("strength", float("nan"), "nan is not a number"),
        ("seed", 1.5, "1.5 is not a whole number"),
        ("seed", None, "None is not a whole number"),
        ("seed", float("inf"), "inf is not a whole number"),
        ("method", "median", "'median' is not one of 'wavelet', 'adain'"),
        ("fast", "false", "'false' is neither true nor false"),
        ("note", {"a": 1}, "is not text"),
        ("box", {"x": 1}, "is not a box. A box is an object with x, y, width and height"),
        ("mask", 3, "has no widget and needs a link to MASK, not 3"),
        ("image", "photo.jpg", "has no widget and needs a link to IMAGE, not 'photo.jpg'"),
        ("image", ["1"], "['1'] is not a link. A link has the form [node id, output index]"),
        ("image", ["9", 0], "it is linked to node 9, which does not exist"),
        ("image", ["1", 2], "it is linked to output 2 of node 1 (Picture), which has 2"),
        ("image", ["1", 1], "it needs IMAGE, but that output of node 1 (Picture) is STRING"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, message):
    found = problem(changed("2", **{name: value}))
    assert f'input "{name}"' in found and message in found


def test_whole_numbers_are_taken_where_the_types_allow_them():
    values = checked(changed("2", strength=1, seed=4.0, note=5), KNOWN)["2"]["inputs"]
    assert (values["strength"], values["seed"], values["note"]) == (1.0, 4, "5")
    assert [type(values[name]) for name in ("strength", "seed", "note")] == [float, int, str]


def test_a_missing_required_input_is_named_and_a_missing_optional_one_is_not():
    graph = copy.deepcopy(GRAPH)
    del graph["2"]["inputs"]["image"]
    assert problem(graph) == 'node 2 "Restore it" (Restore), input "image": the required input (IMAGE) is missing.'


def test_an_unknown_node_is_named_with_what_was_probably_meant():
    graph = GRAPH | {"4": {"class_type": "Restoree", "inputs": {}}}
    assert problem(graph) == (
        "node 4 (Restoree): this node is unknown. Nodes from other packs run only in ComfyUI. Did you mean 'Restore'?"
    )


def test_a_node_of_core_runs_in_comfyui_only():
    graph = GRAPH | {"4": {"class_type": "KSampler", "inputs": {}}}
    assert problem(graph) == "node 4 (KSampler) runs only in ComfyUI. Open the workflow there."


def test_an_unknown_node_of_this_pack_is_just_unknown():
    graph = GRAPH | {"4": {"class_type": "PR_Restor", "inputs": {}}}
    assert problem(graph).startswith("node 4 (PR_Restor): this node is unknown. Did you mean ")


def test_a_graph_that_runs_in_comfyui_only_is_checked_all_the_same():
    graph = {
        "1": {"class_type": "Picture", "inputs": {"even": 5}},
        "2": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0]}},
        "3": {"class_type": "Restore", "inputs": {"image": ["2", 0], **VALUES, "seed": -1}},
        "4": {"class_type": "SaveAnimatedWEBP", "inputs": {"images": ["3", 0]}},
    }
    found = problems(graph)
    assert len(found) == 4
    assert sum("only in ComfyUI" in line for line in found) == 2
    assert sum(line.startswith(("node 1 (Picture), input", "node 3 (Restore), input")) for line in found) == 2


def test_a_cycle_is_shown_as_a_path():
    graph = changed("2", image=["4", 0])
    graph["4"] = {"class_type": "Restore", "inputs": {"image": ["2", 0], **VALUES}}
    found = problem(graph)
    assert "form a cycle" in found and 'node 2 "Restore it" (Restore)' in found and "node 4 (Restore)" in found


def test_a_node_linked_to_itself_is_a_cycle():
    assert "form a cycle" in problem(changed("2", image=["2", 0]))


def test_a_graph_without_output_node_is_refused():
    assert "no output node" in problem({"1": GRAPH["1"]})


def test_all_mistakes_are_told_at_once():
    graph = changed("2", seed=-1, strength=2.0, method="x", mask=["2", 1])
    graph["1"]["inputs"] = {}
    graph["4"] = {"class_type": "KSampler", "inputs": {}}
    assert len(problems(graph)) == 6


def test_mistakes_in_nodes_that_do_not_run_are_not_told():
    graph = GRAPH | {"4": {"class_type": "Picture", "inputs": {}}}
    assert list(checked(graph, KNOWN)) == ["1", "2", "3"]


def test_inputs_that_the_schema_has_not_are_left_out():
    assert checked(changed("1", upload="image"), KNOWN)["1"]["inputs"] == {"even": 2}


def test_a_node_that_validates_an_input_itself_has_the_word():
    assert checked(changed("1", even=6), KNOWN)["1"]["inputs"] == {"even": 6}, "its own check replaces the range"
    assert problem(changed("1", even=3)) == "node 1 (Picture), input even: it must be even."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not an object of nodes"),
        ('{"nodes": [], "links": []}', "in the UI format"),
        ('{"1": 5}', "node 1 is not an object"),
        ('{"1": {"inputs": {}}}', "node 1 has no class_type"),
        ('{"1": {"class_type": "Picture"}}', "node 1 (Picture) has no object of inputs"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, text, message):
    path = tmp_path / "a graph.json"
    path.write_text(text)
    with pytest.raises(GraphError) as error:
        load_graph(path)
    assert message in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(GraphError, match="cannot be read"):
        load_graph(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(GraphError, match="is not JSON"):
        load_graph(tmp_path / "binary.json")


def test_a_graph_is_read_as_it_was_written(tmp_path):
    (tmp_path / "ünï.json").write_text(json.dumps(GRAPH), encoding="utf-8")
    assert load_graph(tmp_path / "ünï.json") == GRAPH


@pytest.mark.parametrize("name", ["2", "Restore it", "Restore"])
def test_an_override_finds_its_node_by_id_title_or_class(name):
    assert apply_overrides(GRAPH, [f"{name}.seed=7"], KNOWN)["2"]["inputs"]["seed"] == 7
    assert GRAPH["2"]["inputs"]["seed"] == 3


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("strength", "0.25", 0.25),
        ("fast", "true", True),
        ("method", "adain", "adain"),
        ("image", '["1", 0]', ["1", 0]),
        ("box", '{"x": 1}', {"x": 1}),
    ],
)
def test_an_override_is_json_or_else_text(name, text, value):
    assert apply_overrides(GRAPH, [f"2.{name}={text}"], KNOWN)["2"]["inputs"][name] == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=b c", "a=b c"),
        ("", ""),
        ("true", "true"),
        ("1e3", "1e3"),
        ('{"seed": 1}', '{"seed": 1}'),
        ("[1, 2]", "[1, 2]"),
        ('"7"', "7"),
        ('["1", 1]', ["1", 1]),
    ],
)
def test_an_override_of_a_text_is_that_text_or_a_link(text, value):
    assert apply_overrides(GRAPH, [f"2.note={text}"], KNOWN)["2"]["inputs"]["note"] == value


def test_an_override_may_set_an_optional_input_that_the_graph_leaves_out():
    box = {"x": 0, "y": 0, "width": 8, "height": 8}
    graph = apply_overrides(GRAPH, [f"2.box={json.dumps(box)}"], KNOWN)
    assert checked(graph, KNOWN)["2"]["inputs"]["box"] == box


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("2.sed=1", "has no input 'sed'. Did you mean 'seed'?"),
        ("Restor it.seed=1", "there is no node 'Restor it'. Did you mean 'Restore it'?"),
        ("2.seed", "not of the form NODE.INPUT=VALUE"),
        ("seed=2", "not of the form NODE.INPUT=VALUE"),
    ],
)
def test_an_override_of_what_is_not_there_is_refused(override, message):
    with pytest.raises(GraphError) as error:
        apply_overrides(GRAPH, [override], KNOWN)
    assert message in str(error.value)


def test_an_override_of_a_class_that_occurs_twice_is_refused():
    graph = GRAPH | {"4": {"class_type": "Picture", "inputs": {"even": 0}}}
    with pytest.raises(GraphError, match="'Picture' is the name of nodes 1, 4. Use the id of the one you mean"):
        apply_overrides(graph, ["Picture.even=4"], KNOWN)

"""What the runner does with graphs of little nodes."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
import torch
from personal_restore.lib.bridge import io, progress
from personal_restore.lib.standin.runner import Kept, run_graph
from personal_restore.lib.vocabulary import UserError

calls: list[str] = []
alive: list[weakref.ref] = []


class Box:
    def __init__(self, value):
        self.value = value
        alive.append(weakref.ref(self))


def node(id, inputs=(), outputs=(), is_output_node=False, is_input_list=False):
    """Makes a node class of a function ``(**inputs) -> NodeOutput``."""

    def make(function):
        def execute(cls, **kwargs):
            calls.append(id)
            return function(**kwargs)

        def define_schema(cls):
            return io.Schema(
                node_id=id, inputs=list(inputs), outputs=list(outputs),
                is_output_node=is_output_node, is_input_list=is_input_list,
            )  # fmt: skip

        methods = {"execute": classmethod(execute), "define_schema": classmethod(define_schema)}
        return type(id, (io.ComfyNode,), methods)

    return make


@node("Make", [io.Int.Input("value", default=1)], [io.Custom("BOX").Output()])
def Make(value):
    return io.NodeOutput(Box(value))


@node("Add", [io.Custom("BOX").Input("a"), io.Custom("BOX").Input("b")], [io.Custom("BOX").Output()])
def Add(a, b):
    return io.NodeOutput(Box(a.value + b.value))


@node("Count", [io.Int.Input("n")], [io.Int.Output(is_output_list=True)])
def Count(n):
    return io.NodeOutput(list(range(n)))


@node("Times", [io.Int.Input("a"), io.Int.Input("b", default=10)], [io.Int.Output()])
def Times(a, b):
    return io.NodeOutput(a * b)


@node("Sum", [io.Int.Input("items"), io.Int.Input("offset", default=0)], [io.Int.Output()], is_input_list=True)
def Sum(items, offset):
    assert isinstance(offset, list)
    return io.NodeOutput(sum(items) + offset[0])


@node("Show", [io.AnyType.Input("value")], is_output_node=True)
def Show(value):
    return io.NodeOutput(ui={"shown": (value.value if isinstance(value, Box) else value,)})


@node("Living", [io.AnyType.Input("after")], [io.Int.Output()])
def Living(after):
    gc.collect()
    return io.NodeOutput(sum(reference() is not None for reference in alive))


@node("Fail", [io.Int.Input("value", default=0)], [io.Int.Output()])
def Fail(value):
    raise RuntimeError("the network melted")


@node("Refuse", [io.Int.Input("value", default=0)], [io.Int.Output()])
def Refuse(value):
    raise UserError("The album is empty. Add a picture.")


@node("Interrupt", [io.Int.Input("value", default=0)], [io.Int.Output()])
def Interrupt(value):
    raise KeyboardInterrupt


@node("Steps", [io.Int.Input("steps", default=3)], [io.Int.Output()])
def Steps(steps):
    report = progress(steps)
    for step in range(steps):
        report(step + 1, steps)
    return io.NodeOutput(steps)


@node("Grad", [], [io.Boolean.Output()])
def Grad():
    return io.NodeOutput(torch.is_inference_mode_enabled())


NODES = (Make, Add, Count, Times, Sum, Show, Living, Fail, Refuse, Interrupt, Steps, Grad)


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()
    alive.clear()


def step(class_type, title=None, **inputs):
    return {"class_type": class_type, "inputs": inputs} | ({"_meta": {"title": title}} if title else {})


def run(graph, **kwargs):
    return run_graph(graph, NODES, **kwargs)


def test_a_node_used_twice_runs_once():
    graph = {"4": step("Show", value=["3", 0]), "3": step("Add", a=["1", 0], b=["1", 0]), "1": step("Make", value=21)}
    assert run(graph).ui == {"4": {"shown": [42]}}
    assert calls == ["Make", "Add", "Show"]


def test_nodes_that_lead_to_no_output_do_not_run():
    run({"1": step("Make", value=1), "2": step("Make", value=2), "3": step("Show", value=["2", 0])})
    assert calls == ["Make", "Show"]


def test_the_order_is_the_same_every_time():
    graph = {str(i): step("Make", value=i) for i in range(9)}
    graph |= {str(10 + i): step("Show", value=[str(8 - i), 0]) for i in range(9)}
    orders = {tuple(run(graph).seconds) for _ in range(3)}
    assert len(orders) == 1


def test_a_value_is_freed_after_its_last_use():
    graph = {
        "1": step("Make", value=1),
        "2": step("Make", value=2),
        "3": step("Add", a=["1", 0], b=["2", 0]),
        "4": step("Living", after=["3", 0]),
        "5": step("Show", value=["4", 0]),
    }
    assert run(graph).ui["5"]["shown"] == [1], "only the sum that the node itself was given is still there"


def test_a_value_is_kept_while_somebody_waits_for_it():
    graph = {
        "1": step("Make", value=1),
        "2": step("Living", after=["1", 0]),
        "3": step("Show", value=["2", 0]),
        "4": step("Show", value=["1", 0]),
    }
    assert run(graph).ui == {"3": {"shown": [1]}, "4": {"shown": [1]}}


def test_a_list_output_runs_the_next_node_once_per_item():
    graph = {"1": step("Count", n=3), "2": step("Times", a=["1", 0], b=10), "3": step("Show", value=["2", 0])}
    assert run(graph).ui["3"]["shown"] == [0, 10, 20]
    assert calls.count("Times") == 3


def test_shorter_lists_repeat_their_last_item():
    graph = {
        "1": step("Count", n=4),
        "2": step("Count", n=3),
        "3": step("Times", a=["1", 0], b=["2", 0]),
        "4": step("Show", value=["3", 0]),
    }
    assert run(graph).ui["4"]["shown"] == [0, 1, 4, 6]


def test_a_node_that_wants_lists_gets_them_whole():
    graph = {"1": step("Count", n=4), "2": step("Sum", items=["1", 0], offset=100), "3": step("Show", value=["2", 0])}
    assert run(graph).ui["3"]["shown"] == [106]


def test_an_empty_list_is_given_to_a_node_that_wants_lists():
    graph = {"1": step("Count", n=0), "2": step("Sum", items=["1", 0]), "3": step("Show", value=["2", 0])}
    assert run(graph, overrides=["2.offset=5"]).ui["3"]["shown"] == [5]


def test_an_empty_list_for_a_node_that_wants_single_values_is_an_error():
    graph = {"1": step("Count", n=0), "2": step("Times", a=["1", 0], b=1), "3": step("Show", value=["2", 0])}
    with pytest.raises(UserError, match=r"node 2 \(Times\): its input a got an empty list"):
        run(graph)


def test_an_error_names_the_node_and_keeps_its_cause():
    graph = {"7": step("Fail", title="Restore it", value=0), "8": step("Show", value=["7", 0])}
    with pytest.raises(UserError, match=r'node 7 "Restore it" \(Fail\).*RuntimeError: the network melted') as error:
        run(graph)
    assert isinstance(error.value.__cause__, RuntimeError)


def test_a_message_for_the_user_stays_as_it_is():
    graph = {"7": step("Refuse", value=0), "8": step("Show", value=["7", 0])}
    with pytest.raises(UserError, match=r"^node 7 \(Refuse\): The album is empty. Add a picture.$"):
        run(graph)


def test_ctrl_c_says_where_it_stopped():
    graph = {"7": step("Interrupt", title="Restore faces", value=0), "8": step("Show", value=["7", 0])}
    with pytest.raises(KeyboardInterrupt, match='Stopped in node 7 "Restore faces"'):
        run(graph)


def test_on_progress_is_told_how_far_the_node_is():
    heard = []
    run({"1": step("Steps", steps=3), "2": step("Show", value=["1", 0])}, on_progress=lambda *at: heard.append(at))
    assert heard[-1] == (3, 3) and len(heard) > 1


def test_progress_outside_a_run_is_heard_by_nobody():
    progress(3)(1, 3)


def test_nodes_run_in_inference_mode():
    assert run({"1": step("Grad"), "2": step("Show", value=["1", 0])}).ui["2"]["shown"] == [True]
    assert not torch.is_inference_mode_enabled()


def test_results_have_the_outputs_of_output_nodes_and_the_time_of_every_node():
    start = time.perf_counter()
    results = run({"1": step("Steps", steps=1), "2": step("PreviewAny", source=["1", 0])})
    assert results.outputs == {"2": [["1"]]}
    assert results.ui == {"2": {"text": ["1"]}}
    assert list(results.seconds) == ["1", "2"] and sum(results.seconds.values()) <= time.perf_counter() - start


def test_on_node_is_told_before_each_node():
    heard = []
    graph = {"1": step("Make", title="Make it", value=1), "2": step("Show", value=["1", 0])}
    run(graph, on_node=lambda name, index, count: heard.append((name, index, count, len(calls))))
    assert heard == [("Make it", 0, 2, 0), ("Show", 1, 2, 1)]


def test_the_graph_that_was_given_stays_as_it_is():
    graph = {"1": step("Make", value=1), "2": step("Show", value=["1", 0])}
    assert run(graph, overrides=["1.value=5"]).ui["2"]["shown"] == [5]
    assert graph["1"]["inputs"] == {"value": 1}


def test_what_does_not_depend_on_what_changes_is_made_once():
    def graph(value):
        return {
            "album": step("Make", value=100), "twice": step("Add", a=["album", 0], b=["album", 0]),
            "photograph": step("Make", value=value), "both": step("Add", a=["photograph", 0], b=["twice", 0]),
            "end": step("Show", value=["both", 0]), "other": step("Show", value=["twice", 0]),
        }  # fmt: skip

    kept = Kept(frozenset(["photograph"]))
    for value in (1, 2, 3):
        results = run(graph(value), kept=kept)
        assert results.ui == {"end": {"shown": [200 + value]}, "other": {"shown": [200]}}
    assert calls.count("Make") == 4 and calls.count("Add") == 4 and calls.count("Show") == 6
    assert kept.values.keys() == {"album", "twice"}

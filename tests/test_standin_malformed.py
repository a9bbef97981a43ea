"""Graphs, UI files and settings that no program wrote: each is refused with words, or taken for what it can be."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path

import pytest
import torch
from personal_restore.cli import own
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.core_nodes import (
    CORE_NODES,
    ImageScaleBy,
    ImageStitch,
    without_path,
    without_paths,
)
from personal_restore.lib.standin.graph import GraphError, apply_overrides, kinds, load_graph
from personal_restore.lib.standin.validate import checked
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes import NODES

ROOT = Path(__file__).resolve().parent.parent
KNOWN = kinds((*CORE_NODES, *NODES))
ODD = [
    None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "x", "\udce9", "a" * 100_000, [], {}, ["1", 0], ["1", 9], ["gone", 0],
    ["1", "0"], ["1", 0, 0], [[], 0], {"__value__": 3}, {"x": 1, "y": 1, "width": "a", "height": None}, [[[]]],
]  # fmt: skip


def bundled(name: str, folder: str = "api") -> dict:
    return json.loads((ROOT / "workflows" / folder / f"{name}.json").read_text(encoding="utf-8"))


def changed(value, rng: random.Random):
    """A copy with something odd in one place, or without it."""
    value = copy.deepcopy(value)
    here, place = value, None
    while isinstance(here, dict | list) and here and (place is None or rng.random() < 0.75):
        parent, place = here, rng.choice(list(here) if isinstance(here, dict) else range(len(here)))
        here = parent[place]
    if rng.random() < 0.2:
        del parent[place]
    else:
        parent[place] = rng.choice(ODD)
    return value


def everything(graph: dict) -> None:
    graph = own.with_album(graph, Path("album"))
    graph = own.with_seed(own.with_strength(graph, 0.5), 3)
    graph = own.with_photo(graph, Path("photo.png"))
    checked(apply_overrides(graph, ["photograph.image=x.png"], KNOWN), KNOWN)


@pytest.mark.parametrize("seed", range(4))
def test_a_graph_with_something_odd_in_it_is_run_or_refused_with_words(tmp_path, seed):
    rng = random.Random(seed)
    graphs = [bundled("face2scene"), bundled("perfuse")]
    for _ in range(120):
        graph = changed(rng.choice(graphs), rng)
        path = tmp_path / "graph.json"
        path.write_text(json.dumps(graph))
        try:
            everything(load_graph(path))
        except UserError as error:
            assert len(str(error)) < 20_000
        without_paths({"1": graph}) if isinstance(graph, dict) else None


@pytest.mark.parametrize("seed", range(2))
def test_a_file_of_the_canvas_with_something_odd_in_it_is_converted_or_refused(seed):
    rng = random.Random(seed)
    workflow = bundled("face2scene", ".")
    for _ in range(200):
        with contextlib.suppress(GraphError):
            to_api(changed(workflow, rng), KNOWN)


@pytest.mark.parametrize(
    "workflow", [None, [], {}, {"nodes": 3, "links": []}, {"nodes": [[]], "links": []}, {"nodes": [], "links": [1]}]
)
def test_what_is_no_file_of_the_canvas_is_refused(workflow):
    with pytest.raises(GraphError):
        to_api(workflow, KNOWN)


def test_reroutes_in_a_circle_end():
    reroutes = [
        {"id": number, "type": "Reroute", "mode": 0, "inputs": [{"name": "", "link": number}], "outputs": []}
        for number in (1, 2)
    ]
    save = {"id": 3, "type": "PreviewImage", "mode": 0, "inputs": [{"name": "images", "link": 3}]}
    links = [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"], [3, 1, 0, 3, 0, "*"]]
    assert to_api({"nodes": [*reroutes, save], "links": links}, KNOWN)["3"]["inputs"] == {}


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\x00", '{"1": ' * 50_000, "3", "1" * 5000])
def test_a_file_that_is_no_graph_is_refused(tmp_path, text):
    (tmp_path / "graph.json").write_text(text)
    with pytest.raises(GraphError):
        load_graph(tmp_path / "graph.json")


def test_texts_lose_every_kind_of_path():
    for path in (
        "/home/me/a b.png",
        "~/pictures/a b.png",
        "file:///home/me/a b.png",
        "C:\\Users\\me\\a b.png",
        "\\\\server\\me\\a b.png",
    ):
        assert without_path(path) == "a b.png"
        graph = {"1": {"class_type": "X", "inputs": {"a": [{"b": path}]}, "_meta": {"title": path}}}
        assert (
            "me" not in json.dumps(without_paths(graph)["1"]["inputs"])
            and without_paths(graph)["1"]["_meta"]["title"] == "a b.png"
        )
    for text in ("a / b", "sub/x.png", "about ~ 3", "", "Eileen"):
        assert without_path(text) == text


def test_nothing_left_of_a_picture_is_said():
    small, wide = torch.zeros(1, 30, 40, 3), torch.zeros(1, 2, 400, 3)
    for method in ("lanczos", "area"):
        with pytest.raises(UserError, match="leaves nothing of a picture of 40x30 pixels"):
            ImageScaleBy.execute(small, method, 0.0156)
    with pytest.raises(UserError, match="leaves nothing of image2"):
        ImageStitch.execute(small[:, :1], "down", True, 0, "white", wide[:, :1])

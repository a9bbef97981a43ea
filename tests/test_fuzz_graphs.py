"""Graphs, files of the canvas, overrides and typed-in lists that nobody would write: taken, or refused with words."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import example
from hypothesis import strategies as st
from personal_restore.cli import own
from personal_restore.lib.faces.match import chosen_people, parse_override
from personal_restore.lib.fusion.compose import parse_strengths
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.core_nodes import CORE_NODES, without_paths
from personal_restore.lib.standin.graph import apply_overrides, kinds, load_graph
from personal_restore.lib.standin.host import folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.standin.validate import checked
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes import NODES
from personal_restore.tests.bundled import NAMES, WORKFLOWS
from personal_restore.tests.fuzzing import NUMBERS, TEXTS, VALUES, changed, fuzzed, refused_with_words
from PIL import Image

KNOWN = kinds((*CORE_NODES, *NODES))
API, CANVAS = (
    [json.loads((WORKFLOWS / folder / f"{name}.json").read_text("utf-8")) for name in NAMES] for folder in ("api", ".")
)
LINKS = st.tuples(st.sampled_from(["1", "2", "3", "gone", "album"]), st.integers(-1, 9)).map(list)
ODD = st.one_of(VALUES, LINKS)


@fuzzed("graphs", 60, graph=st.one_of(VALUES, changed(st.sampled_from(API), ODD)), strength=st.floats(0, 1))
def test_a_graph_is_taken_or_refused(tmp_path_factory, graph, strength):
    path = tmp_path_factory.getbasetemp() / "fuzzed graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    with refused_with_words():
        graph = load_graph(path)
        without_paths(graph)
        graph = own.with_album(graph, Path("album"))
        graph = own.with_seed(own.with_strength(graph, strength), 3)
        checked(own.with_photo(graph, Path("photo.png")), KNOWN)


@fuzzed("files of the canvas", 80, workflow=st.one_of(VALUES, changed(st.sampled_from(CANVAS))))
def test_a_file_of_the_canvas_is_converted_or_refused(workflow):
    with refused_with_words():
        to_api(workflow, KNOWN)


@fuzzed(
    "overrides",
    80,
    graph=st.sampled_from(API),
    override=st.one_of(
        TEXTS,
        st.tuples(st.sampled_from(["Photograph", "PR_BlendFaces", "1", "2"]), TEXTS, TEXTS).map(
            "{0[0]}.{0[1]}={0[2]}".format
        ),
        st.tuples(st.sampled_from(["strength", "seed", "people"]), TEXTS).map("PR_BlendFaces.{0[0]}={0[1]}".format),
    ),
)
def test_an_override_is_taken_or_refused(graph, override):
    with refused_with_words():
        checked(apply_overrides(graph, [override], KNOWN), KNOWN)


PEOPLE = ["Anna", "Smith, Anna", "nobody's", "known", "0=1"]
PIECES = st.lists(
    st.one_of(
        st.sampled_from(["0", "1", "=", ",", ";", "\n", " ", "Anna", "Smith", "nobody", "known", "²", "٣", "1e400"]),
        TEXTS,
    ),
    max_size=12,
).map("".join)


@fuzzed("typed-in lists", 150, text=PIECES, faces=st.integers(0, 4))
@example(text="\n" * 40_000, faces=3)
def test_a_typed_in_list_is_read_or_refused_in_no_time(text, faces):
    started = time.perf_counter()
    for read in (
        lambda: parse_override(text, faces, PEOPLE),
        lambda: parse_strengths(text, faces),
        lambda: chosen_people(text, PEOPLE)(None),
    ):
        with refused_with_words():
            read()
    assert time.perf_counter() - started < 5


# Nodes that take no network and no seconds, with the values that a graph may give them.
CHEAP = {
    "PR_Degrade": {"family": st.sampled_from(["trial", "clean", "x"]), "seed": NUMBERS, "recipe": st.just("")},
    "ImageScaleBy": {
        "upscale_method": st.sampled_from(["area", "lanczos", "x"]),
        "scale_by": st.one_of(NUMBERS, st.floats(0.01, 0.5)),
    },
    "ImageStitch": {
        "direction": st.sampled_from(["right", "up"]),
        "match_image_size": st.booleans(),
        "spacing_width": st.one_of(NUMBERS, st.integers(0, 8)),
        "spacing_color": st.sampled_from(["white", "black", "x"]),
    },
    "PR_DetectFaces": {
        "threshold": NUMBERS,
        "boxes": st.one_of(VALUES, st.fixed_dictionaries(dict.fromkeys(("x", "y", "width", "height"), NUMBERS))),
    },
}


@st.composite
def chains(draw: st.DrawFn) -> dict:
    """Some cheap nodes in a row behind a small picture, and something that shows the end."""
    graph = {"0": {"class_type": "LoadImage", "inputs": {"image": "small.png"}}}
    for number in range(1, draw(st.integers(2, 4))):
        kind = draw(st.sampled_from(list(CHEAP)))
        values = draw(st.fixed_dictionaries(CHEAP[kind]))
        image = "image1" if kind == "ImageStitch" else "image"
        graph[str(number)] = {"class_type": kind, "inputs": {image: [str(number - 1), 0], **values}}
        if kind == "ImageStitch":
            graph[str(number)]["inputs"]["image2"] = ["0", 0]
        if kind == "PR_DetectFaces":
            graph[f"{number} shown"] = {"class_type": "PreviewAny", "inputs": {"source": [str(number), 1]}}
            break
    else:
        graph["end"] = {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
    return graph


@fuzzed("graphs that run", 25, graph=chains())
def test_a_graph_of_cheap_nodes_runs_or_is_refused(tmp_path_factory, graph):
    folder = tmp_path_factory.getbasetemp()
    Image.effect_noise((40, 30), 50).save(folder / "small.png")
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("input", "output"):
            patch.setattr(folders, kind, folder)
        try:
            run_graph(graph, NODES)
        except UserError as error:
            assert " failed: " not in str(error), "an error that no node of ours raised on purpose"

"""Puts the user's photograph, album and settings into a bundled workflow."""

from __future__ import annotations

import copy
from pathlib import Path

from ..lib.faces.match import EVERYBODY_KNOWN, STRANGERS
from ..lib.standin.graph import Graph, Node, linked_sources, title
from ..lib.standin.host import allow_folder
from ..lib.vocabulary import UserError

PHOTOGRAPH = "Photograph"
SAMPLES = ("PR_Sample", "PR_SampleGroup")
LOADER = "PR_LoadPhotograph"


def opened_album(album: Path) -> Path:
    """The album as an absolute path, opened to graphs with what its own links lead to: whoever names it here may read that."""
    for path in album.rglob("*"):
        if path.is_symlink():
            allow_folder(path)
    return allow_folder(album)


def with_album(graph: Graph, album: Path) -> Graph:
    """The graph with every library of people taken from the folder ``album``.

    The sample's names do not apply to it: the first restorer for one of these names is now for everyone known, the
    others for no one.
    """
    graph = copy.deepcopy(graph)
    album_node = {"class_type": "PR_LoadLibrary", "inputs": {"folder": str(album)}, "_meta": {"title": "Album"}}
    for node in graph.values():
        for name, (source, output) in linked_sources(graph, node).items():
            kind = graph[source]["class_type"]
            if (kind in SAMPLES and output == 1) or (kind == "PR_LoadLibrary" and output == 0):
                node["inputs"][name] = ["album", 0]
    usual = "", EVERYBODY_KNOWN, STRANGERS
    named = [node for node in graph.values() if node["inputs"].get("people", "") not in usual]
    for number, node in enumerate(named):
        node["inputs"] |= {"people": EVERYBODY_KNOWN} | ({"strength": 0.0} if number else {})
    graph["album"] = album_node
    return graph


def with_photo(graph: Graph, photo: Path) -> Graph:
    """The graph with ``photo`` instead of the node titled "Photograph", or of its only LoadImage.

    Other links to the sample photograph, such as the undamaged truth or its edit, belong to another picture and are removed. Raises
    UserError if it is unclear which node to replace.
    """
    graph = copy.deepcopy(graph)
    found = [id for id, node in graph.items() if title(node) == PHOTOGRAPH]
    found = found or [id for id, node in graph.items() if node["class_type"] == "LoadImage"]
    if len(found) != 1:
        raise UserError(
            f"The workflow has {len(found)} nodes that could be the photograph. Give one of them the title "
            f"{PHOTOGRAPH!r}."
        )
    for node in graph.values():
        for name, (source, output) in linked_sources(graph, node).items():
            if source == found[0] and output == 0:
                node["inputs"][name] = ["photograph", 0]
                continue
            kind = graph[source]["class_type"]
            if kind == LOADER or (kind in SAMPLES and output in (0, 2)):  # the photograph, and its edit
                del node["inputs"][name]
    del graph[found[0]]
    graph["photograph"] = {"class_type": "LoadImage", "inputs": {"image": str(photo)}, "_meta": {"title": PHOTOGRAPH}}
    return graph


def without_previews(graph: Graph) -> Graph:
    """The graph without what only the editor shows: previews of pictures, and the picture in which faces are clicked."""
    used = {link[0] for node in graph.values() for link in linked_sources(graph, node).values()}
    graph = {id: node for id, node in graph.items() if node["class_type"] != "PreviewImage" or id in used}
    for id, node in graph.items():
        if node["class_type"] == "PR_MatchFaces":
            graph[id] = node | {"inputs": {name: value for name, value in node["inputs"].items() if name != "image"}}
    return graph


def with_edit(graph: Graph, edit: Path) -> Graph:
    """The graph with ``edit`` as the edited version of the photograph, wherever one goes in. Raises UserError if none does."""
    graph = copy.deepcopy(graph)
    loaded = {"class_type": "LoadImage", "inputs": {"image": str(edit)}, "_meta": {"title": "Edit"}}
    edits = [node["inputs"]["edit"] for node in graph.values() if node["class_type"] == "PR_KeepPerson"]
    if not edits:
        raise UserError("--edit: the workflow has no Keep the Person node. Use --workflow keep_the_person.")
    for node in graph.values():
        node["inputs"] |= {name: ["edit", 0] for name, value in node["inputs"].items() if value in edits}
    return graph | {"edit": loaded}


def with_strength(graph: Graph, strength: float) -> Graph:
    """The graph with this strength for the blended faces and for the scene into which they are blended; without faces,
    for all nodes that restore a scene."""
    graph = copy.deepcopy(graph)
    blends = [node for node in graph.values() if node["class_type"] in ("PR_BlendFaces", "PR_KeepPerson")]
    for node in [] if blends else [node for node in graph.values() if node["class_type"] == "PR_RestoreScene"]:
        node["inputs"]["strength"] = strength
    for node in blends:
        node["inputs"]["strength"] = strength
        scene = _source(graph, node, "scene")
        if scene and scene["class_type"] == "ImageScaleBy":
            scene = _source(graph, scene, "image")
        if scene and scene["class_type"] == "PR_RestoreScene":
            scene["inputs"]["strength"] = strength
    return graph


def _source(graph: Graph, node: Node, name: str) -> Node | None:
    """The node that an input comes from; None for a value, or for a link that leads nowhere, which is reported when the graph runs."""
    found = linked_sources(graph, node).get(name)
    return graph[found[0]] if found else None


def with_seed(graph: Graph, seed: int) -> Graph:
    """The graph with this seed for all nodes that restore."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] in ("PR_RestoreFaces", "PR_RestoreScene"):
            node["inputs"]["seed"] = seed
    return graph


def with_likeness(graph: Graph) -> Graph:
    """The graph with reports that describe strangers, so that one who appears in many photographs is noticed."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] == "PR_Report":
            node["inputs"]["likeness"] = True
    return graph

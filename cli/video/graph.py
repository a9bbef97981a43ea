"""A workflow for the frames of a shot: nodes that would decide anew in every frame give way to what was decided for all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...lib.bridge import io
from ...lib.degradation.estimate import face_pair
from ...lib.faces.detection import Detection
from ...lib.faces.extract import ALIGNMENTS, extract_face
from ...lib.faces.match import Match
from ...lib.standin.graph import Graph, linked_sources, title
from ...lib.vocabulary import DegradationCode, FacePairs, Faces, UserError
from ...models.embedded.estimate import ALL
from ...nodes import NODES, sockets
from ...nodes.layout import to_photos
from ..own import with_photo
from ..restore import RESULT

DETECT, MATCH, RESTORE, ESTIMATE, MAPNET, PAIR = (
    f"PR_{name}" for name in ("DetectFaces", "MatchFaces", "RestoreFaces", "EstimateDegradation", "MapNet", "FacePair")
)
FRAME = "photograph"  # the id of the frame's node, as `with_photo` calls it
OWN = "shot"  # how the ids of nodes that are added begin
CODE = "code of "  # how the names of codes begin; the id of the node follows that would read them


@dataclass
class Now:
    """What goes into the graphs and comes out of them. frame: IMAGE; faces: detections of this frame and who they are; codes: of the shot,
    by name; taken: what came out, by name."""

    frame: torch.Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1, 3))
    faces: Sequence[tuple[Detection, Match]] = ()
    codes: dict[str, DegradationCode | None] = field(default_factory=dict)
    taken: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graphs:
    """alone: restores a frame by itself; look, read: take faces and album out of a frame, and the codes of all its faces, too; finish:
    restores a frame with what was decided. changing: nodes whose outputs differ between frames. threshold: of Match Faces."""

    alone: Graph
    look: Graph = field(default_factory=dict)
    read: Graph = field(default_factory=dict)
    finish: Graph = field(default_factory=dict)
    changing: frozenset[str] = frozenset([FRAME])
    threshold: float = 0.0


def graphs_for_shots(graph: Graph) -> Graphs:
    """Raises UserError for a workflow that finds or matches faces more than once."""
    base = _with_frame(graph)
    found = {kind: [id for id, node in base.items() if node["class_type"] == kind] for kind in (DETECT, MATCH)}
    if any(len(ids) > 1 for ids in found.values()):
        raise UserError(
            "The workflow finds or matches faces in several nodes, so that they cannot be tracked. Use another workflow, or "
            "--no-tracking."
        )
    match = base[found[MATCH][0]]["inputs"] if found[MATCH] else {}
    if match.get("override") or match.get("strengths"):
        raise UserError("Match Faces: override and strengths are for one photograph. Leave them empty for a clip.")
    codes = [id for id, node in base.items() if node["class_type"] in (ESTIMATE, MAPNET)]
    faces = {"faces": match["faces"]} if match else {"faces": [found[DETECT][0], 0]} if found[DETECT] else {}
    library = {"library": match["library"]} if match else {}
    look, result = faces | library, {"result": _result(base)}
    changing = {FRAME, *found[DETECT], *found[MATCH], *codes}
    return Graphs(
        _taking(base, result),
        _taking(base, look),
        _taking(_every_face(base), look | {f"{CODE}{id}": [id, 0] for id in codes}),
        _taking(_decided(base, found[DETECT], found[MATCH], codes), result),
        frozenset(changing),
        float(match.get("threshold", 0.0)),
    )


def graph_alone(graph: Graph) -> Graph:
    """That which restores a frame by itself."""
    base = _with_frame(graph)
    return _taking(base, {"result": _result(base)})


def _with_frame(graph: Graph) -> Graph:
    """The graph with the current frame as its photograph."""
    base = with_photo(graph, Path())
    base[FRAME] = {"class_type": "Shot_Frame", "inputs": {}}
    return base


def _result(graph: Graph) -> list[Any]:
    """The link to what the workflow saves."""
    saves = [node for node in graph.values() if node["class_type"] == "SaveImage"]
    if not saves:
        raise UserError("The workflow has no SaveImage node, so there is no result to save.")
    return min(saves, key=lambda node: title(node) != RESULT)["inputs"]["images"]


def _taking(graph: Graph, links: dict[str, list[Any]]) -> Graph:
    """Only what these links need, and a node for each that takes its value."""
    taking = {
        f"{OWN} {name}": {"class_type": "Shot_Take", "inputs": {"name": name, "value": link}}
        for name, link in links.items()
    }
    needed, pending = set[str](), [str(link[0]) for link in links.values()]
    while pending:
        if (id := pending.pop()) not in needed and id in graph:
            needed.add(id)
            pending += [source for source, _ in linked_sources(graph, graph[id]).values()]
    return {id: node for id, node in graph.items() if id in needed} | taking


def _every_face(graph: Graph) -> Graph:
    """The damage is read off all faces instead of the largest one."""
    graph = copy.deepcopy(graph)
    for id, node in list(graph.items()):
        if node["class_type"] == RESTORE:
            node["inputs"].pop("which", None)
        given = {name: node["inputs"].get(name) for name in ("image", "faces", "extractor")}
        pair = {"class_type": "Shot_Pairs", "inputs": {"image": given["image"], "faces": given["faces"]}}
        if node["class_type"] == PAIR:
            graph[id] = pair
        elif node["class_type"] == ESTIMATE:
            graph[f"{OWN} pair {id}"] = pair
            fadex = {"pair": [f"{OWN} pair {id}", 0], "extractor": given["extractor"] or "embedded"}
            graph[f"{OWN} map {id}"] = {"class_type": "PR_FaDeX", "inputs": fadex}
            graph[id] = {"class_type": MAPNET, "inputs": {"map": [f"{OWN} map {id}", 0], "tokens": ALL}}
    return graph


def _decided(graph: Graph, detect: list[str], match: list[str], codes: list[str]) -> Graph:
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] == RESTORE:
            node["inputs"].pop("scene", None)  # which was there for the detector; faces alone cost less
    for id in detect:
        given = graph[id]["inputs"]
        alignment = given.get("alignment", ALIGNMENTS[0])
        graph[id] = {"class_type": "Shot_Faces", "inputs": {"image": given["image"], "alignment": alignment}}
    for id in match:
        graph[id] = {"class_type": "Shot_People", "inputs": {"faces": graph[id]["inputs"]["faces"]}}
    for id in codes:
        graph[id] = {"class_type": "Shot_Code", "inputs": {"name": f"{CODE}{id}"}}
    return graph


def own_nodes(now: Now) -> list[type[io.ComfyNode]]:
    """All nodes that the graphs need, those of the pack too. The ones that are only here give what is in ``now``, or put it there."""
    return [*NODES, *_giving(now), *_reading(now)]


def _schema(name: str, inputs: list[io.Input], outputs: list[io.Output], output_node: bool = False) -> io.Schema:
    return io.Schema(node_id=f"Shot_{name}", inputs=inputs, outputs=outputs, is_output_node=output_node)


def _giving(now: Now) -> list[type[io.ComfyNode]]:
    """In place of nodes that would decide anew."""

    class ShotFrame(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _schema("Frame", [], [io.Image.Output(), io.Mask.Output()])

        @classmethod
        def execute(cls) -> io.NodeOutput:
            return io.NodeOutput(now.frame, torch.zeros(1, 64, 64))

    class ShotFaces(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            inputs = [io.Image.Input("image"), io.String.Input("alignment")]
            return _schema("Faces", inputs, [sockets.Faces.Output(), io.String.Output()])

        @classmethod
        def execute(cls, image: torch.Tensor, alignment: str) -> io.NodeOutput:
            photo = to_photos(image)[0]
            frame = tuple(extract_face(photo, detection, alignment) for detection, _ in now.faces)
            return io.NodeOutput(Faces((frame,), (photo.shape[-2], photo.shape[-1])), "")

    class ShotPeople(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _schema("People", [sockets.Faces.Input("faces")], [sockets.Faces.Output(), io.String.Output()])

        @classmethod
        def execute(cls, faces: Faces) -> io.NodeOutput:
            people = iter(now.faces)
            return io.NodeOutput(faces.map(lambda face: replace(face, **vars(next(people)[1]))), "")

    class ShotCode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _schema("Code", [io.String.Input("name")], [sockets.Code.Output()])

        @classmethod
        def execute(cls, name: str) -> io.NodeOutput:
            return io.NodeOutput(now.codes[name])

    return [ShotFrame, ShotFaces, ShotPeople, ShotCode]


def _reading(now: Now) -> list[type[io.ComfyNode]]:
    """For the first look."""

    class ShotPairs(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _schema(
                "Pairs", [io.Image.Input("image"), sockets.Faces.Input("faces")], [sockets.FacePair.Output()]
            )

        @classmethod
        def execute(cls, image: torch.Tensor, faces: Faces) -> io.NodeOutput:
            photo = to_photos(image)[0]
            return io.NodeOutput(FacePairs(tuple(face_pair(photo, face) for face in faces.frames[0]) or (None,)))

    class ShotTake(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return _schema("Take", [io.String.Input("name"), io.AnyType.Input("value")], [], output_node=True)

        @classmethod
        def execute(cls, name: str, value: Any) -> io.NodeOutput:
            now.taken[name] = value
            return io.NodeOutput()

    return [ShotPairs, ShotTake]

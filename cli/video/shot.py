"""One shot: looked at first, to decide who is in it, where their faces are and how it was damaged; then restored, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...lib.bridge import weight_folders
from ...lib.degradation.shot import MeanCode
from ...lib.faces.detection import Detection
from ...lib.faces.embed import best_embedder
from ...lib.faces.match import Match, looks_of, similarity_to_people
from ...lib.faces.track import Sighting, Track, Tracker, identities, lasting, placed
from ...lib.standin.graph import Graph
from ...lib.standin.runner import Kept, run_graph
from ...lib.vocabulary import DegradationCode, Face, Library
from .graph import CODE, Graphs, Now, own_nodes
from .source import Frame

EVERY = 5  # of so many frames, the damage is read off the first: it is that of the shot


@dataclass(frozen=True)
class Plan:
    """count: frames; faces: per frame, detections and who they are; codes: by name; tracks: for the report."""

    count: int
    faces: list[list[tuple[Detection, Match]]] = field(default_factory=list)
    codes: dict[str, DegradationCode | None] = field(default_factory=dict)
    tracks: list[dict[str, Any]] = field(default_factory=list)


class Shots:
    """Restores shots by a workflow. What does not depend on the frame, such as album and networks, is made once."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs, self._now = graphs, Now()
        self._nodes = own_nodes(self._now)
        self._kept = Kept(graphs.changing)

    def look(self, frames: Iterator[Frame]) -> Plan:
        """Goes through the frames once, and keeps none of them."""
        embedder = best_embedder(weight_folders("personal_restore"))
        tracker, means, library = Tracker(embedder), dict[str, MeanCode](), Library()
        for number, frame in enumerate(frames):
            taken = self._run(self._graphs.look if number % EVERY else self._graphs.read, frame)
            library = taken.get("library", library)
            faces: tuple[Face, ...] = taken["faces"].frames[0] if "faces" in taken else ()
            seen = []
            for face in faces:
                detection = Detection(face.box, face.landmarks, face.score)
                seen.append(Sighting(detection, looks_of(face, embedder)))
            tracker.add(seen)
            for name in filter(lambda name: name.startswith(CODE), taken):
                mean = means.setdefault(name, MeanCode())
                if taken[name] is not None:
                    mean.add(taken[name])
        tracks = lasting(tracker.tracks, tracker.frames)
        people = [person.name for person in library.people]
        similarity = [similarity_to_people(track.looks, library, embedder) for track in tracks]
        threshold = self._graphs.threshold or embedder.threshold
        found = identities(
            tracks, np.array(similarity).reshape(len(tracks), len(people)), people, threshold, embedder.sure
        )
        return _plan(tracker.frames, tracks, found, {name: mean.code for name, mean in means.items()})

    def restore(self, frames: Iterator[Frame], plan: Plan) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Every frame with its result, IMAGE ``[1, h, w, 3]``."""
        self._now.codes = plan.codes
        for frame, faces in zip(frames, plan.faces, strict=True):
            self._now.faces = faces
            yield frame, self._run(self._graphs.finish, frame)["result"]

    def alone(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Every frame as a photograph of its own."""
        for frame in frames:
            yield frame, self._run(self._graphs.alone, frame)["result"]

    def _run(self, graph: Graph, frame: Frame) -> dict[str, Any]:
        self._now.frame, self._now.taken = frame.image, {}
        if graph:  # without faces or codes in the workflow there is nothing to look for
            run_graph(graph, self._nodes, kept=self._kept)
        return self._now.taken


def _plan(count: int, tracks: list[Track], found: list[Match], codes: dict[str, DegradationCode | None]) -> Plan:
    faces: list[list[tuple[Detection, Match]]] = [[] for _ in range(count)]
    told = []
    for track, match in zip(tracks, found, strict=True):
        first, detections = placed(track)
        for number, detection in enumerate(detections, first):
            faces[number].append((detection, match))
        filled = len(detections) - len(track.frames)
        told.append(vars(match) | {"first": first, "frames": len(detections), "filled": filled})
    return Plan(count, faces, codes, told)

"""Figures of one checkout, measured inside a process of its own: ``python speed_figures.py CHECKOUT FIGURE``.

It is run in older checkouts as well, so that it only asks them for what they have always had. Prints one JSON object. Seconds are
of processor time, because other programs on the machine do not count in that.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

Figures = dict[str, float]
SIDE = 1024  # of the scene
FACES, ALBUM = 30, 10
FACE_NODES = "PR_DetectFaces", "PR_RestoreFaces", "PR_MatchFaces", "PR_FacePair", "PR_BlendFaces"
GROUPS, CROP, STEPS = 8, 128, 4  # of a training step: two faces a group


def _timed(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def import_costs() -> Figures:
    """From the start of the interpreter until every node is there, and how much of it is PyTorch's."""
    import torch  # noqa: F401

    own = time.process_time()
    import personal_restore.cli.main
    import personal_restore.nodes  # noqa: F401

    return {"imports_s": time.process_time(), "imports_beside_torch_s": time.process_time() - own}


def scene_costs() -> Figures:
    """The embedded scene restorer, the second time, and what the process has needed of memory."""
    import torch
    from personal_restore.lib.bridge import keep
    from personal_restore.lib.vocabulary import Conditions
    from personal_restore.models.embedded import ready

    restorer = ready.restorer(keep)
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        restorer.restore(picture, Conditions())
        seconds = _timed(lambda: restorer.restore(picture, Conditions()))
    return {"scene_s": seconds, **_memory("scene_memory_gb")}


def _memory(name: str) -> Figures:
    """The most that the process has taken so far."""
    try:
        import resource
    except ImportError:  # Windows
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {name: peak / 1e9}


def detection_costs() -> Figures:
    """A photograph with many faces, and one of the same size with one face."""
    import torch
    from personal_restore.lib import samples
    from personal_restore.lib.faces.detect import detect_faces

    face = samples.photograph()[0, :, :256, 96:352]
    one = torch.full((3, 5 * 256, 6 * 256), 0.5)
    one[:, :256, :256] = face
    many = face.repeat(1, 5, 6)
    found = len(detect_faces(many))
    if found != FACES:
        raise SystemExit(f"{found} faces were found instead of {FACES}.")
    return {
        "detect_one_face_s": _timed(lambda: detect_faces(one)),
        "detect_30_faces_s": _timed(lambda: detect_faces(many)),
    }


def faces_costs() -> Figures:
    """What face2scene does with the faces of a photograph, from finding to blending: 30 of them and one, in photographs of one size.

    Everybody is known and has an album of their own, whose pictures have not been used yet. The scene is not restored.
    """
    import tempfile

    from personal_restore.lib.standin.host import folders

    with tempfile.TemporaryDirectory() as folder:
        folders.output = Path(folder)
        _faces_cost(1)  # everything is loaded
        return {"one_face_s": _faces_cost(1), "30_faces_s": _faces_cost(FACES)}


def _faces_cost(count: int) -> float:
    import torch
    from personal_restore.lib import samples
    from personal_restore.lib.degradation.families import FAMILIES
    from personal_restore.lib.standin.runner import run_graph
    from personal_restore.lib.vocabulary import Library, Person
    from personal_restore.nodes import NODES, sources

    photo = torch.full((1, 3, 5 * 256, 6 * 256), 0.5)
    for number in range(count):
        top, left = number // 6 * 256, number % 6 * 256
        photo[..., top : top + 256, left : left + 256] = samples.photograph()[..., :256, 96:352]
    photo = FAMILIES["trial"](14).apply(photo)
    album = sources.sample_library()
    references = album.people[0].references
    people = [Person(str(n), tuple(replace(one, crop=one.crop.clone()) for one in references)) for n in range(count)]

    seconds, before = 0.0, ("", 0.0)

    def on_node(name: str, index: int, total: int) -> None:
        nonlocal seconds, before
        now = time.process_time()
        if before[0] in FACE_NODES:
            seconds += now - before[1]
        before = name, now

    given_node = _given(photo.movedim(1, -1), Library(tuple(people), album.embedder))
    run_graph(_faces_graph(), [*NODES, given_node], on_node=on_node)
    return seconds


def _faces_graph() -> dict[str, Any]:
    """What leads to the result of face2scene, with the node "Given" as its photograph and album, and every scene left as it is."""
    from personal_restore.lib.standin.graph import links, load_graph

    graph = load_graph(Path(sys.path[0]) / "workflows" / "api" / "face2scene.json")
    place = {node["class_type"]: id for id, node in graph.items()}
    given = {place["PR_LoadPhotograph"]: ["given", 0], place["PR_LoadLibrary"]: ["given", 1]}
    wanted, found = {"given": {"class_type": "Given", "inputs": {}}}, [place["SaveImage"]]
    while found:
        node = graph[id := found.pop()]
        inputs = {
            name: given.get(value[0], value) if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        if node["class_type"] == "PR_RestoreScene":
            inputs["strength"] = 0.0
        if node["class_type"] == "PR_MatchFaces":
            del inputs["image"]  # which is only for its widget
        wanted[id] = {"class_type": node["class_type"], "inputs": inputs, "_meta": {"title": node["class_type"]}}
        found += [link[0] for link in links(wanted[id]).values() if link[0] not in wanted]
    return wanted


def _given(photo: Any, library: Any) -> type:
    """A node that gives a photograph and a library."""
    from personal_restore.lib.bridge import io
    from personal_restore.nodes import sockets

    class Given(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            outputs = [io.Image.Output(display_name="photograph"), sockets.Library.Output(display_name="library")]
            return io.Schema(node_id="Given", display_name="Given", category="test", inputs=[], outputs=outputs)

        @classmethod
        def execute(cls):
            return io.NodeOutput(photo, library)

    return Given


def album_costs() -> Figures:
    """An album of portraits, per picture of one megapixel and of twelve."""
    import tempfile

    import torch
    from personal_restore.lib import samples
    from personal_restore.lib.faces.detect import get_detector
    from personal_restore.lib.faces.embed import best_embedder
    from personal_restore.lib.faces.library import load_library
    from personal_restore.lib.pictures.files import to_pil

    embedder, figures = best_embedder(), {}
    get_detector()
    for name, part, side in (("album_picture_s", 512, 1024), ("album_12_megapixels_s", 320, 3464)):
        portrait = samples.photograph()[:, :, :part, (512 - part) // 2 :][..., :part]
        photo = torch.nn.functional.interpolate(portrait, size=(side, side), mode="bicubic").clamp(0, 1)[0]
        with tempfile.TemporaryDirectory() as folder:
            for number in range(ALBUM):
                to_pil(photo[:, number:, number:]).save(Path(folder) / f"{number}.jpg", quality=95)
            figures[name] = _timed(lambda folder=folder: load_library(folder, embedder)) / ALBUM
    return {**figures, "saved_300_pictures_s": _saved_library_cost(photo)}


def _saved_library_cost(photo: Any) -> float:
    """A library of 30 people with 10 pictures each, from its file."""
    import tempfile

    import numpy as np
    from personal_restore.lib.storage.libraries import load_library_file, save_library
    from personal_restore.lib.vocabulary import Library, Person, Reference

    crop = photo[:, :512, :512].clamp(0, 1).contiguous()
    album = tuple(Reference(f"{n}.jpg", crop, np.zeros((5, 2)), np.ones(128, np.float32)) for n in range(10))
    with tempfile.TemporaryDirectory() as folder:
        save_library(Library(tuple(Person(str(n), album) for n in range(30)), "dlib"), Path(folder), "saved")
        return _timed(lambda: load_library_file(Path(folder), "saved"))


def training_costs() -> Figures:
    """A step of ``train guided``, in the mean over its schedule, without drawing, for which there is a worker."""
    import torch
    from personal_restore.models.embedded import weights
    from personal_restore.training.restorer import GuidedLoss
    from personal_restore.training.stages import Config

    net, extractor = weights.load_embedded(weights.RESTORER)[0], weights.load_embedded(weights.EXTRACTOR)[0]
    for network in (net, extractor):
        network.to(memory_format=torch.channels_last)
    loss = GuidedLoss(net.requires_grad_(True), extractor.mapnet.requires_grad_(True), extractor.fadex)
    halved = getattr(Config(), "halved", 0.0)  # older checkouts have no such steps

    def step(side: int, seed: int) -> None:
        torch.manual_seed(seed)  # of the windows, of which every checkout draws the same
        batch = {name: torch.rand(GROUPS, 2, 3, side, side) for name in ("clean", "damaged")}
        with torch.autocast("cpu", torch.bfloat16):
            terms = loss(batch)
        terms["loss"].backward()
        loss.zero_grad(set_to_none=True)

    def cost(side: int) -> float:
        step(side, 0)
        return _timed(lambda: [step(side, seed) for seed in range(STEPS)]) / STEPS

    seconds = cost(CROP)
    if halved:
        seconds = (1 - halved) * seconds + halved * cost(CROP // 2)
    return {"training_step_s": seconds, **_memory("training_memory_gb")}


FIGURES = {
    "imports": import_costs,
    "scene": scene_costs,
    "detection": detection_costs,
    "faces": faces_costs,
    "album": album_costs,
    "training": training_costs,
}

if __name__ == "__main__":
    checkout, wanted = sys.argv[1:]
    sys.path[:1] = [checkout]  # instead of this file's folder
    import run

    run.load_package()
    print(json.dumps(FIGURES[wanted]()))

"""Figures of one checkout, measured inside a process of its own: ``python speed_figures.py CHECKOUT FIGURE``.

It is run in older checkouts as well, so that it only asks them for what they have always had. Prints one JSON object. Seconds are
of processor time, because other programs on the machine do not count in that.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Figures = dict[str, float]
SIDE = 1024  # of the scene
FACES, ALBUM = 30, 10
GROUPS, CROP = 8, 128  # of a training step: two faces a group


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
    return {"scene_s": seconds, **_memory()}


def _memory() -> Figures:
    try:
        import resource
    except ImportError:  # Windows
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"scene_memory_gb": peak / 1e9}


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


def album_costs() -> Figures:
    """An album of portraits, per picture."""
    import tempfile

    import torch
    from personal_restore.lib import samples
    from personal_restore.lib.faces.embed import best_embedder
    from personal_restore.lib.faces.library import load_library
    from personal_restore.lib.pictures.files import to_pil

    photo = torch.nn.functional.interpolate(samples.photograph(), scale_factor=2.0, mode="bicubic").clamp(0, 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ALBUM):
            to_pil(photo[:, number:, number:]).save(Path(folder) / f"{number}.jpg", quality=95)
        embedder = best_embedder()
        return {"album_picture_s": _timed(lambda: load_library(folder, embedder)) / ALBUM}


def training_costs() -> Figures:
    """A step of ``train guided``, the second one."""
    import torch
    from personal_restore.models.embedded import weights
    from personal_restore.training.restorer import GuidedLoss

    net, extractor = weights.load_embedded(weights.RESTORER)[0], weights.load_embedded(weights.EXTRACTOR)[0]
    loss = GuidedLoss(net.requires_grad_(True), extractor.mapnet.requires_grad_(True), extractor.fadex)
    batch = {name: torch.rand(GROUPS, 2, 3, CROP, CROP) for name in ("clean", "damaged")}

    def step() -> None:
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            terms = loss(batch)
        terms["loss"].backward()
        loss.zero_grad(set_to_none=True)

    step()
    return {"training_step_s": _timed(step)}


FIGURES = {
    "imports": import_costs,
    "scene": scene_costs,
    "detection": detection_costs,
    "album": album_costs,
    "training": training_costs,
}

if __name__ == "__main__":
    checkout, wanted = sys.argv[1:]
    sys.path[:1] = [checkout]  # instead of this file's folder
    import run

    run.load_package()
    print(json.dumps(FIGURES[wanted]()))

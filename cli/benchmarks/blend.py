"""Time, memory and seams of blending: ``python run.py bench blend``.

Eight faces of 200 px are blended into photographs of 2 to 24 megapixels. The one copy of the photograph is measured apart and
subtracted; what is left should not grow. The seam is read from the sample group, restored as in ``perfuse``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...lib import samples
from ...lib.degradation.families import FAMILIES
from ...lib.faces.detect import detect_faces, make_face
from ...lib.fusion.blend import Patch, blend_faces
from ...lib.fusion.compose import compose_faces
from ...lib.fusion.mask import face_mask, region_mask
from ...lib.restoring.apply import restore_faces, restore_scene
from ...lib.vocabulary import Conditions, Face, Faces, Library, Similarity
from ...models.embedded import ready as embedded
from .quality import keep

SIZES = ((1200, 1680), (2000, 3000), (3000, 4000), (4000, 6000))
FACES, SIDE, REPEATS = 8, 200, 9
SEAM = 3  # pixels on either side of a mask's border


def bench() -> dict:
    """Times in milliseconds of processor time, full-size pictures held, ratios of seam energy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # whatever else runs on the machine disturbs one thread least
    try:
        rows = [measure_blend(*size) for size in SIZES]
    finally:
        torch.set_num_threads(threads)
    return {"sizes": rows, "seam": seam()}


def measure_blend(height: int, width: int) -> dict[str, float]:
    """The same eight faces in a photograph of this size."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, height, width, generator=generator)
    corners = [((n % 4) * width // 4 + 50, (n // 4) * height // 2 + 50) for n in range(FACES)]
    regions = [torch.rand(3, SIDE, SIDE, generator=generator) for _ in corners]
    ones, mask = torch.ones(1, SIDE, SIDE), face_mask(SIDE)
    boxes = [(x, y, x + SIDE, y + SIDE) for x, y in corners]
    patches = [Patch(region, mask, ones, box) for region, box in zip(regions, boxes, strict=True)]
    out = torch.empty_like(photo[0])
    copy, blend = fastest(lambda: out.copy_(photo[0]), partial(blend_faces, photo[0], patches, out=out))
    faces = [
        Face(box, np.zeros((5, 2)), 1.0, _at(box), region, ones, restored=region)
        for region, box in zip(regions, boxes, strict=True)
    ]
    with FullSize(photo.numel()) as held:
        compose_faces(photo, Faces((tuple(faces),), (height, width)))
    return {
        "megapixels": height * width / 1e6,
        "copy": copy,
        "blend": blend,
        "rest": blend - copy,
        "held": 1 + held.most,
    }


def _at(box: tuple[int, int, int, int]) -> Similarity:
    return Similarity(np.array([[1.0, 0, -box[0]], [0, 1, -box[1]]]), SIDE)


def fastest(*jobs: Callable[[], object]) -> list[float]:
    """Milliseconds of processor time of each job's quickest run; they take turns: other load disturbs all alike."""
    times = [[] for _ in jobs]
    for _ in range(REPEATS):
        for job, spent in zip(jobs, times, strict=True):
            start = time.process_time()
            job()
            spent.append((time.process_time() - start) * 1e3)
    return [min(spent) for spent in times]


class FullSize(TorchDispatchMode):
    """Counts the tensors of at least so many numbers that were made in it: an upper bound of those held at once."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.storages = numbers, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {_storage(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.untyped_storage().nbytes() >= 4 * self.numbers:
                self.storages |= {_storage(one)} - given
        return result

    @property
    def most(self) -> int:
        return len(self.storages)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def seam() -> dict[str, float]:
    """Energy of the luminance's gradient along the masks' borders, of the blended picture over that of its target.

    For the oval and the regions, with a hard-edged crop without context as the bad example.
    """
    general = embedded.restorer(keep)
    damaged = FAMILIES["trial"](5).apply(samples.group())
    target = restore_scene(damaged, general, Conditions())
    frame = tuple(make_face(damaged[0], found) for found in detect_faces(target[0]))
    faces = restore_faces(damaged, Faces((frame,), damaged.shape[-2:]), general, Library())
    ratios = {}
    for name, region, context in (
        ("oval", None, "target"),
        ("face", "face", "target"),
        ("head", "head", "target"),
        ("crop", "crop", "target"),
        ("crop, context off", "crop", "off"),
    ):
        masked = faces if region is None else faces.map(lambda face, r=region: replace(face, mask=region_mask(face, r)))
        out, used = compose_faces(target, masked, context=context)
        border = dilated(used > 0.02) & dilated(used <= 0.02)
        ratios[name] = round(float(energy(out)[border].mean() / energy(target)[border].mean()), 3)
    return ratios


def dilated(inside: torch.Tensor) -> torch.Tensor:
    """``[1, H, W]`` of truth values, SEAM pixels more on every side."""
    return F.max_pool2d(inside.float()[None], 2 * SEAM + 1, 1, SEAM)[0] > 0


def energy(picture: torch.Tensor) -> torch.Tensor:
    """Squared gradient ``[1, H, W]`` of the luminance of ``[1, 3, H, W]``."""
    grey = F.pad(picture.mean(1, keepdim=True), (0, 1, 0, 1), mode="replicate")[0]
    return (grey[:, :-1, 1:] - grey[:, :-1, :-1]).square() + (grey[:, 1:, :-1] - grey[:, :-1, :-1]).square()


def table(figures: dict) -> str:
    """The human-readable table."""
    lines = ["megapixels   copy ms   blend ms   blend - copy ms   ratio   full-size pictures held"]
    first = figures["sizes"][0]["rest"]
    for row in figures["sizes"]:
        lines.append(
            f"{row['megapixels']:10.1f}{row['copy']:10.1f}{row['blend']:11.1f}{row['rest']:18.1f}{row['rest'] / first:8.2f}"
            f"{row['held']:15}"
        )
    lines.append("Gradient energy at the masks' borders, blended over target:")
    return "\n".join([*lines, *(f"  {name:20}{ratio:8.3f}" for name, ratio in figures["seam"].items())])

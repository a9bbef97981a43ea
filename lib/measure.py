"""The papers' measures of a result: against the truth or alone, of whole pictures or of their faces, as a table, CSV and JSON.

Face2Scene (Tables 1 to 3) reports PSNR, SSIM, LPIPS, DISTS, FID, NIQE, MUSIQ, MANIQA, CLIP-IQA, LIQE, TOPIQ and the identity; PFStorer and
Dual-Pivot Tuning the identity and landmarks as well. A measure that cannot be computed stays empty and says why.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from .faces.detect import Folders, detect_faces, make_face
from .faces.embed import DLIB_NORM, by_name
from .pictures.metrics import psnr, ssim
from .vocabulary import Face, UserError

FACES = ("identity_arcface", "identity_dlib", "landmarks")
FURTHEST = 0.5  # of the true face's width: how far the same face's middle may have moved


@dataclass(frozen=True)
class Metric:
    """load() returns what scores ``[3, H, W]``, or two of them, the truth last, or raises UserError with the reason why not.

    reference: it needs the truth; better: "higher" or "lower".
    """

    load: Callable[[], Callable[..., float]]
    reference: bool
    better: str


EXACT = {
    "psnr": Metric(lambda: partial(psnr, epsilon=1e-10), True, "higher"),
    "ssim": Metric(lambda: ssim, True, "higher"),
}


@dataclass
class Measures:
    """rows: what was measured of each picture or face, by its name; missing: why a measure is empty, for all rows; better: by measure."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Of every measure that at least one row has."""
        found = {name: [row[name] for row in self.rows.values() if name in row] for name in self.better}
        return {name: float(np.mean(values)) for name, values in found.items() if values}

    def table(self) -> str:
        """For people: a line for each row, the means below, and what is missing."""
        arrow = {"higher": "+", "lower": "-"}
        names = [name for name in self.better if name not in self.missing]
        lines = [["", *(f"{name} {arrow[self.better[name]]}" for name in names)]]
        for title, row in [*self.rows.items(), ("mean", self.means())]:
            lines.append([title, *(f"{row[name]:.4g}" if name in row else "" for name in names)])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        shown = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        reasons = {why: [name for name in self.missing if self.missing[name] == why] for why in self.missing.values()}
        notes = [f"Not computed: {', '.join(names)}. {why}" for why, names in reasons.items()]
        return "\n".join([*shown, "+ higher is better, - lower is better", *notes])

    def to_csv(self) -> str:
        """One line for each row, one column for each measure, empty where there is no value."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["", *self.better])
        for title, row in self.rows.items():
            writer.writerow([title, *(row.get(name, "") for name in self.better)])
        return out.getvalue()

    def to_json(self) -> str:
        """``rows``, ``mean``, ``missing`` and ``better``; a value that is missing is null."""
        rows = {title: {name: row.get(name) for name in self.better} for title, row in self.rows.items()}
        mean = {name: self.means().get(name) for name in self.better}
        return json.dumps(
            {"rows": rows, "mean": mean, "missing": self.missing, "better": self.better}, indent=2, ensure_ascii=False
        )


def measure_pictures(
    results: Mapping[str, torch.Tensor],
    truths: Mapping[str, torch.Tensor],
    metrics: Mapping[str, Metric],
    wanted: Sequence[str] = (),
    faces_only: bool = False,
    folders: Folders = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measures:
    """Measures pictures ``[3, H, W]`` in 0..1, each against the truth of the same name, where there is one.

    metrics: by name, beside those of `EXACT` and `FACES`; wanted: names, or all of them. faces_only: every face of the truth, or of the
    result without one, is cut out by its box and measured instead of the picture. folders: where face models are looked for.
    Raises UserError for a name that is no measure, and for a truth of another size.
    """
    known = EXACT | dict(metrics)
    names = list(wanted) or [*known, *FACES]
    if wrong := [name for name in names if name not in known and name not in FACES]:
        raise UserError(f"Measure: there is no measure {wrong[0]!r}. Known: {', '.join([*known, *FACES])}.")
    found = Measures(better={name: known[name].better if name in known else "lower" for name in names})
    for name, picture in results.items():
        truth = truths.get(name)
        if truth is not None and truth.shape != picture.shape:
            sizes = [f"{one.shape[-1]}x{one.shape[-2]}" for one in (picture, truth)]
            raise UserError(f"Measure: {name} is {sizes[0]} px, but its truth is {sizes[1]} px. Scale one of them.")
    scorers = _loaded(known, names, bool(truths), found)
    seen = any(name in FACES and name not in found.missing for name in names)
    for number, (name, picture) in enumerate(results.items()):
        truth = truths.get(name)
        pairs = _paired(picture, truth, folders) if seen or faces_only else []
        views = _face_views(name, picture, truth, pairs) if faces_only else {name: (picture, truth)}
        found.rows |= {title: _scores(scorers, known, *view) for title, view in views.items()}
        _add_faces(found, names, pairs, list(views) if faces_only else [name] * len(pairs), folders)
        progress(number + 1, len(results))
    for name in set(names) & set(FACES) - found.missing.keys():
        if not any(name in row for row in found.rows.values()):
            found.missing[name] = "No face was found in both the result and the truth."
    return found


def _loaded(
    known: Mapping[str, Metric], names: Sequence[str], truth: bool, found: Measures
) -> dict[str, Callable[..., float]]:
    scorers = {}
    for name in names:
        if (name in FACES or known[name].reference) and not truth:
            found.missing[name] = "It compares with the truth, and there is none."
        elif name in known:
            try:
                scorers[name] = known[name].load()
            except UserError as error:
                found.missing[name] = str(error)
    return scorers


def _scores(
    scorers: Mapping[str, Callable[..., float]],
    known: Mapping[str, Metric],
    picture: torch.Tensor,
    truth: torch.Tensor | None,
) -> dict[str, float]:
    return {
        name: score(picture, truth) if known[name].reference else score(picture)
        for name, score in scorers.items()
        if truth is not None or not known[name].reference
    }


Pair = tuple[Face | None, Face | None]  # the same face in the result and in the truth


def _paired(picture: torch.Tensor, truth: torch.Tensor | None, folders: Folders) -> list[Pair]:
    """Every face of the truth with that of the result that is nearest to it; without a truth, the faces of the result."""
    own = [make_face(picture, one) for one in detect_faces(picture, model_folder=folders)]
    if truth is None:
        return [(face, None) for face in own]
    true = [make_face(truth, one) for one in detect_faces(truth, model_folder=folders)]
    if not own or not true:
        return [(None, face) for face in true]
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    middles = [np.array([face.landmarks.mean(0) for face in faces]) for faces in (true, own)]
    distance = np.linalg.norm(middles[0][:, None] - middles[1][None], axis=-1)
    distance /= np.array([face.box[2] - face.box[0] for face in true])[:, None]
    partner = {i: own[j] for i, j in zip(*linear_sum_assignment(distance), strict=True) if distance[i, j] < FURTHEST}
    return [(partner.get(i), face) for i, face in enumerate(true)]


def _face_views(
    name: str, picture: torch.Tensor, truth: torch.Tensor | None, pairs: Sequence[Pair]
) -> dict[str, tuple[torch.Tensor, torch.Tensor | None]]:
    """Of each face: the box of the true one, or of its own, cut out of both pictures."""
    views = {}
    for number, pair in enumerate(pairs):
        face = pair[1] or pair[0]
        assert face is not None
        x0, y0, x1, y1 = (max(round(side), 0) for side in face.box)
        cut = picture[:, y0:y1, x0:x1], None if truth is None else truth[:, y0:y1, x0:x1]
        views[f"{name}, face {number}"] = cut
    return views


def _add_faces(
    found: Measures, names: Sequence[str], pairs: Sequence[Pair], titles: Sequence[str], folders: Folders
) -> None:
    """The identity distance and the landmark error of each pair; in a row of several faces, their mean."""
    compared = [(title, own, true) for title, (own, true) in zip(titles, pairs, strict=True) if own and true]
    for name in [name for name in names if name in FACES and name not in found.missing]:
        try:
            values = [(title, face_error(name, own, true, folders)) for title, own, true in compared]
        except UserError as error:
            found.missing[name] = str(error)
            continue
        for title in dict.fromkeys(title for title, _ in values):
            found.rows[title][name] = float(np.mean([value for other, value in values if other == title]))


def face_error(name: str, own: Face, true: Face, folders: Folders = None) -> float:
    """One of `FACES`. Raises UserError if the network it needs is missing.

    identity_arcface: 1 - cosine of the embeddings; identity_dlib: Euclidean distance of the descriptors, 0.6 is dlib's limit of the
    same person; landmarks: mean distance of the five points, in percent of the true eyes' distance.
    """
    if name == "landmarks":
        eyes = np.linalg.norm(true.landmarks[0] - true.landmarks[1])
        return float(100 * np.linalg.norm(own.landmarks - true.landmarks, axis=1).mean() / eyes)
    embedder = by_name(name.removeprefix("identity_"), folders)
    cosine = float(embedder.embed(own.crop) @ embedder.embed(true.crop))
    return 1 - cosine if embedder.name == "arcface" else DLIB_NORM * float(np.sqrt(max(2 - 2 * cosine, 0)))

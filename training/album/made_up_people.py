"""People who do not exist: convex combinations of the London set, the same in a neutral and a smiling photograph.

Face Research Lab London Set (DeBruine and Jones 2017, doi 10.6084/m9.figshare.5047666, CC BY 4.0), folders
``neutral_front`` and ``smiling_front`` of ``debruine/webmorphR.stim``. Shape (189 points) and texture (piecewise-affine
warps) are combined with the same weights in both expressions; hair and outline come from the person with the most weight.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ...lib.faces.align import align, moved, take_crop
from ...lib.vocabulary import Similarity, UserError
from . import face_points, photographs, piecewise

EXPRESSIONS = {"neutral": ("neutral_front", "_03"), "smiling": ("smiling_front", "_08")}
SIZE = 384
FINER = 1.25  # the combination is made at this multiple of SIZE
MARGIN = 0.12  # of the crop's side, on each side, so that warps find pixels beyond the crop
OVAL_SHRINK = 0.07
OVAL_BLUR = 0.012  # sigma as a share of the frame
DETAIL_SIGMA, DETAIL_WINDOW, MOST_DETAIL = 1.7, 6.5, 1.7  # px, px, factor
COARSER = 4  # smooth fields are computed on every fourth pixel
SKIN_SPREAD = 11.0  # CIELAB: how far from the cheek's color something still counts as skin

Mesh = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sources:
    """The set in one frame: names; pictures[expression] uint8 ``[P, S, S, 3]``; points[expression] ``[P, 189, 2]``."""

    names: list[str]
    pictures: dict[str, np.ndarray]
    points: dict[str, np.ndarray]


def frame_size() -> int:
    """Side in pixels of the frame in which people are combined: the crop, finer, with its margin."""
    return round(SIZE * FINER * (1 + 2 * MARGIN))


def read_people(london: Path, mesh: Mesh | None = None) -> Sources:
    """Everyone of the set who is in both folders, aligned by five points.

    mesh: uint8 ``[H, W, 3]`` RGB to MediaPipe's 468 points ``[468, 2]`` in its pixels; needed where a ``.tem`` is missing.
    """
    folder = london / "inst" if (london / "inst").is_dir() else london
    first, second = (folder / name for name, _ in EXPRESSIONS.values())
    stems = [path.stem[:3] for path in sorted(first.glob("[0-9]*_03.jpg"))]
    names = [name for name in stems if (second / f"{name}_08.jpg").is_file()]
    if not names:
        raise UserError(f"{london} has no neutral_front and smiling_front with photographs of the London set.")
    found = {expression: ([], []) for expression in EXPRESSIONS}
    for name in tqdm(names, desc="London set", disable=None):
        for expression, (picture, points) in _read_person(folder, name, mesh).items():
            found[expression][0].append(picture)
            found[expression][1].append(points)
    pictures = {expression: np.stack(values[0]) for expression, values in found.items()}
    return Sources(names, pictures, {expression: np.stack(values[1]) for expression, values in found.items()})


def _read_person(folder: Path, name: str, mesh: Mesh | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    paths = {expression: folder / place / f"{name}{end}.jpg" for expression, (place, end) in EXPRESSIONS.items()}
    pictures = {expression: photographs.read_photograph(path) for expression, path in paths.items()}
    neutral = face_points.read_tem(paths["neutral"].with_suffix(".tem"))
    if paths["smiling"].with_suffix(".tem").is_file():
        smiling = face_points.read_tem(paths["smiling"].with_suffix(".tem"))
    elif mesh is None:
        raise UserError(f"{paths['smiling']} has no .tem file of points, and no face mesh was given to find them with.")
    else:
        smiling = face_points.carried(neutral, mesh(pictures["neutral"]), mesh(pictures["smiling"]))
    points = {"neutral": neutral, "smiling": smiling}
    return {expression: _framed(pictures[expression], points[expression]) for expression in EXPRESSIONS}


def _framed(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photograph and its points in the common frame."""
    inner = round(SIZE * FINER)
    matrix = align(face_points.five_of_189(points), inner).matrix.copy()
    matrix[:, 2] += (frame_size() - inner) / 2
    crop, _ = take_crop(photographs.to_tensor(picture), Similarity(matrix, frame_size()))
    return photographs.to_bytes(crop), moved(points, matrix)


def draw_weights(people: int, count: int, seed: int) -> np.ndarray:
    """float64 ``[people + count, people]``, rows sum to 1: first everyone as they are, then ``count`` combinations.

    Two or three people each, nobody more than three quarters. A row depends on the seed and its own number only.
    """
    rows = [np.eye(people)]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        members = rng.choice(people, size=min(people, int(rng.integers(2, 4))), replace=False)
        shares = rng.dirichlet(np.full(len(members), 2.0))
        excess = max(0.0, shares.max() - 0.75) if len(members) > 1 else 0.0
        largest = shares.argmax()
        shares += excess / max(1, len(members) - 1)
        shares[largest] -= excess * len(members) / max(1, len(members) - 1)
        row = np.zeros((1, people))
        row[0, members] = shares
        rows.append(row)
    return np.concatenate(rows)


def combined(
    sources: Sources, expression: str, weights: np.ndarray, triangulation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One person in one expression: float32 ``[S, S, 3]`` in 0..255 in the frame, and the points ``[189, 2]``.

    weights: ``[P]``, summing to 1; triangulation: of the mean shape and the border, see ``mean_triangles``.
    """
    members = np.flatnonzero(weights)
    size = sources.pictures[expression].shape[1]
    shape = np.tensordot(weights[members], sources.points[expression][members], 1)
    border = piecewise.border_points(size)
    target = np.concatenate([shape, border])
    warped = []
    for member in members:
        picture = sources.pictures[expression][member].astype(np.float32)
        source = np.concatenate([sources.points[expression][member], border])
        warped.append(piecewise.sample_bicubic(picture, piecewise.sampling_map(source, target, triangulation, size)))
    if len(members) == 1:
        return warped[0], shape
    shares, donor = weights[members].astype(np.float32), int(weights[members].argmax())
    mask = _filled(face_points.face_oval(shape, OVAL_SHRINK), size, OVAL_BLUR)
    warped, likeness = _of_one_skin(warped, shares, mask)
    forehead = _filled(shape[face_points.FOREHEAD], size, 2 * OVAL_BLUR)
    face = with_detail(warped, _local_shares(shares, likeness, forehead, donor))
    return piecewise.pyramid_blend(face, warped[donor], mask).clip(0, 255), shape


def with_detail(pictures: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """The mean of pictures ``[S, S, 3]`` weighted by ``shares`` ``[K, S, S]``; its finest band as strong, place by place, as it is in them.

    A mean of faces loses its pores and lashes where they do not coincide; the gain is at most ``MOST_DETAIL``.
    """
    mean = sum(share[..., None] * picture for share, picture in zip(shares, pictures, strict=True))

    def fine(picture: np.ndarray) -> np.ndarray:
        return picture - cv2.GaussianBlur(picture, (0, 0), DETAIL_SIGMA)

    def power(band: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(_coarse(band**2), (0, 0), DETAIL_WINDOW / COARSER).mean(2)

    wanted = sum(_coarse(share) * power(fine(picture)) for share, picture in zip(shares, pictures, strict=True))
    band = fine(mean)
    gain = np.sqrt((wanted + 0.1) / (power(band) + 0.1)).clip(1, MOST_DETAIL)
    gain = cv2.resize(gain, mean.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return mean + (gain[..., None] - 1) * band


def _coarse(values: np.ndarray) -> np.ndarray:
    return cv2.resize(values, None, fx=1 / COARSER, fy=1 / COARSER, interpolation=cv2.INTER_AREA)


def _filled(outline: np.ndarray, size: int, blur: float) -> np.ndarray:
    """``[S, S]``: 1 inside of a closed line ``[N, 2]``, soft over ``blur`` of the side."""
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1.0, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), blur * size)


def _of_one_skin(
    pictures: list[np.ndarray], shares: np.ndarray, mask: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures (0..255) whose skin has the combined color, so that necks, ears and foreheads fit any of the faces.

    The change of color is a factor per channel, from the means over the oval ``mask``; it acts on what resembles, in
    CIELAB, the skin of the picture's own face. Returns that likeness too, ``[K, S, S]``.
    """
    coarse, weight = [_coarse(picture) for picture in pictures], _coarse(mask)[..., None]
    skins = np.stack([(picture * weight).sum((0, 1)) / weight.sum() for picture in coarse])
    wanted, size = shares @ skins, mask.shape[::-1]
    changed, likenesses = [], []
    for picture, small, skin in zip(pictures, coarse, skins, strict=True):
        lab = cv2.cvtColor((small / 255).clip(0, 1), cv2.COLOR_RGB2LAB)
        offset = lab - (lab * weight).sum((0, 1)) / weight.sum()
        offset[..., 0] *= 0.35  # lightness is the light's: counts less
        likeness = np.exp(-(offset**2).sum(2) / (2 * SKIN_SPREAD**2))
        factor = 1 + likeness[..., None] * (wanted / skin - 1)
        changed.append(picture * cv2.resize(factor, size, interpolation=cv2.INTER_LINEAR))
        likenesses.append(cv2.resize(likeness, size, interpolation=cv2.INTER_LINEAR))
    return changed, np.stack(likenesses)


def _local_shares(shares: np.ndarray, likeness: np.ndarray, forehead: np.ndarray, donor: int) -> np.ndarray:
    """``[K, S, S]``, summing to 1: the shares, but on the forehead hair is the donor's alone.

    Otherwise a fringe lies like smoke on a bare forehead. likeness ``[K, S, S]``: to skin.
    """
    bare = likeness**2 * likeness[donor] ** 2
    local = shares[:, None, None] * (1 - forehead * (1 - bare))
    local[donor] = shares[donor]
    return local / local.sum(0)


def mean_triangles(sources: Sources, expression: str) -> np.ndarray:
    """The triangulation of an expression's mean shape together with the points of the border."""
    size = sources.pictures[expression].shape[1]
    mean = sources.points[expression].mean(0)
    return piecewise.delaunay(np.concatenate([mean, piecewise.border_points(size)]))


def crop_matrix(shape: np.ndarray) -> np.ndarray:
    """``[2, 3]`` from the frame to the crop's pixels, for the points ``[189, 2]`` of a person in the frame."""
    return align(face_points.five_of_189(shape), SIZE).matrix


def framed_crop(picture: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the frame to the crop: uint8 ``[SIZE, SIZE, 3]`` on the template, and all points in its pixels."""
    matrix = crop_matrix(shape)
    photo = photographs.to_tensor(picture.round().clip(0, 255).astype(np.uint8))
    crop, _ = take_crop(photo, Similarity(matrix, SIZE))
    return photographs.to_bytes(crop), moved(shape, matrix)


def make_people(london: Path, out: Path, count: int, seed: int, mesh: Mesh | None = None) -> int:
    """Makes ``count`` people in both expressions, and everyone of the set as they are; pictures that lie there are kept.

    ``out`` gets ``<number>_<expression>.jpg`` (384 px) and ``people.npz``: weights ``[N, P]``, points ``[N, 2, 189, 2]`` and
    landmarks ``[N, 2, 5, 2]`` in pixels of the crop, donor ``[N]`` (of hair and outline), original ``[N]`` (bool), names
    ``[P]``, expressions ``[2]``. Returns N. The same seed makes the same people. See ``read_people`` for mesh.
    """
    sources = read_people(london, mesh)
    out.mkdir(parents=True, exist_ok=True)
    made = out / "made.json"
    settings = {"seed": seed, "names": sources.names, "size": SIZE}
    if made.is_file() and json.loads(made.read_text()) != settings:
        raise UserError(f"{out} holds people made with other settings. Give another folder, or empty it.")
    made.write_text(json.dumps(settings))
    weights = draw_weights(len(sources.names), count, seed)
    triangulations = {expression: mean_triangles(sources, expression) for expression in EXPRESSIONS}
    points = np.zeros((len(weights), len(EXPRESSIONS), face_points.COUNT, 2), np.float32)
    for number in tqdm(range(len(weights)), desc="people", disable=None):
        for column, expression in enumerate(EXPRESSIONS):
            path = out / f"{number:05d}_{expression}.jpg"
            points[number, column] = _make_one(sources, expression, weights[number], triangulations[expression], path)
    landmarks = np.stack([np.stack([face_points.five_of_189(shape) for shape in pair]) for pair in points])
    photographs.write_arrays(
        out / "people.npz", weights=weights.astype(np.float32), points=points, landmarks=landmarks,
        donor=weights.argmax(1), original=np.arange(len(weights)) < len(sources.names),
        names=np.array(sources.names), expressions=np.array(list(EXPRESSIONS)),
    )  # fmt: skip
    return len(weights)


def _make_one(
    sources: Sources, expression: str, weights: np.ndarray, triangulation: np.ndarray, path: Path
) -> np.ndarray:
    """Writes one picture unless it is there; returns its points ``[189, 2]``."""
    if path.is_file():
        shape = np.tensordot(weights, sources.points[expression], 1)
        return moved(shape, crop_matrix(shape))
    picture, points = framed_crop(*combined(sources, expression, weights, triangulation))
    photographs.write_jpeg(path, picture)
    return points

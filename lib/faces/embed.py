"""Identity embeddings: map an aligned crop to a unit vector, and compare two of them.

Three spaces, best first: ArcFace (through insightface, if the user has its model), dlib's 128-d network (from the
installed face_recognition_models package) and a classical descriptor that can only propose. Nothing is downloaded here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..extras import command
from ..vocabulary import UserError
from .align import TEMPLATE_512, least_squares_similarity, warp
from .broken import attempt, why
from .detect import Folders, dlib_file, model_file, to_uint8
from .dlib_network import load_dlib_network

ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_NAMES = ("w600k", "glintr", "glint360k", "ms1mv3", "webface", "arcface")
# The square of the 512 px crop that dlib's own 150 px chip covers, measured with its landmark predictors (median).
DLIB_CHIP = 150
DLIB_CORNER, DLIB_SIDE = (90.5, 140.4), 335.5
# Mean length of dlib's descriptors, which are not unit vectors; 0.6 is its published decision distance.
DLIB_NORM, DLIB_DISTANCE = 1.45, 0.6


class Embedder(Protocol):
    """An embedding space.

    name: stored with every library, so that spaces never mix; threshold: minimum similarity of the same person; alone: of the only
    face of a photograph and the only person of a library; sure: similarity from which a match needs no check; proposes: its matches
    are guesses, to be confirmed by the user.
    """

    name: str
    threshold: float
    alone: float
    sure: float
    proposes: bool

    def embed(self, crop: Tensor) -> np.ndarray:
        """Unit float32 ``[D]`` of an aligned crop ``[3, 512, 512]`` in 0..1."""
        ...

    def similarity(self, faces: np.ndarray, references: np.ndarray) -> np.ndarray:
        """``[F, D]`` and ``[R, D]`` to ``[F, R]`` in 0..1."""
        ...


class ArcFace:
    """ArcFace (Deng et al. 2019) on insightface's recognition model; cosine similarity.

    The threshold is low because a badly degraded face scores little even against its own original.
    """

    name, threshold, alone, sure, proposes = "arcface", 0.3, 0.3, 0.45, False

    def __init__(self, path: Path) -> None:
        from insightface.model_zoo import get_model

        self._network = get_model(str(path))

    def embed(self, crop: Tensor) -> np.ndarray:
        chip = warp(crop, least_squares_similarity(TEMPLATE_512, ARCFACE_112), (112, 112))
        return _unit(self._network.get_feat(np.ascontiguousarray(to_uint8(chip)[..., ::-1]))[0])

    @staticmethod
    def similarity(faces: np.ndarray, references: np.ndarray) -> np.ndarray:
        return np.clip(faces @ references.T, 0, 1)


class DlibFace:
    """dlib's 128-d network (`dlib_network.py`) on a fixed square of the aligned crop and its mirror image.

    The crop is aligned already, so no second landmark predictor is needed; the mirror image makes the vector steadier.
    Soft faces score little: of 211 damaged ones, .5 knows 53 % and takes 2 to 4 % of the others for one given person; .45 knows 76 %
    and takes 13 %. Whoever gives one album with one face most likely means it.
    """

    name, threshold, alone, sure, proposes = "dlib", 0.5, 0.45, 0.6, False

    def __init__(self, path: Path) -> None:
        self._network = load_dlib_network(path)

    def embed(self, crop: Tensor) -> np.ndarray:
        scale = DLIB_CHIP / DLIB_SIDE
        matrix = np.array([[scale, 0, -scale * DLIB_CORNER[0]], [0, scale, -scale * DLIB_CORNER[1]]])
        chip = (warp(crop, matrix, (DLIB_CHIP, DLIB_CHIP)).float().cpu().clamp(0, 1) * 255).round()
        with torch.no_grad():
            views = self._network(torch.stack([chip, chip.flip(2)]))
        return _unit(views.double().mean(0).numpy())

    @staticmethod
    def similarity(faces: np.ndarray, references: np.ndarray) -> np.ndarray:
        """1 at distance 0, .5 at dlib's decision distance of 0.6, 0 from 1.2 on."""
        distance = DLIB_NORM * np.sqrt(np.clip(2 - 2 * faces @ references.T, 0, None))
        return np.clip(1 - distance / (2 * DLIB_DISTANCE), 0, 1)


class Classical:
    """Histograms of oriented gradients (Dalal and Triggs 2005) of the inner face: a fallback if no network is
    available.

    Pose and light change it nearly as much as the person does, so it only proposes, and its similarity never exceeds
    .5.
    """

    name, threshold, alone, sure, proposes = "classical", 0.3, 0.3, 1.0, True

    def embed(self, crop: Tensor) -> np.ndarray:
        inner = F.interpolate(crop[None, :, 160:448, 112:400].mean(1, keepdim=True), size=(96, 96), mode="area")
        dx, dy = inner[..., 1:-1, 2:] - inner[..., 1:-1, :-2], inner[..., 2:, 1:-1] - inner[..., :-2, 1:-1]
        direction = torch.atan2(dy, dx).remainder(torch.pi) * (9 / torch.pi)
        distance = (direction - torch.arange(9.0)[:, None, None]).abs()
        votes = (1 - torch.minimum(distance, 9 - distance)).clamp(min=0) * torch.hypot(dx, dy)
        cells = F.avg_pool2d(F.pad(votes, (1, 1, 1, 1)), 16, 8)
        cells = cells / (cells.norm(dim=1, keepdim=True) + 0.01)
        return _unit((cells - cells.mean((2, 3), keepdim=True)).flatten().numpy())

    @staticmethod
    def similarity(faces: np.ndarray, references: np.ndarray) -> np.ndarray:
        return np.clip(faces @ references.T, 0, 1) / 2


def best_embedder(model_folder: Folders = None) -> Embedder:
    """The best embedder whose files are present; the classical one always is."""
    return next(embedder for name in EMBEDDERS if (embedder := _find(name, model_folder)) is not None)


def by_name(name: str, model_folder: Folders = None) -> Embedder:
    """An embedder by name, or the best for "auto". Raises UserError if it is unknown or its files are missing."""
    if name == "auto":
        return best_embedder(model_folder)
    if name not in EMBEDDERS:
        raise UserError(f"There is no identity embedding {name!r}. Choose auto or one of {', '.join(EMBEDDERS)}.")
    embedder = _find(name, model_folder)
    if embedder is None:
        raise UserError(
            f"The identity embedding {name} is not available.{why(_named(name))} To use it, {how_to_get_embedding(name)} Or choose auto."
        )
    return embedder


def _find(name: str, model_folder: Folders) -> Embedder | None:
    if name == "classical":
        return Classical()
    if name == "dlib":
        path = dlib_file("dlib_face_recognition_resnet_model_v1.dat")
        return None if path is None else attempt(_named(name), partial(_load_dlib, path), path)
    path = arcface_file(model_folder)
    if path is None or importlib.util.find_spec("insightface") is None:
        return None
    return attempt(_named(name), partial(_load_arcface, path), path)


def _named(name: str) -> str:
    return f"The identity embedding {name}"


def _tried(kind: Callable[[Path], Embedder], path: Path) -> Embedder:
    """An embedder that works: what is broken shows when it runs."""
    embedder = kind(path)
    embedder.embed(torch.full((3, 512, 512), 0.5))
    return embedder


@lru_cache(maxsize=1)
def _load_dlib(path: Path) -> Embedder:
    return _tried(DlibFace, path)


@lru_cache(maxsize=1)
def _load_arcface(path: Path) -> Embedder:
    return _tried(ArcFace, path)


def arcface_file(folders: Folders) -> Path | None:
    """The recognition model in the folders of insightface models, by the names under which they are published."""
    return model_file(folders, ARCFACE_NAMES)


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


EMBEDDERS = ("arcface", "dlib", "classical")  # best first
SCALES = {one.name: (one.threshold, one.sure) for one in (ArcFace, DlibFace, Classical)}
SIMILARITIES = {one.name: one.similarity for one in (ArcFace, DlibFace, Classical)}


def how_to_get_embedding(name: str) -> str:
    """What an embedding needs that is missing, as the end of a sentence. The classical one needs nothing."""
    return {
        "arcface": f"run {command('insightface')} and put its recognition model (w600k_*.onnx) into the models folder.",
        "dlib": f"run {command('identity')}.",
    }[name]


def certainty(embedder: str, confidence: float) -> float:
    """0..1, how sure a match of that ``confidence`` is: 0 at the embedder's threshold, 1 where it need not be checked."""
    threshold, sure = SCALES.get(embedder, (0.0, 0.0))
    return 1.0 if confidence >= sure else min(max((confidence - threshold) / (sure - threshold), 0.0), 1.0)

"""Landmarks, boxes, meshes and masks that no detector would give: finite crops and pictures, or refused with words, in bounded memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example
from hypothesis import strategies as st
from personal_restore.lib.faces import detect
from personal_restore.lib.faces.detect import Detection
from personal_restore.lib.faces.extract import ALIGNMENTS, extract_face
from personal_restore.lib.faces.homography import ransac_homography
from personal_restore.lib.faces.paste import paste_face, unwarp
from personal_restore.lib.fusion.blend import CONTEXTS
from personal_restore.lib.fusion.mask import REGIONS
from personal_restore.lib.vocabulary import Faces
from personal_restore.nodes.faces import DetectFaces
from personal_restore.nodes.fusion import BlendFaces
from personal_restore.nodes.masks import MaskFaces
from personal_restore.tests.fuzzing import NUMBERS, TEXTS, VALUES, fuzzed, refused_with_words

PHOTO = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
IMAGE = PHOTO.movedim(0, -1)[None]
COORDINATES = st.one_of(
    st.floats(-20, 70),
    st.integers(-2, 60).map(float),
    st.sampled_from([0.0, 1e-9, 1e6, -1e6, 1e12, 1e300, float("nan"), float("inf")]),
)
POINTS = st.tuples(COORDINATES, COORDINATES)


@st.composite
def landmarks(draw: st.DrawFn) -> np.ndarray:
    """Anywhere, on one line, at one point, or a face as it should be, larger or smaller."""
    kind = draw(st.sampled_from(["any", "line", "point", "face"]))
    if kind == "any":
        return np.array(draw(st.lists(POINTS, min_size=5, max_size=5)))
    with np.errstate(all="ignore"):
        start, way = np.array(draw(POINTS)), np.array(draw(POINTS))
        if kind == "point":
            return np.tile(start, (5, 1))
        if kind == "line":
            return start + np.array(draw(st.lists(st.floats(-1, 1), min_size=5, max_size=5)))[:, None] * way
        return start + detect.TYPICAL_LANDMARKS * way


@pytest.fixture(autouse=True, scope="module")
def no_detector():
    """Everything here is about what is done with what is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detect, "get_detector", lambda *_: None)
        yield


@fuzzed("landmarks", 40, points=landmarks(), alignment=st.sampled_from(ALIGNMENTS))
@example(points=np.full((5, 2), 12.98158067), alignment="ffhq")  # whose mean is rounded, so that they seem to differ
def test_a_face_is_cut_and_laid_back_or_refused(points, alignment):
    with np.errstate(all="ignore"), refused_with_words():
        face = extract_face(PHOTO, Detection((0.0, 0.0, 30.0, 30.0), points, 0.5), alignment)
        assert torch.isfinite(face.crop).all() and torch.isfinite(face.valid).all()
        region, valid, (x0, y0, x1, y1) = unwarp(face.crop, face.similarity, PHOTO.shape[-2:])
        assert torch.isfinite(region).all() and valid.shape[1:] == (y1 - y0, x1 - x0)
        assert torch.isfinite(paste_face(PHOTO, face.crop, face.similarity)).all()


SIDES = st.one_of(NUMBERS, st.floats(1, 60))
BOXES = st.fixed_dictionaries(dict.fromkeys(("x", "y", "width", "height"), SIDES))


@fuzzed(
    "boxes",
    50,
    boxes=st.one_of(
        BOXES, st.lists(st.one_of(BOXES, VALUES), max_size=3), st.lists(st.lists(BOXES, max_size=2), max_size=2), VALUES
    ),
)
@example(boxes={"x": 0, "y": 0, "width": 16384, "height": 16384})
@example(boxes={"x": float("inf"), "y": 0, "width": 1, "height": 10**400})
@example(boxes=[{}])
@example(boxes=True)
def test_a_box_becomes_a_face_or_is_refused(boxes):
    with np.errstate(all="ignore"), refused_with_words():
        faces = DetectFaces.execute(IMAGE, 0.0, boxes=boxes).args[0]
        assert all(torch.isfinite(face.crop).all() for frame in faces.frames for face in frame)


MESHES = st.fixed_dictionaries(
    {
        "landmarks_xy": st.one_of(
            st.builds(
                lambda point, count: [[point[0] + i % 7, point[1] + i % 11] for i in range(count)],
                POINTS,
                st.sampled_from([0, 5, 468, 478]),
            ),
            VALUES,
        ),
        "bbox_xyxy": st.one_of(st.lists(COORDINATES, min_size=4, max_size=4), VALUES),
        "score": st.one_of(st.floats(0, 1), VALUES),
    }
)


@fuzzed(
    "meshes",
    50,
    mesh=st.one_of(st.fixed_dictionaries({"frames": st.lists(st.lists(MESHES, max_size=2), max_size=2)}), VALUES),
)
@example(mesh={})
@example(mesh={"frames": [[{}]]})
def test_a_mesh_becomes_a_face_or_is_refused(mesh):
    with np.errstate(all="ignore"), refused_with_words():
        faces = DetectFaces.execute(IMAGE, 0.0, landmarks=mesh).args[0]
        assert all(torch.isfinite(face.crop).all() for frame in faces.frames for face in frame)


@st.composite
def tensors(draw: st.DrawFn, rank: int) -> torch.Tensor:
    """A mask or a picture of any small size, flat or not, sometimes with values that are no numbers."""
    shape = (
        draw(st.lists(st.sampled_from([0, 1, 2, 3, 40, 50]), min_size=rank, max_size=rank))
        if draw(st.booleans())
        else [1, 40, 50, 3][:rank]
    )
    value = draw(st.one_of(st.sampled_from([0.0, 1.0, 0.5, -1.0, 7.0, float("nan"), float("inf")])))
    filled = torch.full(shape, value)
    return (
        filled
        if draw(st.booleans()) or not filled.numel()
        else torch.rand(shape, generator=torch.Generator().manual_seed(1))
    )


@fuzzed(
    "masks",
    40,
    points=landmarks(),
    region=st.sampled_from([*REGIONS, "x"]),
    segments=st.one_of(st.none(), tensors(3)),
    restored=st.booleans(),
    scene=st.one_of(st.just(IMAGE), tensors(4)),
    context=st.sampled_from([*CONTEXTS, "x"]),
    color=st.sampled_from(["none", "wavelet", "adain"]),
    per_face=st.one_of(st.just("0=0.5"), TEXTS),
)
def test_faces_are_masked_and_blended_or_refused(points, region, segments, restored, scene, context, color, per_face):
    with np.errstate(all="ignore"), refused_with_words():
        face = extract_face(PHOTO, Detection((0.0, 0.0, 30.0, 30.0), points, 0.5))
        face = replace(face, restored=1 - face.crop) if restored else face
        faces, mask = MaskFaces.execute(Faces(((face,),), (40, 50)), region, segments).args
        assert torch.isfinite(mask).all() and mask.shape == (1, 40, 50) and mask.min() >= 0 and mask.max() <= 1
        blended = BlendFaces.execute(scene, faces, 0.8, per_face, context, color).args[0]
        assert torch.isfinite(blended).all() and blended.shape == scene.shape


@fuzzed(
    "matches",
    60,
    start=st.lists(POINTS, max_size=12),
    end=st.lists(POINTS, min_size=12, max_size=12),
    seed=st.integers(0, 3),
)
def test_matches_give_a_finite_homography(start, end, seed):
    start, end = np.array(start, np.float64).reshape(-1, 2), np.array(end)[: len(start)]
    with np.errstate(all="ignore"):
        found = ransac_homography(start, end, 1.0, seed)
    assert np.isfinite(found.matrix).all() and found.inliers.shape == (len(start),)

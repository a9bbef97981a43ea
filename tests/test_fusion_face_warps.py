"""Fine alignment as a stage of its own: found by one node, applied by another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.faces.fine_align import Warp
from personal_restore.lib.fusion.compose import compose_faces
from personal_restore.lib.fusion.face_warps import FaceWarps, align_faces, flow_pictures, warp_faces
from personal_restore.lib.vocabulary import Faces, UserError
from personal_restore.nodes.warps import AlignFaces, ApplyWarp


@pytest.fixture(scope="module")
def moved(astronaut) -> Faces:
    """A restorer that drew the face three pixels of the photograph to the left."""
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    return Faces(((replace(face, restored=face.crop.roll(-round(3 * face.similarity.scale), -1)),),), (512, 512))


def test_the_two_nodes_and_the_blend_give_what_fine_align_of_the_blend_gives(astronaut, moved):
    image = astronaut.movedim(1, -1)
    warp, flow, confidence, report = AlignFaces.execute(image, moved, "without weights", 0).args
    aligned = ApplyWarp.execute(moved, warp).args[0]
    (whole, _), (parts, _), (plain, _) = (
        compose_faces(astronaut, faces, color="none", align=align)
        for faces, align in ((moved, True), (aligned, False), (moved, False))
    )
    assert torch.equal(whole, parts) and not torch.equal(whole, plain)
    assert flow.shape == confidence.shape == image.shape
    # White is where nothing moves; the face moves, and the flow is sure of it.
    x0, y0, x1, y1 = (round(side) for side in moved.frames[0][0].box)
    inside, corner = np.s_[0, y0 + 20 : y1 - 20, x0 + 20 : x1 - 20], np.s_[0, -40:, -40:]
    assert flow[inside].mean() < 0.9 and flow[corner].min() == 1
    assert confidence[inside].mean() > 0.3 and confidence[corner].max() == 0
    assert "0: moved by" in report and "without RANSAC-Flow's networks" in aligned.used["alignment"]


def test_the_flow_s_color_is_its_direction_in_the_photograph_however_the_crop_lies(astronaut, moved):
    face = moved.frames[0][0]
    right = torch.zeros(2, 512, 512)
    right[0] = 5.0
    still = Warp(np.eye(3), right, torch.ones(1, 512, 512), (0.0, 1.0))
    straight = flow_pictures(moved, FaceWarps(((still,),), ""))
    quarter = np.array([[0.0, -1.0, 511.0], [1.0, 0.0, 0.0]])
    turned = replace(face.similarity, matrix=quarter @ np.vstack([face.similarity.matrix, [0, 0, 1]]))
    same = replace(still, flow=torch.stack([-right[1], right[0]]))
    again = flow_pictures(moved.map(lambda one: replace(one, similarity=turned)), FaceWarps(((same,),), ""))
    assert straight.min() < 0.5
    torch.testing.assert_close(straight, again, atol=0.02, rtol=0)


def test_a_face_that_is_not_restored_or_does_not_fit_stays_and_says_so(astronaut, moved):
    bare = moved.map(lambda face: replace(face, restored=None))
    warps = align_faces(astronaut, bare)
    assert warps.frames == ((None,),) and warp_faces(bare, warps).frames == bare.frames
    noise = moved.map(lambda face: replace(face, restored=torch.rand(3, 512, 512)))
    kept, report = align_faces(astronaut, noise), AlignFaces.execute(astronaut.movedim(1, -1), noise, "auto", 0).args[3]
    assert warp_faces(noise, kept).frames == noise.frames and "0: left as it is, " in report


def test_the_published_networks_are_asked_for_by_name_and_named_if_missing(astronaut, moved, tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"RANSAC-Flow needs MegaDepth_\*.pth and resnet50\*.pth"):
        AlignFaces.execute(astronaut.movedim(1, -1), moved, "RANSAC-Flow", 0)


def test_warps_of_other_faces_and_scenes_of_another_size_are_refused(astronaut, moved):
    with pytest.raises(UserError, match="belongs to other faces"):
        warp_faces(Faces(((), ()), (512, 512)), FaceWarps(((None,),), ""))
    with pytest.raises(UserError, match="Align Faces: the scene is 400x512"):
        align_faces(astronaut[..., :400], moved)

"""Faces cut out as PerFuSe's supplement has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from personal_restore.lib.faces import align, detect, extract, mtcnn

pytestmark = pytest.mark.skipif(
    mtcnn.weight_folder() is None, reason="facenet-pytorch's weights are not installed; python run.py test installs it"
)


@pytest.mark.parametrize("points", [None, 68], ids=["five points", "dlib's 68"])
def test_in_perfuse_frame_the_eyes_are_level_and_the_template_is_still_at_hand(astronaut, points):
    found = detect.detect_faces(astronaut[0])[0]
    if points is not None:
        found = extract.located(astronaut[0], found)
        if found.points is None:
            pytest.skip("dlib or its models are not installed; python run.py test installs it")
    usual, face = (extract.extract_face(astronaut[0], found, name) for name in extract.ALIGNMENTS)
    seen = found.landmarks if points is None else found.points
    placed = align.moved(seen, face.similarity.matrix)
    eyes = placed[:2] if points is None else np.stack([placed[36:42].mean(0), placed[42:48].mean(0)])
    mouth = placed[3:5].mean(0) if points is None else placed[[48, 54]].mean(0)
    across, down = eyes[1] - eyes[0], mouth - eyes[0]
    assert abs(across[1]) < 1e-6, "the eye line is exactly level"
    assert abs(across[0] * down[1]) / 2 / 512**2 > 0.02 - 1e-9, "eyes and mouth fill two percent"
    assert face.similarity.scale < 0.9 * usual.similarity.scale, "it shows more of the surroundings"
    assert usual.template is None
    # The way by the wider crop costs a little sharpness, and is in the same place to a fraction of a pixel.
    on_template = align.onto_template(face, face.crop)
    error, shifted = (float((on_template.roll(by, -1) - usual.crop)[:, 64:448, 64:448].abs().mean()) for by in (0, 2))
    assert error < 0.01 and error < shifted / 2
    back = align.from_template(face, on_template)
    known = align.from_template(face, torch.ones(1, 512, 512))[0] > 0.99
    assert 0.4 < known.float().mean() < 0.9 and (back - face.crop).abs()[:, known].mean() < 0.01

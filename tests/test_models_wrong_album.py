"""A wrong person's album must do no harm; an album of the same moment must help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.faces.align import crop_face
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.faces.detection import main_face
from personal_restore.lib.fusion.mask import face_mask
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.vocabulary import Conditions, Reference
from personal_restore.models.album import ready as album_weights
from personal_restore.models.embedded import ready as embedded
from personal_restore.models.embedded.estimate import estimate_code

PEOPLE = {
    "emoA": ("human/stock-emotions-a-1.jpg", "human/stock-emotions-a-4.jpg"),
    "obama": ("face_recognition/obama_obama.jpg", "face_recognition/obama_obama2.jpg"),
    "biden": ("face_recognition/biden_biden.jpg", "face_recognition/biden_biden2.jpg"),
    "cfA": ("compreface/006_A.jpg", "compreface/002_A.jpg"),
    "lecun": ("pulid/lecun.jpg",),
    "astronaut": ("scikit-image/astronaut.png",),
}
# Where the worst of ten wrong albums, forced on the face, costs more: .2 to .8 dB. The gate still draws what one album picture
# alone shows.
COSTLY = {
    *(("cfA", "trial"), ("astronaut", "trial"), ("cfA", "mild"), ("astronaut", "mild"), ("biden", "mild")),
}


def keep(module):
    return lambda: module


@pytest.fixture(scope="module")
def faces():
    """path -> (photograph, landmarks, aligned crop), found once."""
    found = {}

    def load(path):
        if path not in found:
            photo = read_picture(path)
            if max(photo.shape) > 1200:
                photo = F.interpolate(photo[None], scale_factor=1200 / max(photo.shape), mode="area")[0]
            face = make_face(photo, main_face(detect_faces(photo), photo.shape[-2:]))
            found[path] = (photo, face.landmarks, face.crop)
        return found[path]

    return load


def face_psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    mask = face_mask(image.shape[-1])
    return float(-10 * torch.log10(((image - truth).square() * mask).sum() / (3 * mask.sum())))


def cleaned(photo, landmarks, side, family, seed):
    """Truth, cleaned face and its conditions, from a photograph scaled so that the crop spans ``side`` pixels of it, damaged
    and restored; the code is estimated from the restored face, as the workflows do."""
    scale = side / (4 * np.linalg.norm(landmarks[1] - landmarks[0]))
    small = F.interpolate(photo[None], scale_factor=scale, mode="area") if scale < 1 else photo[None]
    where = (landmarks + 0.5) * (small.shape[-1] / photo.shape[-1]) - 0.5
    with torch.inference_mode():
        damaged = FAMILIES[family](seed).apply(small)
        clean = embedded.restorer(keep).restore(damaged, Conditions())
        reach = 0.9 * np.linalg.norm(where[1] - where[0])
        left, top = np.maximum(where.min(0) - reach, 0).astype(int)
        right, bottom = (where.max(0) + reach).astype(int)
        code = estimate_code(embedded.extractor(keep)(), torch.cat([clean, damaged], 1)[0, :, top:bottom, left:right])
    truth, face, found = (crop_face(picture[0], where)[0] for picture in (small, clean, damaged))
    return truth, face, Conditions(code=code, photo=found[None], pixel=512 / side)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family"),
    [
        pytest.param(
            name,
            family,
            marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason="still missed, see COSTLY")
            if (name, family) in COSTLY
            else (),
        )
        for name in PEOPLE
        for family in ("trial", "mild")
    ],
)
def test_a_wrong_album_costs_at_most_a_tenth_of_a_decibel(photos, faces, name, family):
    photo, landmarks, _ = faces(photos / PEOPLE[name][0])
    costs = {}
    for number, side in enumerate((160, 300)):
        truth, clean, conditions = cleaned(photo, landmarks, side, family, 31 + number)
        for other in PEOPLE.keys() - {name}:
            album = tuple(Reference(path, faces(photos / path)[2], landmarks) for path in PEOPLE[other])
            out = album_weights.restorer(keep).restore(clean[None], replace(conditions, references=album))[0]
            costs[other, side] = face_psnr(clean, truth) - face_psnr(out, truth)
    assert max(costs.values()) <= 0.1, costs


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # A star is drawn on one cheek of cfA. The mirrored album has it on the other, and .07 dB are lost.
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, raises=AssertionError) if name == "cfA" else ())
        for name in PEOPLE
    ],
)
def test_an_album_of_the_same_moment_helps(photos, faces, name):
    photo, landmarks, crop = faces(photos / PEOPLE[name][0])
    truth, clean, conditions = cleaned(photo, landmarks, 200, "trial", 5)
    same = (Reference("same", crop.flip(-1) ** 0.9, landmarks),)
    out = album_weights.restorer(keep).restore(clean[None], replace(conditions, references=same))[0]
    assert face_psnr(out, truth) > face_psnr(clean, truth)

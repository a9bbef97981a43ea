"""Edits registered to their photograph: resized, cropped, recolored, bent; and what is no edit of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from personal_restore.lib import samples
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.faces.detection import Detection
from personal_restore.lib.fusion.edit import register
from personal_restore.lib.pictures.files import read_picture

# Places on the portrait that its edits below still show.
POINTS = np.array([[200.0, 100], [245, 102], [222, 130], [150, 300], [330, 250], [260, 380]])
FACE = Detection((180.0, 65, 265, 170), np.array([[200.0, 100], [244, 100], [222, 122], [205, 145], [240, 145]]), 1.0)


@pytest.fixture(scope="module")
def damaged(astronaut):
    return FAMILIES["trial"](5).apply(astronaut)[0]


def changed(photo: torch.Tensor, matrix: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The portrait under a homography, in other colors."""
    pixels = cv2.warpPerspective(photo.permute(1, 2, 0).numpy(), matrix, size, flags=cv2.INTER_CUBIC)
    return (torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1) ** 0.8) * torch.tensor([1, 0.9, 0.8]).view(3, 1, 1)


@pytest.mark.parametrize(
    ("matrix", "size"),
    [
        ([[2.0, 0, 0.5], [0, 2, 0.5], [0, 0, 1]], (1024, 1024)),
        ([[1.4, 0, -90], [0, 1.5, -40], [0, 0, 1]], (540, 600)),
        ([[0.9, 0.05, 10], [-0.04, 0.95, 20], [5e-5, 2e-5, 1]], (512, 512)),
    ],
    ids=["enlarged", "cropped and stretched", "tilted"],
)
def test_an_edit_is_found_whatever_its_frame_and_colors(astronaut, damaged, matrix, size):
    matrix = np.array(matrix)
    found = register(damaged, changed(astronaut[0], matrix, size))
    expected = cv2.perspectiveTransform(POINTS[None], matrix)[0]
    assert not found.reason and np.abs(found.to_edit(POINTS) - expected).max() < 0.01 * max(size)


def test_a_bent_edit_is_followed_and_the_way_back_is_the_inverse(astronaut, damaged):
    y, x = np.mgrid[:512, :512].astype(np.float32)
    shift = 0.025 * 512 * np.dstack([np.sin(y / 90), np.cos(x / 110)]).astype(np.float32)
    pixels = cv2.remap(astronaut[0].permute(1, 2, 0).numpy(), x + shift[..., 0], y + shift[..., 1], cv2.INTER_CUBIC)
    edit = torch.from_numpy(pixels).permute(2, 0, 1).clamp(0, 1)
    found = register(damaged, edit)
    # The edit shows at q what the photograph shows at q + shift(q).
    places = np.array([[210.0, 110], [150, 300], [260, 380], [330, 250]])
    there = places + shift[places[:, 1].astype(int), places[:, 0].astype(int)]
    assert np.linalg.norm(found.to_photograph(places) - there, axis=1).max() < 4
    assert np.abs(found.to_photograph(found.to_edit(there)) - there).max() < 0.05


def test_another_face_does_not_pull(damaged):
    found = register(damaged, samples.bent(samples.photograph(), *samples.INVENTED_BEND)[0], [FACE])
    assert not found.reason and np.abs(found.to_edit(FACE.landmarks) - FACE.landmarks).max() < 1.5


def test_what_shows_something_else_is_refused(astronaut, damaged):
    for other in (
        astronaut[0].flip(-1),
        astronaut[0].flip(-2).roll(200, -1),
        torch.rand(3, 400, 300),
        torch.ones(3, 64, 64),
    ):
        found = register(damaged, other, [FACE], [FACE])
        assert found.reason, found.agreement


def test_a_portrait_before_a_plain_wall_is_found_by_its_face(photos):
    """dmdnet's portraits have hardly a feature; another one of the same person is still no edit."""
    first, second = (read_picture(photos / f"dmdnet/00075_{number}.png") for number in (0, 1))
    small = torch.nn.functional.interpolate(first[None], (128, 128), mode="area")
    damaged = FAMILIES["trial"](3).apply(small)[0]
    landmarks = np.array([[192.0, 240], [319, 240], [257, 314], [201, 371], [313, 371]])
    face = Detection((30.0, 40, 98, 110), (landmarks + 0.5) / 4 - 0.5, 1.0)
    large = Detection((120.0, 160, 392, 440), landmarks, 1.0)
    found = register(damaged, first**0.8, [face], [large])
    assert not found.reason and np.abs(found.to_edit(face.landmarks) - landmarks).max() < 12
    assert register(damaged, second, [face], [large]).reason

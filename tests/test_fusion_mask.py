"""The oval of an aligned face."""

from __future__ import annotations

import pytest
import torch
from personal_restore.faces.align import TEMPLATE_512
from personal_restore.fusion.mask import face_mask

CHIN, CHEEKS = (255, 465), ((116, 310), (378, 310))  # medians of dlib's outline over aligned photographs


@pytest.mark.parametrize("size", [32, 97, 512])
def test_mask_fades_from_one_to_zero_before_the_crop_ends(size):
    mask = face_mask(size)
    assert mask.shape == (1, size, size) and mask.dtype == torch.float32
    assert mask.min() == 0 and mask.max() == 1
    border = torch.cat([mask[0, 0], mask[0, -1], mask[0, :, 0], mask[0, :, -1]])
    assert not border.any()
    assert torch.allclose(mask, mask.flip(-1), atol=1e-6)


def test_mask_holds_the_template_and_the_outline_of_a_typical_face():
    mask = face_mask(512)[0]
    for x, y in TEMPLATE_512.round().astype(int):
        assert mask[y, x] == 1
    for x, y in (CHIN, *CHEEKS):
        assert mask[y, x] > 0.7


def test_mask_is_the_same_picture_at_every_size():
    small = face_mask(128)
    assert (torch.nn.functional.avg_pool2d(face_mask(512), 4) - small).abs().max() < 0.02


def test_mask_has_no_steep_edge():
    mask = face_mask(512)[0]
    assert (mask[1:] - mask[:-1]).abs().max() < 0.08 and (mask[:, 1:] - mask[:, :-1]).abs().max() < 0.08

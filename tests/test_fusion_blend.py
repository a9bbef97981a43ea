"""Mask-guided, context-aware pyramid blending."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.fusion.blend import CONTEXTS, Patch, blend_faces
from personal_restore.lib.fusion.mask import face_mask
from personal_restore.lib.vocabulary import UserError

SIZES = [(64, 64), (61, 97), (128, 75)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def everywhere(source: torch.Tensor, mask: torch.Tensor | float = 1.0) -> Patch:
    """A patch as large as the picture, with content everywhere."""
    height, width = source.shape[-2:]
    valid = torch.ones(1, height, width)
    return Patch(source, mask * valid, valid, (0, 0, width, height))


def oval(box: tuple[int, int, int, int], seed: int = 1) -> Patch:
    """A random face in a box, valid but for a corner, with the oval mask of a face."""
    x0, y0, x1, y1 = box
    size = (y1 - y0, x1 - x0)
    mask = F.interpolate(face_mask(64)[None], size, mode="bilinear")[0]
    valid = torch.ones(1, *size)
    valid[:, : size[0] // 3, : size[1] // 3] = 0
    return Patch(random(3, *size, seed=seed), mask, valid, box)


def on_canvas(patch: Patch, shape: torch.Size) -> Patch:
    """The same patch in a box as large as the picture."""
    (x0, y0, x1, y1), (height, width) = patch.box, shape[-2:]
    region, mask, valid = (F.pad(x, (x0, width - x1, y0, height - y1)) for x in (patch.region, patch.mask, patch.valid))
    return Patch(region, mask, valid, (0, 0, width, height))


def dilated(mask: torch.Tensor, radius: int) -> torch.Tensor:
    return F.max_pool2d((mask > 0).float()[None], 2 * radius + 1, stride=1, padding=radius)[0] > 0


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("context", ["target", "reflect", "off"])
def test_a_source_equal_to_the_target_changes_nothing(size, context):
    target = random(3, *size)
    out = blend_faces(target, [everywhere(target, random(1, *size, seed=1))], context)
    assert (out - target).abs().max() < 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("weight", [0.25, 1.0])
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_a_constant_mask_mixes_source_and_target(size, weight, levels):
    target, source = random(3, *size), random(3, *size, seed=1)
    out = blend_faces(target, [everywhere(source, weight)], levels=levels)
    assert (out - torch.lerp(target, source, weight)).abs().max() < 1e-6


def test_a_change_of_contrast_and_brightness_passes_through_the_blend():
    target, patch = random(3, 90, 101), oval((20, 13, 77, 80))

    def change(x):
        return 0.4 * x + 0.3

    out = blend_faces(change(target), [replace(patch, region=change(patch.region))])
    assert (out - change(blend_faces(target, [patch]))).abs().max() < 1e-6


def test_without_context_an_empty_surrounding_darkens_the_seam_and_with_context_it_does_not():
    flat = torch.full((3, 96, 96), 0.5)
    box = (32, 32, 64, 64)
    inside = torch.ones(1, 32, 32)
    patch = Patch(flat[:, 32:64, 32:64], inside, inside, box)
    seam = blend_faces(flat, [patch], "off")
    outside = torch.ones(96, 96, dtype=torch.bool)
    outside[32:64, 32:64] = False
    assert seam[:, outside].min() < 0.45
    assert torch.equal(blend_faces(flat, [patch], "target"), flat)
    for context in ("lq", "reflect"):
        assert (blend_faces(flat, [patch], context, reference=flat) - flat).abs().max() < 1e-6


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("box", [(37, 22, 90, 85), (0, 0, 50, 60), (81, 70, 131, 117)], ids=str)
def test_farther_than_16_px_from_the_mask_not_a_bit_changes(context, box):
    target, patch = random(3, 117, 131), oval(box)
    out = blend_faces(target, [patch], context, reference=random(3, 117, 131, seed=2))
    far = ~dilated(on_canvas(patch, target.shape).mask, 16)[0]
    assert far.any() and torch.equal(out[:, far], target[:, far])
    assert not torch.equal(out, target)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("levels", [1, 3, 4])
@pytest.mark.parametrize("box", [(37, 41, 90, 85), (0, 3, 50, 60), (85, 70, 131, 117), (66, 70, 69, 71)], ids=str)
def test_blending_the_region_equals_blending_the_whole_picture(context, levels, box):
    target, reference, patch = random(3, 117, 131), random(3, 117, 131, seed=2), oval(box)
    region, whole = (
        blend_faces(target, [patch], context, levels, reference) for patch in (patch, on_canvas(patch, target.shape))
    )
    assert (region - whole).abs().max() < 1e-6


@pytest.mark.parametrize("context", ["target", "lq", "reflect"])
def test_a_mask_that_reaches_beyond_the_content_counts_only_where_content_is(context):
    target, patch = random(3, 117, 131), on_canvas(oval((37, 22, 90, 85)), torch.Size((3, 117, 131)))
    within = replace(patch, mask=(patch.valid > 0).float())
    beyond = replace(patch, mask=torch.ones_like(patch.mask))
    blended = [blend_faces(target, [one], context, reference=target) for one in (within, beyond)]
    assert torch.equal(*blended)


def test_garbage_beyond_the_content_does_not_bleed_in():
    target, patch = random(3, 117, 131), oval((37, 22, 90, 85))
    garbage = replace(patch, region=torch.where(patch.valid > 0, patch.region, torch.tensor(100.0)))
    for context in CONTEXTS:
        clean, dirty = (blend_faces(target, [one], context, reference=target) for one in (patch, garbage))
        assert (clean - dirty).abs().max() < 1e-5


def test_the_outermost_pixel_of_the_content_is_not_used_except_at_the_photographs_border():
    target = torch.zeros(3, 40, 40)
    source = torch.ones(3, 20, 20)
    full = torch.ones(1, 20, 20)
    out = blend_faces(target, [Patch(source, full, full, (0, 10, 20, 30))], levels=1)
    assert out[0, 10:30, 0].tolist() == [0.0] + [1.0] * 18 + [0.0]
    assert out[0, 20, :21].tolist() == [1.0] * 19 + [0.0] * 2


def test_disjoint_faces_may_come_in_any_order():
    target = random(3, 200, 220)
    patches = [oval((5, 5, 60, 60), 1), oval((120, 20, 180, 90), 2), oval((30, 120, 90, 190), 3)]
    assert torch.equal(blend_faces(target, patches), blend_faces(target, patches[::-1]))


def test_of_two_faces_in_one_place_the_smaller_lies_on_top():
    target = torch.zeros(3, 64, 64)
    large, small = (
        everywhere(torch.full((3, 64, 64), 0.5)),
        Patch(torch.ones(3, 32, 32), torch.ones(1, 32, 32), torch.ones(1, 32, 32), (16, 16, 48, 48)),
    )
    for patches in ([large, small], [small, large]):
        out = blend_faces(target, patches)
        assert out[0, 32, 32].item() == pytest.approx(1) and out[0, 2, 2].item() == pytest.approx(0.5)


def test_no_faces_and_empty_masks_give_the_target_back_bit_for_bit():
    target, patch = random(3, 50, 70), oval((10, 10, 40, 40))
    assert torch.equal(blend_faces(target, []), target)
    for context in CONTEXTS:
        out = blend_faces(target, [replace(patch, mask=patch.mask * 0)], context, reference=target)
        assert torch.equal(out, target)


def test_the_input_is_not_changed():
    target = random(3, 50, 70)
    before = target.clone()
    assert blend_faces(target, []) is not target
    blend_faces(target, [oval((10, 10, 40, 40))])
    assert torch.equal(target, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (7, 7)], ids=str)
@pytest.mark.parametrize("context", CONTEXTS)
def test_pictures_smaller_than_the_pyramid_work(size, context):
    target, source = random(3, *size), random(3, *size, seed=1)
    out = blend_faces(target, [everywhere(source)], context, reference=target)
    assert (out - source).abs().max() < 1e-6


def test_a_brighter_and_sharper_face_leaves_no_step_at_the_mask(astronaut):
    target = astronaut[0]
    soft = F.avg_pool2d(F.pad(target, (3, 3, 3, 3), mode="reflect"), 7, stride=1)
    x0, y0, x1, y1 = box = (130, 10, 330, 210)
    face = (target + 0.08)[:, y0:y1, x0:x1]
    patch = Patch(face, face_mask(200), torch.ones(1, 200, 200), box)
    change = (blend_faces(soft, [patch]) - soft).mean(0)
    low = F.avg_pool2d(change[None], 9, stride=1)[0]  # detail aside, the offset must rise gently
    steps = torch.cat([(low[1:] - low[:-1]).abs().flatten(), (low[:, 1:] - low[:, :-1]).abs().flatten()])
    assert low.max() > 0.07 and steps.quantile(0.999) < 0.025


def test_an_unknown_context_and_a_missing_reference_are_clear_errors():
    target = random(3, 20, 30)
    with pytest.raises(UserError, match="'sky'.*target, lq, reflect, off"):
        blend_faces(target, [], "sky")
    for reference in (None, random(3, 10, 15)):
        with pytest.raises(UserError, match="30x20"):
            blend_faces(target, [], "lq", reference=reference)

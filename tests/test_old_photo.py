"""Damage of old photographs: found, filled, and left alone where there is none."""

from __future__ import annotations

from dataclasses import replace

import cv2
import pytest
import torch
from personal_restore.cli.old_print import NOTE, notes_on_print
from personal_restore.lib.bridge import keep
from personal_restore.lib.degradation.estimate import clear_window
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.old_photo import local_damage
from personal_restore.lib.degradation.recipe import Recipe, Step
from personal_restore.lib.faces.align import crop_face
from personal_restore.lib.faces.detect import detect_faces
from personal_restore.lib.faces.extract import extract_face
from personal_restore.lib.pictures.files import read_picture, to_pil
from personal_restore.lib.vocabulary import Library, Person, Reference, UserError
from personal_restore.models.old_photo import apply, ready
from personal_restore.models.old_photo.filler import smoothly_filled
from personal_restore.models.old_photo.known_faces import fill_known_faces
from personal_restore.models.old_photo.neighbors import DIRECTIONS, REACH, colors_around, steps_to_known
from personal_restore.nodes.old_photo import DamageMask, FillDamage

SCRATCHES = {
    "seed": 5, "count": 14, "length": 0.5, "thickness": 0.004, "angle": 0.6, "spread": 1.0, "bend": 0.3, "breaks": 0.2, "tone": 0.95,
    "opacity": 1.0, "halo": 0.3, "warmth": 0.4,
}  # fmt: skip
SCRATCHED = Recipe((Step("scratches", SCRATCHES),))
BETTER = 2.0  # dB; measured: 2.3 and 2.5
CLEAN = "face_recognition/obama1.jpg", "deepface/img34.jpg", "photomaker/scarlett_0.jpg", "dlib/2008_002506.jpg"


@pytest.fixture(scope="module")
def scratched(astronaut):
    """The astronaut with drawn scratches, and where they are: ``[1, 3, 512, 512]``, ``[1, 1, 512, 512]``."""
    damage = torch.from_numpy(local_damage(SCRATCHED, 512, 512))[None, None]
    return SCRATCHED.apply(astronaut), apply.mask_of(damage, 0.3, 1)


def inside(picture, truth, mask) -> float:
    """PSNR in dB in the masked places."""
    return float(-10 * (mask * (picture - truth)).square().sum().div(3 * mask.sum()).log10())


def found_in(picture) -> torch.Tensor:
    return apply.mask_of(apply.find_damage(picture, ready.finder(keep)), apply.THRESHOLD, 0) > 0


def near(mask: torch.Tensor) -> torch.Tensor:
    return apply.mask_of(mask.float(), 0.5, 2) > 0


def test_distances_and_colors_are_those_of_a_walk_to_the_nearest_known_pixel():
    torch.manual_seed(0)
    holes = (torch.rand(2, 1, 9, 11) > 0.4).float()
    picture = torch.rand(2, 3, 9, 11)
    steps = steps_to_known(holes)
    index, colors = colors_around(picture, steps)
    assert len(index) == holes.sum()
    for row, at in enumerate(index.tolist()):
        batch, y, x = at // 99, at // 11 % 9, at % 11
        for number, (dx, dy) in enumerate(DIRECTIONS):
            far = 1
            while 0 <= x + far * dx < 11 and 0 <= y + far * dy < 9 and holes[batch, 0, y + far * dy, x + far * dx]:
                far += 1
            known = 0 <= x + far * dx < 11 and 0 <= y + far * dy < 9
            assert steps[batch, number, y, x] == (far if known else REACH)
            place = (y + far * dy, x + far * dx) if known else (y, x)
            assert torch.equal(colors[row, number], picture[batch, :, *place])


def test_a_smooth_filling_keeps_what_is_known_and_continues_a_ramp_into_any_hole(astronaut):
    holes = torch.zeros(1, 1, 512, 512)
    holes[..., 100:400, 150:300] = 1
    filled = smoothly_filled(astronaut * (1 - holes), holes)
    assert torch.equal(torch.where(holes > 0, astronaut, filled), astronaut)
    ramp = torch.linspace(0, 1, 512).expand(1, 3, 512, 512)
    assert (smoothly_filled(ramp * (1 - holes), holes) - ramp).abs().max() < 0.08


def test_pixels_stay_bit_for_bit_where_mask_or_strength_is_zero(scratched):
    picture, mask = scratched
    image, plane = picture.permute(0, 2, 3, 1), mask[:, 0]
    full, half, none = (FillDamage.execute(image, plane, strength).args[0] for strength in (1.0, 0.5, 0.0))
    untouched = plane[..., None] == 0
    for one in (full, half):
        assert torch.equal(torch.where(untouched, one, image), image) and not torch.equal(one, image)
    assert torch.equal(none, image) and torch.equal(FillDamage.execute(image, plane * 0, 1.0).args[0], image)
    assert torch.allclose(half, (full + image) / 2, atol=1e-6)


def test_what_is_under_the_mask_does_not_matter(scratched, astronaut):
    _, mask = scratched
    filled = [
        apply.fill_damage(torch.where(mask > 0, tone, astronaut), mask, 1.0, ready.filler(keep)) for tone in (0.0, 1.0)
    ]
    assert torch.equal(*filled)


def test_a_photograph_in_tiles_is_filled_as_in_one_piece(scratched, monkeypatch):
    picture, mask = scratched
    tiled = apply.fill_damage(picture, mask, 1.0, ready.filler(keep))
    monkeypatch.setattr(apply, "FILLER_TILE", 512)
    assert (apply.fill_damage(picture, mask, 1.0, ready.filler(keep)) - tiled).abs().mean() < 1e-4


def test_any_size_is_found_and_filled(astronaut):
    odd = astronaut[..., :37, :51]
    mask, shown = DamageMask.execute(odd.permute(0, 2, 3, 1), 0.5, 2).args
    assert mask.shape == (1, 37, 51) and shown.shape == (1, 37, 51, 3)
    assert FillDamage.execute(odd.permute(0, 2, 3, 1), torch.ones(1, 37, 51), 1.0).args[0].isfinite().all()


def test_masks_that_do_not_fit_are_refused(astronaut):
    image = astronaut.permute(0, 2, 3, 1)
    for mask in (torch.ones(1, 256, 512), torch.ones(2, 512, 512)):
        with pytest.raises(UserError, match=r"Fill Damage: there are \d mask"):
            FillDamage.execute(image, mask, 1.0)


def test_the_code_is_read_beside_what_was_filled():
    mask = torch.zeros(200, 160)
    assert clear_window(mask) == (0, 0, 160, 200)
    mask[:, 100:110] = 1
    x, y, width, height = clear_window(mask)
    assert mask[y : y + height, x : x + width].mean() == 0 and height >= 100
    assert clear_window(torch.ones(40, 40)) == (0, 0, 40, 40)


def test_weights_of_another_kind_are_refused(tmp_path):
    (tmp_path / "old_filler.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="install the pack again"):
        ready.load(tmp_path / "old_filler.safetensors")


def test_the_weights_take_less_than_ten_megabytes():
    sizes = [path.stat().st_size for path in (ready.FINDER, ready.FILLER)]
    assert sizes[0] < 3e6 and sizes[1] < 6e6


@pytest.mark.parametrize("seed", [9, 29])
def test_drawn_damage_is_found_within_two_pixels(astronaut, seed):
    recipe = FAMILIES["old_photo"](seed)
    truth = torch.from_numpy(local_damage(recipe, 512, 512))[None, None] >= 0.3
    found = found_in(recipe.apply(astronaut))
    right, seen = (found & near(truth)).sum() / found.sum(), (truth & near(found)).sum() / truth.sum()
    assert right > 0.8 and seen > 0.8  # measured: .96 and .95, .87 and .96


def test_undamaged_photographs_of_many_kinds_are_left_alone(photos):
    for name in CLEAN:
        assert found_in(read_picture(photos / name)[None]).float().mean() < 1e-3, name


def test_filling_is_nearer_to_the_truth_than_opencv(scratched, astronaut):
    picture, mask = scratched
    ours = inside(apply.fill_damage(picture, mask, 1.0, ready.filler(keep)), astronaut, mask)
    shown = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    for way in (cv2.INPAINT_TELEA, cv2.INPAINT_NS):
        theirs = cv2.inpaint(shown, mask[0, 0].byte().numpy(), 3, way)
        theirs = torch.from_numpy(theirs).permute(2, 0, 1)[None].float() / 255
        assert ours > inside(theirs, astronaut, mask) + BETTER


def test_a_scratch_through_a_known_face_is_filled_from_the_album(astronaut):
    found = max(detect_faces(astronaut[0]), key=lambda one: one.box[2] - one.box[0])
    light = torch.linspace(0.8, 1.15, 512)[None, None]
    crop = crop_face((astronaut[0] * light).clamp(0, 1), found.landmarks)[0]
    library = Library((Person("Eileen", (Reference("a.jpg", crop, found.landmarks),)),))
    eye = found.landmarks[0].round().astype(int)
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., eye[1] - 4 : eye[1] + 4, eye[0] - 14 : eye[0] + 14] = 1
    filled = apply.fill_damage(astronaut, mask, 1.0, ready.filler(keep))[0]
    face = replace(extract_face(filled, found), person="Eileen", confidence=1.0)
    known, (again,) = fill_known_faces(filled, mask[0], (face,), library, 1.0)
    assert inside(known, astronaut[0], mask[0]) > inside(filled, astronaut[0], mask[0]) + 3
    assert torch.equal(torch.where(mask[0] > 0, astronaut[0], known), astronaut[0])
    assert not torch.equal(again.crop, face.crop)
    stranger, _ = fill_known_faces(filled, mask[0], (replace(face, person=None),), library, 1.0)
    assert torch.equal(stranger, filled)


def test_restore_says_that_a_photograph_looks_like_a_scratched_print(photos, astronaut):
    graph = {"1": {"class_type": "PR_RestoreScene", "inputs": {}}}
    for name in ("old_w_scratch_a.png", "old_w_scratch_b.png"):
        scratched = to_pil(read_picture(photos / "bopbl" / name))
        assert notes_on_print(graph, scratched) == (NOTE,)
        assert notes_on_print({"1": {"class_type": "PR_DamageMask", "inputs": {}}}, scratched) == ()
    for clean in (astronaut[0], *(read_picture(photos / name) for name in (*CLEAN, "kodak/04.png", "kodak/15.png"))):
        assert notes_on_print(graph, to_pil(clean)) == ()

"""What repeats around a hole, and what is made of it: textures go on, and nothing else is invented."""

from __future__ import annotations

import math

import pytest
import torch
from personal_restore.lib.bridge import keep
from personal_restore.models.old_photo import apply, ready, repeats
from personal_restore.models.old_photo.repeats import NONE, repeated

PERIOD = 7.3  # pixels, as of a halftone


def blob(height: int, width: int, y: int, x: int, radius: int) -> torch.Tensor:
    """A round hole, ``[1, 1, H, W]``."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows - y) ** 2 + (columns - x) ** 2 <= radius**2).float()[None, None]


def texture(height: int, width: int) -> torch.Tensor:
    """Dots on a turned screen, in one color, ``[1, 3, H, W]``."""
    y, x = torch.arange(height)[:, None].float(), torch.arange(width).float()
    along, across = 0.9 * x + 0.4 * y, 0.9 * y - 0.4 * x
    dots = 0.5 + 0.2 * (2 * math.pi / PERIOD * along).cos() + 0.2 * (2 * math.pi / PERIOD * across).cos()
    return dots * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)


def error(a: torch.Tensor, b: torch.Tensor, holes: torch.Tensor) -> float:
    """Root mean square inside the holes."""
    return float(((a - b).square().mean(1, keepdim=True) * holes).sum().div(holes.sum()).sqrt())


@pytest.mark.parametrize("place", [(90, 70), (0, 3), (199, 179)])
def test_a_texture_goes_on_in_the_hole_also_at_the_border(place):
    picture, holes = texture(200, 180), blob(200, 180, *place, 12)
    again, misfit = repeated(picture * (1 - holes), holes)
    assert error(again, picture, holes) < 0.05 and misfit.min() >= 0 and misfit[holes > 0].max() < 2e-3


def test_the_filler_makes_use_of_what_repeats(monkeypatch):
    picture, holes = texture(200, 180), blob(200, 180, 90, 70, 12)
    filled = apply.fill_damage(picture, holes, 1.0, ready.filler(keep))
    monkeypatch.setattr(apply, "repeated", lambda smooth, holes, working: (smooth * 0, holes * 0 + NONE))
    without = apply.fill_damage(picture, holes, 1.0, ready.filler(keep))
    assert error(filled, picture, holes) < 0.35 * error(without, picture, holes)


def test_a_wide_hole_in_a_light_wall_becomes_no_darker():
    picture, holes = torch.full((1, 3, 320, 320), 0.9), blob(320, 320, 160, 160, 110)
    filled = apply.fill_damage(picture, holes, 1.0, ready.filler(keep))
    assert (
        filled - picture
    ).abs().max() < 6 / 255  # measured: 4.2; 10.7 where black is weighed for what does not repeat


def test_filling_can_be_canceled_before_the_first_tile():
    def cancel(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        apply.fill_damage(texture(60, 60), blob(60, 60, 30, 30, 5), 1.0, ready.filler(keep), cancel)


def test_what_was_seen_elsewhere_is_found_again():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 160, 160)
    picture[..., 65:95, 65:95] = picture[..., 48:78, 96:126]
    holes = blob(160, 160, 80, 80, 3)
    again, misfit = repeated(picture * (1 - holes), holes)
    assert misfit[holes > 0].max() < 1e-5
    assert torch.allclose(again[holes.expand_as(again) > 0], picture[holes.expand_as(again) > 0], atol=1e-3)


def test_a_picture_smaller_than_a_block_goes_on_too():
    picture, holes = texture(40, 31), blob(40, 31, 20, 15, 3)
    again, _ = repeated(picture * (1 - holes), holes)
    assert error(again, picture, holes) < 0.1


@pytest.mark.parametrize("hole", [0.0, 1.0])
def test_nothing_repeats_where_all_or_nothing_is_hole(hole):
    again, misfit = repeated(torch.rand(1, 3, 40, 70), torch.full((1, 1, 40, 70), hole))
    assert not again.any() and (misfit == NONE).all()


def test_neither_what_is_in_the_holes_nor_the_other_pictures_of_a_batch_matter():
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 61, 97)
    holes = torch.cat([blob(61, 97, 20, 30, 6), blob(61, 97, 40, 80, 9)])
    together = repeated(picture, holes)
    for number in range(2):
        one = slice(number, number + 1)
        other = torch.where(holes[one] > 0, 1 - picture[one], picture[one])
        for a, b in zip(repeated(other, holes[one]), together, strict=True):
            assert torch.allclose(a, b[one], atol=1e-5)


def test_it_makes_no_difference_how_many_blocks_are_computed_at_once(monkeypatch):
    picture, holes = texture(120, 240), blob(120, 240, 40, 40, 10) + blob(120, 240, 60, 190, 10)
    once = repeated(picture, holes)
    monkeypatch.setattr(repeats, "TOGETHER", 1)
    for a, b in zip(repeated(picture, holes), once, strict=True):
        assert torch.allclose(a, b, atol=1e-5)

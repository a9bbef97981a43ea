"""Face2Scene's stages from a face pair to a code, one node each: the same as their sum, and what can be wired between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.picture import map_picture
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.vocabulary import Conditions, DegradationMaps, FacePairs, Faces, UserError
from personal_restore.models.embedded import ready
from personal_restore.models.embedded.mapnet import TOKEN_SETS
from personal_restore.nodes.estimate import (
    EMBEDDED,
    NO_FACE,
    DamageGauge,
    EstimateDegradation,
    FacePair,
    FacePairFromImages,
    FaDeX,
    MapNet,
)
from personal_restore.nodes.layout import to_image


@pytest.fixture(scope="module")
def damaged(astronaut) -> tuple[torch.Tensor, Faces]:
    """Three photographs under one degradation, the one in the middle without a restored face, and their faces."""
    photo = FAMILIES["trial"](14).apply(astronaut)
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    face = replace(face, crop=make_face(photo[0], face).crop, restored=face.crop)
    smaller = replace(
        face, box=tuple((side + middle) / 2 for side, middle in zip(face.box, (224, 120) * 2, strict=True))
    )
    return photo.repeat(3, 1, 1, 1), Faces(((smaller,), (), (face,)), tuple(photo.shape[-2:]))


def one_by_one(photos, faces, face=-1, one_for_all=False, tokens="all 21"):
    pair, _ = FacePair.execute(to_image(photos), faces, face, one_for_all).args
    maps, _ = FaDeX.execute(pair, EMBEDDED).args
    return (*MapNet.execute(maps, tokens).args, *DamageGauge.execute(maps).args)


@pytest.mark.parametrize("choice", [{}, {"one_for_all": True}, {"face": 0}])
def test_the_stages_are_the_sum(damaged, choice):
    photos, faces = damaged
    code, report, gauge = one_by_one(photos, faces, **choice)
    whole, its_report, its_gauge = EstimateDegradation.execute(to_image(photos), faces, **{"face": -1, **choice}).args
    assert report == its_report and torch.equal(gauge, its_gauge) and code.space == whole.space
    assert len(code.frames) == len(whole.frames) == (0 if choice else 3)
    for one, other in zip((code, *code.frames), (whole, *whole.frames), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (
                torch.equal(one.tokens, other.tokens)
                and torch.equal(one.map, other.map)
                and one.scalars == other.scalars
            )
    if not choice:
        assert code.frames[1] is None and torch.equal(code.map, code.frames[2].map), "that of the largest face"


def test_without_a_restored_face_every_stage_passes_nothing_on(damaged):
    photos, faces = damaged
    code, report, gauge = one_by_one(photos, replace(faces, frames=((), (), ())))
    assert code is None and report == NO_FACE and gauge.shape[0] == 1


def test_a_token_set_is_the_pooled_cells_of_its_scales(damaged):
    """Computed here from MapNet's parts, scale by scale; the numbers in the names are how many tokens there are."""
    photos, faces = damaged
    pair, _ = FacePair.execute(to_image(photos[2:]), replace(faces, frames=faces.frames[2:]), -1, False).args
    maps, _ = FaDeX.execute(pair, EMBEDDED).args
    net = ready.extractor(lambda module: lambda: module)().mapnet
    grid = net.embed(maps.frames[0])
    attended = net.attention(net.norm(grid.flatten(2).mT)).mT.unflatten(-1, grid.shape[-2:])
    local, middle, whole = (
        head(F.adaptive_avg_pool2d(attended, side).flatten(2).mT)
        for head, side in zip(net.heads, (4, 2, 1), strict=True)
    )
    expected = {
        "all 21": torch.cat([local, middle, whole], 1),
        "1 global": whole,
        "5 global and intermediate": torch.cat([middle, whole], 1),
        "4 intermediate": middle,
        "16 local": local,
    }
    assert expected.keys() == TOKEN_SETS.keys()
    for name, tokens in expected.items():
        found = MapNet.execute(maps, name).args[0].tokens
        assert torch.allclose(found, tokens, atol=1e-5) and str(found.shape[1]) in name


def test_a_restorer_takes_any_token_set_and_each_changes_the_picture(damaged):
    photos, faces = damaged
    restorer, view = ready.restorer(lambda module: lambda: module), photos[:1, :, 80:144, 190:254]
    results = []
    for name in TOKEN_SETS:
        code = one_by_one(photos, faces, face=1, tokens=name)[0]
        results.append(restorer.restore(view, Conditions(code=code)))
    for number, one in enumerate(results):
        for other in results[:number]:
            assert (one - other).abs().max() > 1e-4


def test_pictures_from_elsewhere_are_a_pair_too(damaged, astronaut):
    """The restored region and the damaged one as they lie in the photograph give nearly the node's own code."""
    photos, faces = damaged
    pair, shown = FacePair.execute(to_image(photos[:1]), replace(faces, frames=faces.frames[2:]), -1, False).args
    high, low = (one[None] for one in pair.frames[0].split(3))
    again, shown_again = FacePairFromImages.execute(to_image(high), to_image(low)).args
    assert torch.equal(again.frames[0], pair.frames[0]) and torch.equal(shown, shown_again)
    large = F.interpolate(astronaut, (500, 700))
    (one,) = FacePairFromImages.execute(to_image(large), to_image(large * 0.5)).args[0].frames
    assert one.shape == (6, 384, 384) and torch.equal(one[:3], large[0, :, 58:442, 158:542])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((1, 40, 40, 3), (1, 40, 41, 3)), "restored has 1 of 40x40 px, but damaged has 1 of 41x40 px"),
        (((2, 40, 40, 3), (1, 40, 40, 3)), "restored has 2 of 40x40 px"),
        (((1, 15, 40, 3), (1, 15, 40, 3)), "40x15 px, but at least 16 px"),
    ],
)
def test_pictures_that_are_no_pair_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        FacePairFromImages.execute(*(torch.rand(size) for size in sizes))


def test_the_map_s_colors_show_where_the_damage_differs(astronaut):
    """Noise on one half of the face: in some color the halves differ by twice what differs within them; noise everywhere: in none."""
    clean = astronaut[0, :, 60:188, 160:288]
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

    def halves_differ(noise: torch.Tensor) -> float:
        maps, picture = FaDeX.execute(FacePairs((torch.cat([clean, (clean + noise).clamp(0, 1)]),)), EMBEDDED).args
        assert picture.shape == (1, 128, 128, 3) and 0 <= picture.min() <= picture.max() <= 1
        assert torch.equal(picture[0].movedim(-1, 0), map_picture(maps.frames[0]))
        left, right = picture[0, :, :60].flatten(0, 1), picture[0, :, 68:].flatten(0, 1)
        return float(((left.mean(0) - right.mean(0)).abs() / left.std(0)).max())

    half = noise * (torch.arange(128) >= 64)
    assert halves_differ(half) > 2 and halves_differ(noise) < 0.5


def test_a_map_of_a_replaced_extractor_is_refused(damaged):
    maps = DegradationMaps((torch.zeros(1, 128, 4, 4),), 0, EMBEDDED, "another space")
    with pytest.raises(UserError, match="MapNet: embedded was replaced"):
        MapNet.execute(maps, "all 21")

"""The embedded networks in bfloat16, as they run where the CPU multiplies it, beside the same in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from personal_restore.lib.bridge import keep
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.standin import host
from personal_restore.lib.vocabulary import Conditions, Reference
from personal_restore.models.album import ready as album
from personal_restore.models.album.restorer import AlbumRestorer
from personal_restore.models.embedded import ready as embedded
from personal_restore.models.embedded.estimate import estimate_code
from personal_restore.models.embedded.one_step_restorer import OneStepRestorer
from personal_restore.models.embedded.weights import Extractor

LEVEL = 1 / 255


@dataclass(frozen=True)
class Networks:
    scene: OneStepRestorer
    extractor: Extractor
    face: AlbumRestorer


def networks(half: bool) -> Networks:
    """As they are loaded on a CPU that has or has not bfloat16."""

    def kept(module):  # a new function each time, so that they are loaded anew
        return keep(module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "device", lambda: torch.device("cpu"))
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: half, raising=False)
        return Networks(embedded.restorer(kept), embedded.extractor(kept)(), album.restorer(kept))


@pytest.fixture(scope="module")
def single() -> Networks:
    return networks(half=False)


@pytest.fixture(scope="module")
def half() -> Networks:
    return networks(half=True)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def middle(picture: torch.Tensor, side: int = 256) -> torch.Tensor:
    top, left = (max(length - side, 0) // 2 for length in picture.shape[-2:])
    return picture[..., top : top + side, left : left + side]


def compare(one: torch.Tensor, other: torch.Tensor) -> None:
    """Half a level in the mean and two at most. Measured on 8 photographs: .07 and .8."""
    apart = (one - other).abs()
    assert 0 < apart.mean() < LEVEL / 2
    assert apart.max() < 2 * LEVEL


def restored(networks: Networks, clean: torch.Tensor, damaged: torch.Tensor) -> torch.Tensor:
    code = estimate_code(networks.extractor, torch.cat([clean, damaged], 1)[0])
    return networks.scene.restore(damaged, Conditions(code=code))


def test_the_precision_is_what_the_cpu_allows(single, half):
    for all_of_them, expected in ((single, torch.float32), (half, torch.bfloat16)):
        scene, reader = all_of_them.scene.load(), all_of_them.extractor.fadex.E
        assert (scene.stem.weight.dtype, reader[0].weight.dtype) == (torch.float32, torch.float32), "they see a picture"
        parts = scene.encoder, scene.decoder, scene.head, reader[-2], all_of_them.face.load()
        assert {weight.dtype for part in parts for weight in part.parameters()} == {expected}


@pytest.mark.parametrize("name", ["codeformer/00.jpg", "face_recognition/obama1.jpg", "deoldify/1850Geography.jpg"])
def test_photographs_look_the_same(single, half, photos, name):
    clean = middle(read_picture(photos / name)[None])
    damaged = FAMILIES["mild"](3).apply(clean)
    one, other = (restored(networks, clean, damaged) for networks in (single, half))
    compare(one, other)
    assert psnr(one, clean) == pytest.approx(psnr(other, clean), abs=0.01)  # measured: .003 dB


def test_the_damage_is_read_alike(single, half, astronaut):
    clean = middle(astronaut)
    pair = torch.cat([clean, FAMILIES["mild"](3).apply(clean)], 1)[0]
    one, other = (estimate_code(networks.extractor, pair).scalars for networks in (single, half))
    # Measured: .07 % of the noise, less of everything else.
    assert other == pytest.approx(one, rel=0.02, abs=0.02)


def test_a_face_is_the_same_with_its_album(single, half, astronaut):
    face = astronaut[0, :, :256, 96:352].repeat_interleave(2, 1).repeat_interleave(2, 2)
    damaged = FAMILIES["mild"](3).apply(face[None])
    references = tuple(Reference(f"{n}.jpg", picture, None) for n, picture in enumerate((face, face.flip(-1))))
    one, other = (networks.face.restore(damaged, Conditions(references)) for networks in (single, half))
    compare(one, other)

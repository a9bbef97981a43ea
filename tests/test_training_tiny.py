"""The stage that makes the small diffusion base: true captions, a loss whose parts are what they say, and what it exports."""

from __future__ import annotations

import pytest
import torch
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.tiny_diffusion import WORDS
from personal_restore.tests.tiny_base import Small
from personal_restore.training.data import DataConfig
from personal_restore.training.tiny_diffusion import NoiseLoss, caption, export_tiny_diffusion


def words(picture: torch.Tensor, damaged: bool = False) -> set[str]:
    rows = caption(picture[None], torch.tensor([damaged]), torch.ones(1, len(WORDS), dtype=torch.bool))
    return {WORDS[row - 1] for row in rows[0].tolist() if row}


def test_captions_say_what_is_true():
    flat = torch.ones(3, 16, 16)
    assert words(flat * 0.1) == {"dark", "grey", "smooth", "clean"}
    assert words(flat * 0.9, damaged=True) == {"bright", "grey", "smooth", "damaged"}
    red = flat * torch.tensor([0.8, 0.4, 0.4]).view(3, 1, 1)
    assert words(red) == {"red", "smooth", "clean"}
    assert "busy" in words(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)))


def test_a_word_left_out_is_not_in_the_caption():
    rows = caption(torch.zeros(1, 3, 8, 8), torch.tensor([False]), torch.zeros(1, len(WORDS), dtype=torch.bool))
    assert not rows.any()


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    clean = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return {"clean": clean, "damaged": clean.roll(1, -1)}


def test_a_fresh_network_errs_as_it_must_and_its_parts_add_up(batch):
    """It predicts no velocity, whose mean square is between that of the noise and that of the picture."""
    torch.manual_seed(0)
    net = Small(width=32)
    torch.nn.init.zeros_(net.unet.conv_out.weight)
    torch.nn.init.zeros_(net.unet.conv_out.bias)
    terms = NoiseLoss(net)(batch)
    assert 0.2 < terms["loss"] < 1.2
    assert {"loss", "controlled", "alone"} == terms.keys()


@pytest.mark.parametrize(("alone", "trained"), [(1.0, False), (0.0, True)])
def test_the_control_learns_only_where_it_is_connected(batch, alone, trained):
    torch.manual_seed(0)
    net = Small(width=32)
    NoiseLoss(net, alone=alone)(batch)["loss"].backward()
    zero = [one[0].weight.grad for one in net.control.zero_convs]
    assert any(gradient is not None and bool(gradient.any()) for gradient in zero) == trained


def test_negatives_aim_at_the_damaged_picture_and_say_so(batch, monkeypatch):
    seen = {}
    net = Small(width=32)
    monkeypatch.setattr(
        type(net.text),
        "forward",
        lambda self, rows, learnt=None: seen.setdefault("rows", rows) is None or self.rows[rows],
    )
    clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
    encoded = []
    monkeypatch.setattr(type(net), "encode", lambda self, x: encoded.append(x) or torch.zeros(len(x), 48, 8, 8))
    NoiseLoss(net, negative=1.0)(batch)
    assert torch.equal(encoded[0], damaged) and torch.equal(encoded[1], damaged)
    assert (seen["rows"] == 1 + WORDS.index("damaged")).any(1).all()
    encoded.clear()
    NoiseLoss(net, negative=0.0)(batch)
    assert torch.equal(encoded[0], clean) and torch.equal(encoded[1], damaged)


def test_the_export_loads_with_its_provenance_and_is_small_enough_to_ship(tmp_path):
    from personal_restore.models.embedded.tiny_diffusion import TinyDiffusion

    torch.manual_seed(0)
    net = TinyDiffusion()
    export_tiny_diffusion(net, DataConfig(), tmp_path)
    path = tmp_path / "tiny_diffusion.safetensors"
    assert path.stat().st_size <= 5_000_000
    loaded, metadata = embedded.load_embedded(path)
    assert "no photograph" in metadata["provenance"]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value.half().float(), rtol=0, atol=0)

"""The prior of Restoration by Generation: its two published sizes, training it from nothing, and restoring with what came of it."""

from __future__ import annotations

import json

import pytest
import torch
from personal_restore.lib.vocabulary import Conditions, UserError
from personal_restore.models.gen2res import adm_unet
from personal_restore.models.gen2res.adm_unet import SIZES, ADMUNet, read_flags
from personal_restore.nodes.generation import RestorationByGeneration
from personal_restore.nodes.train_faces import SIZES as OFFERED
from personal_restore.nodes.train_faces import TrainGenerator
from personal_restore.tests.photographs import picture
from personal_restore.training import generator
from personal_restore.training.faces_folder import FaceFiles
from personal_restore.training.generator import MODELS, GeneratorLoss

pytestmark = pytest.mark.usefixtures("separate_folders")
SMALL = {
    "image_size": 32,
    "num_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": "16",
    "channel_mult": "1,1",
}


@pytest.fixture
def folder(tmp_path, small, monkeypatch):
    """The input and the models folder, with three pictures of a face in the former."""
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    for number in range(3):
        picture(tmp_path / "photographs" / f"{number}.png", small[..., 8 * number : 8 * number + 160, 40:210])
    return tmp_path


def test_the_published_models_are_those_of_table_1():
    """512 px: 256 channels times .5, 1, 1, 2, 2, 4, 4, heads of 64 channels, attention at 32, 16 and 8 px."""
    with torch.device("meta"):
        large = ADMUNet(**SIZES[512])
    widths = [
        stage[0].out_layers[-1].out_channels for stage in large.input_blocks[1:] if hasattr(stage[0], "out_layers")
    ]
    assert large.input_blocks[0][0].out_channels == 128
    assert [widths[3 * level] for level in range(7)] == [128, 256, 256, 512, 512, 1024, 1024]
    attended = {
        (3 * level + index, block.heads)
        for level in range(7)
        for index in range(2)
        for block in large.input_blocks[1 + 3 * level + index]
        if hasattr(block, "heads")
    }
    assert {place // 3 for place, _ in attended} == {4, 5, 6}, "at 512 / 2^4, 2^5 and 2^6"
    assert all(widths[place] // heads == 64 for place, heads in attended)
    assert [row[1:] for row in MODELS.values()] == [(20_000, 16), (200_000, 256), (2_320_000, 32)]
    assert tuple(MODELS) == OFFERED and generator.Config().schedule.learning_rate == 1e-4


def test_the_rate_stays_and_the_average_follows():
    torch.manual_seed(0)
    task = GeneratorLoss(ADMUNet(**SMALL))
    before = task.average.time_embed[0].weight.clone()
    with torch.no_grad():
        task.network.time_embed[0].weight += 1
    task.follow()
    torch.testing.assert_close(task.average.time_embed[0].weight, 0.1 * before + 0.9 * (before + 1))
    assert not any(one.requires_grad for one in task.average.parameters()) and int(task.seen) == 1


def test_faces_are_squares_in_the_middle_or_random_crops_at_their_own_scale(folder):
    files = sorted((folder / "photographs").glob("*.png"))
    whole, crops = (FaceFiles(files, 48, 40, share) for share in (0.0, 1.0))
    assert all(one[index]["picture"].shape == (3, 48, 48) for one in (whole, crops) for index in range(10))
    seen = torch.stack([whole[index]["picture"] for index in range(40)])
    assert len(seen.flatten(1).unique(dim=0)) == 6, "three pictures, mirrored or not"
    assert len(torch.stack([crops[index]["picture"] for index in range(40)]).flatten(1).unique(dim=0)) > 30


def test_a_generator_is_trained_from_nothing_and_restores_under_its_name(folder, small, monkeypatch):
    monkeypatch.setitem(generator.MODELS, "small, 64 px", (SMALL, 3, 2))
    given = {"photographs": "photographs", "name": "mine", "model": "small, 64 px", "learning_rate": 1e-3, "seed": 0}
    with torch.inference_mode():
        report = TrainGenerator.execute(**given, steps=2, batch=2, preset="own").args[0]
        assert "mine.safetensors, 2 steps on 3 pictures" in report
        assert "3 steps" in TrainGenerator.execute(**given, steps=2, batch=2, preset="published").args[0]
        made = RestorationByGeneration.execute(0.004, 0.0, "mine.safetensors").args[0]
    face = small[..., 40:72, 100:132]
    assert made.native_size == 32 and made.base.startswith("generator ")
    out = made.restore(face, Conditions())
    assert out.shape == face.shape and not torch.equal(out, face)
    with pytest.raises(UserError, match="no model 'other.pt'. Known: mine.safetensors"):
        RestorationByGeneration.execute(0.2, 0.0, "other.pt")


@pytest.mark.parametrize(("channels", "size"), [(128, 256), (256, 512)])
def test_a_file_of_guided_diffusion_is_known_by_its_width(tmp_path, channels, size):
    torch.save({"time_embed.0.weight": torch.zeros(4 * channels, channels)}, tmp_path / "model.pt")
    assert read_flags(tmp_path / "model.pt") == SIZES[size]


def test_other_files_are_refused(tmp_path):
    torch.save({"time_embed.0.weight": torch.zeros(12, 3)}, tmp_path / "other.pt")
    adm_unet.write_tensors(
        tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"kind": "persona", "flags": json.dumps({})}
    )
    for name in ("other.pt", "other.safetensors"):
        with pytest.raises(UserError, match=f"{name} is no face model that is known here"):
            read_flags(tmp_path / name)

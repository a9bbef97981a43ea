"""How the finder and the filler of old photographs are trained: pictures, marks, holes, and both trainings."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from personal_restore.cli.main import main
from personal_restore.lib.vocabulary import Place, UserError
from personal_restore.models.old_photo import ready
from personal_restore.models.old_photo.finder import Finder
from personal_restore.training import procedural
from personal_restore.training.loop import Schedule
from personal_restore.training.old_photo import crops, filler, finder, pictures, samples
from personal_restore.training.old_photo.holes import draw_holes
from personal_restore.training.old_photo.lookalikes import KINDS

CPU = Place(torch.device("cpu"))
SHORT = Schedule(steps=2, batch=2, learning_rate=1e-3, workers=0)


@pytest.fixture
def sources(tmp_path, monkeypatch) -> pictures.Sources:
    """Drawn pictures in the place of photographs; shards of two."""
    for module in (pictures, samples):
        monkeypatch.setattr(module, "SHARD", 2)
    monkeypatch.setattr(filler, "TESTED", 2)
    paths = tuple(tmp_path / f"{number}.jpg" for number in range(2))
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), procedural.draw_picture(number, 160))
    return pictures.Sources(paths, paths, paths)


@pytest.mark.slow
def test_pictures_samples_and_both_trainings_from_files_to_weights(sources, tmp_path):
    pictures.write_pictures(sources, tmp_path / "pictures", range(3))
    first = (tmp_path / "pictures" / "shard_00000.npy").read_bytes()
    pictures.write_pictures(sources, tmp_path / "again", range(1))
    assert (tmp_path / "again" / "shard_00000.npy").read_bytes() == first
    samples.write_samples(tmp_path / "pictures", tmp_path / "samples", range(4))
    shapes = {np.load(path).shape for path in (tmp_path / "samples").glob("*.npy")}
    assert shapes == {(2, pictures.SIDE, pictures.SIDE, 7)}
    found, figures = finder.train_finder(tmp_path / "samples", tmp_path / "finder", CPU, SHORT)
    assert figures["samples"] == 2 and all(0 <= x <= 1 for row in figures["held_back"].values() for x in row)
    filled, figures = filler.train_filler(tmp_path / "samples", tmp_path / "filler", CPU, SHORT)
    assert figures["held_back"].keys() == {"filler", "smooth", "telea", "navier_stokes"}
    for network in (found, filled):
        ready.save_network(network, figures, tmp_path / "weights.safetensors")
        loaded = ready.load(tmp_path / "weights.safetensors")
        assert type(loaded) is type(network)
        assert all(
            torch.allclose(a, b, atol=1e-3) for a, b in zip(loaded.parameters(), network.parameters(), strict=True)
        )


class Bright(torch.nn.Conv2d):
    """Takes what is bright for damage."""

    multiple = 2

    def __init__(self):
        super().__init__(3, 1, 1)
        torch.nn.init.constant_(self.weight, 10)
        torch.nn.init.constant_(self.bias, -15)


def test_the_hardest_samples_are_undamaged_ones_in_which_the_most_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 2)
    monkeypatch.setattr(samples, "HARDEST", 1)
    dark_and_bright = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (20, 235)])
    for number in range(4):
        np.save(tmp_path / f"shard_{number:05d}.npy", dark_and_bright)
    samples.write_hard_samples(tmp_path, tmp_path / "hard", Bright())
    (path,) = (tmp_path / "hard").iterdir()
    hard = np.load(path)
    assert hard.shape == (2, 64, 64, 7) and not hard[..., 3].any() and hard[..., :3].mean() > 128
    assert np.array_equal(hard[..., :3], hard[..., 4:])


def test_what_looks_like_damage_is_drawn_and_the_same_for_the_same_seed():
    for draw in KINDS:
        planes = [np.zeros((300, 300), np.uint8) for _ in range(2)]
        for seed in range(6):  # one alone may lie beyond the picture
            for plane in planes:
                draw(plane, np.random.default_rng(seed))
        assert planes[0].max() > 60 and planes[0].min() == 0 and np.array_equal(*planes), draw.__name__


def test_holes_cover_what_was_asked_for():
    shares = [draw_holes(np.random.default_rng(seed), 128).mean() for seed in range(20)]
    assert min(shares) > 0.03 and np.median(shares) < 0.3 and max(shares) < 0.7


def test_a_smear_is_strongest_in_the_holes_and_reaches_beyond_them():
    picture, holes = np.full((3, 64, 64), 120, np.uint8), np.zeros((64, 64), np.float32)
    holes[30:34] = 1
    change = np.abs(filler.smeared(picture, holes, np.random.default_rng(0)).astype(int) - 120).max((0, 2))
    assert change[31] > change[29] > 0 and change[:24].max() == 0


def striped(side: int = 160) -> np.ndarray:
    """One sample of noise below 200, with four damaged rows of 255."""
    sample = np.random.default_rng(0).integers(0, 200, (1, side, side, samples.CHANNELS), dtype=np.uint8)
    sample[..., 3] = 0
    sample[:, 40:44, :, 3] = 255
    sample[..., :3] = np.where(sample[..., 3:4] > 0, 255, sample[..., 4:])
    return sample


def test_most_crops_of_the_filler_hide_drawn_damage_and_their_truth_is_the_print_without_it():
    seen = [filler.Holed([striped()], 40, 0)[number] for number in range(40)]
    hiding = [one for one in seen if (one["shown"][:, one["holes"][0] > 0] == 255).any(1).all()]
    hiding = [one for one in hiding if np.array_equal(*(one[x][:, one["holes"][0] == 0] for x in ("shown", "picture")))]
    assert 17 <= len(hiding) <= 31
    for one in hiding:
        assert (one["picture"] < 200).all() and 6 * 128 <= one["holes"].sum() <= 10 * 128


def test_a_crop_is_sought_where_there_is_damage_and_is_any_where_there_is_none():
    rng = np.random.default_rng(0)
    sample = striped()
    assert all((crops.damaged_crop([sample], rng, 32)[..., 3] > 0).any() for _ in range(10))
    sample[..., 3] = 0
    places = {crops.damaged_crop([sample], rng, 32)[0, 0].tobytes() for _ in range(10)}
    assert len(places) > 5


def test_samples_of_an_older_version_are_refused(tmp_path):
    for number in range(4):
        np.save(tmp_path / f"shard_{number:05d}.npy", np.zeros((2, 8, 8, 4), np.uint8))
    with pytest.raises(UserError, match="older version.*draw them again"):
        samples.opened_samples(tmp_path)


def test_a_border_is_no_damage():
    crop = np.full((4, 40, 40), 200, np.uint8)
    finder.frame(crop, np.random.default_rng(3))
    edge = (crop[:3] != 200).any(0)
    assert edge.any() and (crop[3][edge] == 0).all() and (crop[3][~edge] == 200).all() and not edge[9:31, 9:31].any()


def test_calibration_makes_one_half_of_the_lowest_threshold_that_finds_hardly_anything_undamaged():
    net = Finder()
    assert finder.calibrate(net, {"0.5": [0, 0, 0, 0.01], "0.9": [0, 0, 0, 1e-4], "0.95": [0, 0, 0, 0]}) == 0.9
    assert torch.allclose(net(torch.rand(1, 3, 32, 32)).sigmoid(), torch.tensor(0.1))


def test_near_misses_and_faint_damage_count_less():
    damage = torch.zeros(1, 1, 9, 9)
    damage[..., 4, 4], damage[..., 0, 0] = 1.0, 0.2
    wanted, weight = finder.targets(damage)
    assert wanted.sum() == 1 and weight[..., 4, 4] == finder.RARE and weight[..., 0, 0] == 0
    assert weight[..., 4, 6] == finder.NEAR_WEIGHT and weight[..., 4, 7] == 1


def test_too_few_shards_and_missing_folders_are_said(tmp_path, capsys):
    with pytest.raises(UserError, match="holds 0 shards"):
        pictures.opened_pictures(tmp_path)
    assert main(["train", "old-pictures", "--photos", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--people, --scenes is missing" in capsys.readouterr().err

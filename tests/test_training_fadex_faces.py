"""Stage I of Face2Scene on a built dataset: equation 1 as printed, the paper's sizes and settings, training and resuming."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.pictures.files import to_pil
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.fadex import FaDeX
from personal_restore.models.embedded.mapnet import MapNet
from personal_restore.nodes import stage_one
from personal_restore.nodes.stage_one import TrainFaDeX, reader_named
from personal_restore.tests.places import CPU
from personal_restore.training import fadex_on_faces as stage
from personal_restore.training.fadex import PublishedContrast, degradation_loss
from personal_restore.training.fadex_on_faces import Config, OperatorPairs, train_fadex, with_epochs

SIZES = {"widths": [4, 6, 8], "embedding": 16, "heads": 2, "token_width": 12}


def equation_1(q: np.ndarray, keys: np.ndarray, g: list[int], key_g: list[int], tau: float) -> float:
    """Face2Scene's equation 1, term by term. The first keys are the batch itself, so that the i-th is i; the others are the queue's."""
    total = 0.0
    for i, own in enumerate(q):
        others = [a for a in range(len(keys)) if a != i]
        similar = {a: own @ keys[a] / np.linalg.norm(own) / np.linalg.norm(keys[a]) / tau for a in others}
        below = sum(math.exp(similar[a]) for a in others)
        for p in others:
            if key_g[p] == g[i]:
                total += -math.log(math.exp(similar[p]) / below)
    return total


def test_the_loss_is_equation_1_summed_over_the_batch_and_its_positives():
    rng = np.random.default_rng(0)
    q, keys = rng.normal(size=(5, 6)), rng.normal(size=(9, 6))
    g, queued = [0, 1, 0, 2, 1], [2, 0, 7, 1]
    expected = equation_1(q, keys, g, g + queued, 0.07)
    given = torch.tensor(q), torch.tensor(keys), torch.tensor(g), torch.tensor(g + queued)
    assert degradation_loss(*given, temperature=0.07).item() == pytest.approx(expected, rel=1e-9)
    twice = torch.tensor(np.concatenate([q, q])), torch.tensor(np.concatenate([q, q, keys[5:]]))
    labels = torch.tensor(g + g), torch.tensor(g + g + queued)
    larger = equation_1(twice[0].numpy(), twice[1].numpy(), g + g, g + g + queued, 0.07)
    assert degradation_loss(*twice, *labels).item() == pytest.approx(larger, rel=1e-9), (
        "a sum, which grows with the batch"
    )
    assert larger > 2 * expected


def test_every_pair_of_the_batch_is_a_query_and_the_queue_holds_keys_of_the_momentum_encoder():
    torch.manual_seed(0)
    net = PublishedContrast(FaDeX((4, 6, 8)), 8, size=6, momentum=0.5)
    pairs, labels = torch.rand(4, 6, 16, 16), torch.tensor([3, 4, 3, 4])
    loss = net(net.query(pairs), pairs, labels)
    keys = net.queue[:4].numpy()
    with torch.no_grad():
        query = net.query.project(net.query(pairs)).numpy()
    assert loss.item() == pytest.approx(equation_1(query, keys, labels.tolist(), labels.tolist(), 0.07), rel=1e-4)
    assert net.queue_labels.tolist() == [3, 4, 3, 4, -1, -1]


def test_the_published_sizes_and_settings_are_the_papers():
    config = Config()
    extractor = embedded.Extractor(**config.extractor)
    assert extractor.fadex.E[-3].out_channels == 256 and extractor.fadex.spectrum is None
    assert extractor.mapnet.embed.out_channels == 512 and extractor.mapnet.heads[0][-1].normalized_shape == (1024,)
    assert (config.schedule.batch, config.schedule.learning_rate, stage.EPOCHS) == (20, 3e-2, 200)


@pytest.mark.parametrize(("stride", "side"), [(4, 2), (2, 4)])
def test_a_face_of_16_px_has_this_many_places_for_the_finest_grid_of_tokens(stride, side):
    """The paper says 4x4; with DASR's strides each of 2x2 places gives four equal tokens."""
    torch.manual_seed(0)
    net = MapNet(8, 16, 8, 2, 12).eval()
    with torch.no_grad():
        features = FaDeX((4, 6, 8), stride=stride).eval()(torch.rand(1, 6, 16, 16))
        local = net.pooled(features)[0][0]
    assert net.embed(features).shape[-2:] == (side, side)
    assert len(local.unique(dim=0)) == side * side


@pytest.fixture
def dataset(tmp_path, small) -> Path:
    """Three photographs with two versions each, under two operators; the faces are parts of a photograph."""
    folder, lines = tmp_path / "models" / "datasets" / "faces", []
    for number in range(3):
        name = f"pictures/{number}"
        (folder / name).mkdir(parents=True)
        versions = []
        for version in range(2):
            recipe = replace(FAMILIES["trial"](version), seed=10 * number + version)
            clean = small[..., 20 * number : 20 * number + 48, 40:88]
            both = torch.cat([clean, recipe.apply(clean)], -1)[0]
            to_pil(both).save(folder / name / f"face_{version}.png")
            versions.append({"recipe": json.loads(recipe.to_json()), "face": "x", "operator": version})
        lines.append({"file": f"{number}.png", "folder": name, "refused": {}, "versions": versions})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_an_item_is_two_photographs_under_one_operator(dataset):
    items = OperatorPairs(dataset, 32, 0, 20)
    assert items.count == 6 and items.labels == [0, 1]
    for index in range(20):
        item = items[index]
        assert item["pair"].shape == (2, 6, 32, 32) and not torch.equal(*item["pair"])
        clean, damaged = item["pair"][0].chunk(2)
        assert (clean - damaged).abs().mean() > 0.005
    with pytest.raises(UserError, match="no two faces of at least 64 px"):
        OperatorPairs(dataset, 64, 0, 20)


@pytest.mark.parametrize("recipe", [stage.PUBLISHED, stage.OURS])
def test_what_is_trained_is_an_extractor_of_that_size_and_both_recipes_teach(dataset, tmp_path, recipe):
    usual = Config() if recipe == stage.PUBLISHED else stage.OWN_RECIPE
    config = replace(usual, extractor=SIZES, window=32, schedule=replace(usual.schedule, batch=4, workers=0))
    config = with_epochs(config, dataset, 2)
    assert config.schedule.steps == 3, "two epochs of six pairs in batches of four"
    before = embedded.Extractor(**SIZES)
    made = train_fadex(tmp_path / recipe, config, dataset, CPU)
    module, about = embedded.load_embedded(made)
    assert module.fadex.E[0].out_channels == before.fadex.E[0].out_channels == 4
    assert json.loads(about["provenance"])["data"] == "6 face pairs under 2 degradations"
    log = [json.loads(line) for line in (tmp_path / recipe / "log.jsonl").read_text().splitlines()]
    assert not log or all(math.isfinite(value) for entry in log for value in entry.values())


def test_the_node_trains_under_a_name_that_stage_two_finds(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(stage, "Config", lambda: Config(extractor=SIZES))
    given = {"recipe": "published", "epochs": 1, "batch": 4, "learning_rate": 0.03, "window": 32, "seed": 0}
    out = TrainFaDeX.execute(dataset="faces", name="mine", preset="own", **given)
    assert out.args[0] == "mine" and "2 steps" in out.args[1]
    assert reader_named("mine").is_file() and reader_named("") == embedded.EXTRACTOR
    with pytest.raises(UserError, match="no dataset 'none'.*Known: faces"):
        TrainFaDeX.execute(dataset="none", name="mine", preset="own", **given)
    with pytest.raises(UserError, match="no trained FaDeX 'other'.*Known: mine"):
        stage_one.reader_named("other")

"""The contrastive loss, the momentum queue, the data, and the loop."""

from __future__ import annotations

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.degradation.recipe import Recipe
from personal_restore.lib.storage.whole import exclusive
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.fadex import FaDeX
from personal_restore.models.embedded.one_step import OneStepNet
from personal_restore.tests.places import CPU
from personal_restore.training import bound, loop, procedural, stages
from personal_restore.training.data import DataConfig, Groups
from personal_restore.training.fadex import MomentumContrast, label_aware_info_nce
from personal_restore.training.loop import Journal, Schedule, train_loop
from personal_restore.training.randomness import seeded
from personal_restore.training.restorer import BlindLoss, ContrastLoss, GuidedLoss, ReadingLoss, imperfect, swapped


def test_with_all_embeddings_equal_every_term_is_the_log_of_the_number_of_others():
    keys = torch.ones(7, 5)
    loss = label_aware_info_nce(torch.ones(3, 5), keys, torch.tensor([0, 1, 2]), torch.arange(7))
    assert loss.item() == pytest.approx(math.log(7), abs=1e-5)


def test_one_class_alone_costs_nothing():
    query, key = torch.randn(2, 1, 8)
    assert label_aware_info_nce(query, key, torch.tensor([4]), torch.tensor([4])).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_does_not_change_with_order_or_scale():
    query, keys = torch.randn(4, 8), torch.randn(9, 8)
    labels, key_labels = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 0, 1, 2, 3, 3, 0])
    order = torch.randperm(9)
    loss = label_aware_info_nce(query, keys, labels, key_labels)
    torch.testing.assert_close(label_aware_info_nce(query, keys[order], labels, key_labels[order]), loss)
    torch.testing.assert_close(label_aware_info_nce(3 * query, 0.1 * keys, labels, key_labels), loss)


@pytest.mark.parametrize(("label", "attracted"), [(5, True), (6, False)])
def test_a_queued_key_of_the_same_degradation_is_never_a_negative(label, attracted):
    """Descent moves such a key towards the query; any other key is pushed away."""
    query, keys = torch.eye(4)[:1], torch.eye(4)[1:].clone().requires_grad_()
    label_aware_info_nce(query, keys, torch.tensor([5]), torch.tensor([5, label, 7])).backward()
    assert (-keys.grad[1] @ query[0] > 0) == attracted


def contrast(size: int = 6) -> MomentumContrast:
    torch.manual_seed(0)
    return MomentumContrast(FaDeX((4, 6, 8)), 8, size=size, momentum=0.9)


def test_the_queue_is_first_in_first_out():
    net = contrast()
    for first in (0, 4):
        net.enqueue(torch.full((4, 8), float(first)), torch.arange(first, first + 4))
    assert net.queue_labels.tolist() == [6, 7, 2, 3, 4, 5]


def test_the_key_encoder_follows_by_moving_average():
    net = contrast()
    before = net.key.E[0].weight.clone()
    with torch.no_grad():
        net.query.E[0].weight += 1
    net.follow()
    torch.testing.assert_close(net.key.E[0].weight, 0.9 * before + 0.1 * net.query.E[0].weight)


def test_contrast_learns_to_tell_degradations_apart():
    net = contrast(size=64)
    optimizer = torch.optim.SGD(net.query.parameters(), 0.03, momentum=0.9)
    losses = []
    for step in range(40):
        generator = torch.Generator().manual_seed(step)
        high = torch.rand(2, 8, 3, 16, 16, generator=generator)
        gain = torch.linspace(0.2, 1, 8).view(8, 1, 1, 1)
        pairs = torch.cat([high, high * gain], 2)
        loss = net(net.query(pairs[0]), pairs[1], torch.arange(8))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[10:15])


def test_a_procedural_picture_is_drawn_again_from_its_seed():
    first, again, other = procedural.draw_picture(3, 96), procedural.draw_picture(3, 96), procedural.draw_picture(4, 96)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == (96, 96, 3) and first.std() > 10


@pytest.fixture(scope="module")
def groups() -> Groups:
    pictures = np.stack([procedural.draw_picture(seed, 96) for seed in range(3)])
    return Groups(pictures, DataConfig(crop=48, seed=2), 16)


def test_a_group_holds_two_different_pictures_under_one_label(groups):
    item = groups[5]
    assert item["clean"].shape == item["damaged"].shape == (2, 3, 48, 48)
    assert not torch.equal(item["clean"][0], item["clean"][1])
    assert item["label"] == 5 and item["scalars"].shape == (4,)
    assert torch.equal(groups[5]["damaged"], item["damaged"])


def test_the_first_crops_of_a_schedule_have_half_the_side():
    pictures = np.stack([procedural.draw_picture(0, 96)])
    half = Groups(pictures, DataConfig(crop=48, seed=2), 16, halved=4)
    assert [half[index]["damaged"].shape[-1] for index in (0, 3, 4, 15)] == [24, 24, 48, 48]


def test_every_picture_reads_its_damage_from_the_other_of_its_group():
    groups = torch.arange(6).view(3, 2)
    assert swapped(groups).tolist() == [1, 0, 3, 2, 5, 4]


class Task(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, batch):
        return {"loss": (self.net(batch["damaged"][:, 0]) - batch["clean"][:, 0]).abs().mean()}


def run(folder, groups, steps, stop=None):
    torch.manual_seed(1)
    task = Task()

    class Killed(Exception):
        pass

    def loss(module, batch):
        if stop is not None and int(batch["label"].max()) >= stop * 2:
            raise Killed
        return module(batch)

    schedule = Schedule(steps=steps, batch=2, learning_rate=0.01, warmup=1, save_every=2, workers=0)
    try:
        train_loop(folder, task, torch.optim.AdamW(task.parameters(), 0.01), lambda length: groups, loss, schedule, CPU)
    except Killed:
        return None
    return task.net.weight.detach().clone()


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, groups):
    whole = run(tmp_path / "whole", groups, 8)
    assert run(tmp_path / "killed", groups, 8, stop=5) is None
    (tmp_path / "killed" / "state.part").mkdir()  # killed while it was writing the next one
    assert torch.equal(run(tmp_path / "killed", groups, 8), whole)


def test_a_second_training_in_the_same_folder_is_told_at_once(tmp_path, groups):
    with exclusive(tmp_path / "run"), pytest.raises(UserError, match="Another process is training in run"):
        run(tmp_path / "run", groups, 2)


def test_training_leaves_everybody_elses_random_numbers_alone(tmp_path, groups):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    torch.manual_seed(1)
    task = Task()
    schedule = Schedule(steps=2, batch=2, learning_rate=0.01, save_every=2, workers=0)
    before = states()

    def loss(module, batch):
        assert states() != before, "it has numbers of its own"
        return module(batch)

    for _ in range(2):  # the second one resumes, which loads states
        train_loop(tmp_path, task, torch.optim.AdamW(task.parameters(), 0.01), lambda n: groups, loss, schedule, CPU)
        assert states() == before
    with pytest.raises(ZeroDivisionError), seeded(3):
        assert random.random() != 1 / 0
    assert states() == before
    sources = [path for path in Path(loop.__file__).parent.rglob("*.py") if path.name != "randomness.py"]
    assert not [
        path for path in sources if re.search(r"[^)]\.manual_seed\(|set_seed|fork_rng", path.read_text("utf-8"))
    ]


def test_training_lowers_the_loss_and_leaves_a_checkpoint(tmp_path, groups):
    torch.manual_seed(1)
    task = Task()
    items = [{name: value[None] for name, value in groups[index].items()} for index in range(len(groups))]

    def measure():
        return sum(task(item)["loss"].item() for item in items) / len(items)

    before = measure()
    schedule = Schedule(steps=8, batch=2, learning_rate=0.01, warmup=1, save_every=2, workers=0)
    train_loop(
        tmp_path,
        task,
        torch.optim.AdamW(task.parameters(), 0.01),
        lambda n: groups,
        lambda net, x: net(x),
        schedule,
        CPU,
    )
    assert measure() < 0.8 * before
    assert [state.name for state in tmp_path.glob("state*")] == ["state-8"]


def test_a_log_that_a_kill_cut_in_a_line_is_gone_on_with(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    journal = Journal(tmp_path, steps=4, done=1, every=1)
    journal.note(2, {"loss": 2.0})
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 2.0}]


def test_the_shipped_weights_load_and_say_where_they_come_from():
    sizes = 0
    for path, kind in ((embedded.RESTORER, "one_step"), (embedded.EXTRACTOR, "extractor")):
        module, metadata = embedded.load_embedded(path)
        assert isinstance(module, embedded.MODELS[kind]) and metadata["token_space"] == embedded.TOKEN_SPACE
        assert "trained_by" in json.loads(metadata["provenance"])
        sizes += path.stat().st_size
    assert sizes <= 20e6


def test_a_file_that_is_no_model_is_a_clear_error(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_text("no model")
    with pytest.raises(embedded.UserError, match="broken.safetensors"):
        embedded.load_embedded(path)


@pytest.mark.parametrize("stage", ["blind", "reading", "fadex", "guided"])
def test_every_stage_takes_a_step_that_changes_only_what_it_trains(groups, stage):
    torch.manual_seed(0)
    net = OneStepNet((8, 12), (1, 1), token_width=16, heads=2)
    extractor = embedded.Extractor((4, 6, 8), embedding=16, heads=2, token_width=16)
    task = {
        "blind": lambda: BlindLoss(net),
        "reading": lambda: ReadingLoss(extractor.gauge, extractor.fadex, net),
        "fadex": lambda: ContrastLoss(MomentumContrast(extractor.fadex, 8, size=8), extractor.gauge, net),
        "guided": lambda: GuidedLoss(net, extractor.mapnet, extractor.fadex),
    }[stage]()
    parts = {"net": net, "fadex": extractor.fadex, "mapnet": extractor.mapnet, "gauge": extractor.gauge}
    before = {name: [p.clone() for p in part.parameters()] for name, part in parts.items()}
    batch = {name: torch.stack([groups[0][name], groups[1][name]]) for name in groups[0]}
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], 0.1)
    for _ in range(3):  # zero-initialised outputs hold the gradient of what lies before them back for a step
        task(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {
        name
        for name, part in parts.items()
        if any(not torch.equal(old, new) for old, new in zip(before[name], part.parameters(), strict=True))
    }
    readers = {"fadex", "gauge"}
    assert changed == {"blind": {"net"}, "reading": readers, "fadex": readers, "guided": {"net", "mapnet"}}[stage]


def test_a_share_of_the_pairs_is_imperfectly_restored_and_the_damaged_side_never_changes():
    pairs, net = torch.rand(8, 6, 16, 16), OneStepNet((8, 12), (1, 1), token_width=16, heads=2)
    made = imperfect(pairs, net, 0.25)
    assert torch.equal(made[:, 3:], pairs[:, 3:]) and torch.equal(made[2:], pairs[2:])
    torch.testing.assert_close(made[:2, :3], pairs[:2, 3:])  # an untrained restorer gives its input back


def test_online_negatives_come_at_their_rate_and_their_target_is_exactly_the_damaged_picture():
    """An untrained restorer is the identity: its error is zero where the target is its input."""
    torch.manual_seed(0)
    net = OneStepNet((8, 12), (1, 1), token_width=16, heads=2)
    extractor = embedded.Extractor((4, 6, 8), embedding=16, heads=2, token_width=16)
    batch = {"clean": torch.ones(200, 2, 3, 32, 32), "damaged": torch.zeros(200, 2, 3, 32, 32)}
    every = GuidedLoss(net, extractor.mapnet, extractor.fadex, negative=1.0)(batch)
    assert every["negative"] == 0 and every["loss"] == 0
    rate = 1 - float(GuidedLoss(net, extractor.mapnet, extractor.fadex)(batch)["loss"].detach())
    assert abs(rate - 0.05) < 4 * (0.05 * 0.95 / 400) ** 0.5


def test_a_configuration_file_changes_what_it_names_and_nothing_else(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"guided": {"steps": 7}, "restorer": {"blocks": [1, 1, 1]}, "data": {"crop": 64}}')
    config, usual = stages.read_config(path), stages.Config()
    assert config.guided == replace(usual.guided, steps=7) and config.data.crop == 64
    assert config.restorer == {**usual.restorer, "blocks": [1, 1, 1]} and config.blind == usual.blind


@pytest.mark.parametrize("text", ["", "[1]", '{"guide": {}}', '{"guided": {"stops": 3}}', '{"guided": 3, "x": 1}'])
def test_what_is_no_configuration_is_a_clear_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(embedded.UserError, match="config.json"):
        stages.read_config(tmp_path / "config.json")


def test_the_stages_run_one_after_the_other_into_files_that_load(tmp_path):
    """All five stages, tiny, one after the other, and the export."""
    config = stages.Config(
        restorer={"channels": [8, 12], "blocks": [1, 1], "token_width": 16, "heads": 2},
        extractor={"widths": [4, 6, 8], "embedding": 16, "heads": 2, "token_width": 16},
        data=DataConfig(crop=32, pictures=2, mixture=(("mild", 1.0),)),
        operators=4,
        **{stage: Schedule(steps=50, batch=1, learning_rate=1e-3, workers=0) for stage in stages.STAGES},
    )
    for stage in stages.STAGES:
        stages.run_stage(stage, tmp_path / "run", config, CPU)
        assert (tmp_path / "run" / stage / "curve.png").stat().st_size > 1000
    stages.export_weights(tmp_path / "run", config, tmp_path / "out")
    restorer, metadata = embedded.load_embedded(tmp_path / "out" / "restorer.safetensors")
    extractor, _ = embedded.load_embedded(tmp_path / "out" / "extractor.safetensors")
    assert metadata["token_space"] == embedded.TOKEN_SPACE
    picture = torch.rand(1, 3, 32, 32)
    assert restorer(picture, extractor.mapnet(extractor.fadex(picture.repeat(1, 2, 1, 1)))).shape == picture.shape


@pytest.mark.parametrize("stage", ["reading", "fadex", "guided"])
def test_a_stage_before_its_turn_says_which_comes_first(tmp_path, stage):
    with pytest.raises(embedded.UserError, match="blind, reading"):
        stages.run_stage(stage, tmp_path / "run", stages.Config(data=DataConfig(pictures=1)), CPU)


def test_true_parameters_become_tokens_and_teach_the_restorer(groups):
    torch.manual_seed(0)
    recipe = FAMILIES["trial"](3)
    values = bound.parameters(recipe)
    assert values.shape == (bound.PARAMETERS,) and values.abs().max() <= 1.01
    assert torch.equal(values, bound.parameters(Recipe.from_json(recipe.to_json())))
    net = OneStepNet((8, 12), (1, 1), token_width=16, heads=2)
    loss = bound.BoundLoss(net, bound.ParameterTokens(16), drop=0.5)
    item = groups[0]
    batch = {"clean": item["clean"][None], "damaged": item["damaged"][None], "scalars": values[None]}
    terms = loss(batch)
    terms["loss"].backward()
    assert terms["loss"] > 0 and net.head.weight.grad.abs().sum() > 0
    assert bound.worth(net.eval(), loss.tokens, [torch.rand(1, 3, 32, 32)], draws=1)["helped"] == 0

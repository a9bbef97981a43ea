"""Stage II of Face2Scene, tiny: every loss, what it trains, fifty steps, a kill in the middle, and the result as a restorer."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
import torch
from personal_restore.lib.vocabulary import Conditions, UserError
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.estimate import estimate_code
from personal_restore.models.embedded.mapnet import TOKENS
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.tests.places import CPU
from personal_restore.training import adversarial, perceptual
from personal_restore.training import face2scene as stage
from personal_restore.training.data import DataConfig, Groups, bank
from personal_restore.training.loop import Schedule
from torchvision.models import vgg16
from transformers import ViTConfig, ViTModel

CONFIG = stage.Config(
    adapters=tiny.FACE2SCENE["adapters"],
    data=DataConfig(mixture=(("s3diff", 1.0),), crop=64, pictures=3),
    schedule=Schedule(steps=50, batch=1, learning_rate=5e-3, warmup=5, save_every=20, workers=0),
)


def critic() -> adversarial.Critic:
    torch.manual_seed(5)
    sizes = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32)
    return adversarial.Critic(ViTModel(ViTConfig(patch_size=8, **sizes), add_pooling_layer=False))


def lpips() -> perceptual.LPIPS:
    torch.manual_seed(6)
    linear = perceptual.weigher()
    for weight in linear.parameters():
        torch.nn.init.uniform_(weight)
    return perceptual.LPIPS(vgg16(), linear)


def task(config: stage.Config = CONFIG, **parts) -> stage.SceneLoss:
    torch.manual_seed(0)
    reader, about = embedded.load_embedded(embedded.EXTRACTOR)
    extractor = embedded.Extractor(**json.loads(about["config"]) | {"token_width": tiny.WIDTH})
    extractor.fadex = reader.fadex
    restorer, _ = embedded.load_embedded(embedded.RESTORER)
    return stage.SceneLoss(
        config, tiny.turbo(), tiny.prompts(), extractor, restorer, **{"lpips": None, "critic": None, **parts}
    )


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    clean = torch.rand(2, 2, 3, 64, 64)
    return {"clean": clean, "damaged": (clean + 0.2 * torch.randn(clean.shape)).clamp(0, 1)}


def test_what_is_trained_is_adapters_the_first_convolution_and_mapnet(batch):
    """And nothing else: neither SD-Turbo, nor FaDeX, nor what the losses look through."""
    loss = task(lpips=lpips(), critic=critic())
    turbo, fadex, restorer, looked = loss.frozen
    modules = {"turbo": turbo, "fadex": fadex, "restorer": restorer, "lpips": looked, "dino": loss.critic.frozen[0]}
    learnt = list(loss.parameters())
    ids = set(map(id, learnt))
    frozen = {name: one for part, m in modules.items() for name, one in m.named_parameters(part) if id(one) not in ids}
    before = {name: one.clone() for name, one in frozen.items()}
    old = {name: one.clone() for name, one in [*loss.named.items(), *loss.mapnet.named_parameters("mapnet")]}
    optimizer = torch.optim.AdamW(loss.parameter_groups(), 1e-2)
    for _ in range(2):  # an adapter's second half starts as zero and holds the gradient of the first back for a step
        loss(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(one, before[name]) for name, one in frozen.items())
    new = {**loss.named, **dict(loss.mapnet.named_parameters("mapnet"))}
    assert {"unet.conv_in.weight", "unet.conv_in.bias"} <= new.keys() and len(new) > 500
    same = [name for name in old if torch.equal(old[name], new[name])]
    # In the middle a picture of 64 px is a single cell, which has nothing to choose from.
    assert not [name for name in same if not re.search(r"mid_block.*attn1.to_[qk]\.", name)]
    assert {name.split(".")[0] for name in loss.state_dict()} == {"adapters", "mapnet", "critic"}


def test_the_critic_teaches_the_generator_and_itself_apart(batch):
    judge, made = critic(), batch["damaged"][0].clone().requires_grad_()
    judge.for_generator(made).backward()
    assert made.grad.abs().sum() > 0 and all(one.grad is None for one in judge.parameters())
    made.grad = None
    judge.for_itself(batch["clean"][0], made).backward()
    assert made.grad is None and all(one.grad.abs().sum() > 0 for one in judge.parameters())


def test_lpips_is_zero_for_the_same_and_grows_with_the_damage(batch):
    net, clean = lpips(), batch["clean"][0]
    noise = batch["damaged"][0] - clean
    distances = [net(clean, clean + share * noise) for share in (0, 0.5, 1)]
    assert distances[0].abs().max() == 0 and distances[0].shape == (2,)
    assert (distances[1] > 0).all() and (distances[2] > distances[1]).all()
    picture = clean.clone().requires_grad_()
    net(picture, clean).sum().backward()
    assert picture.grad.isfinite().all()


def test_online_negatives_ask_for_exactly_the_damaged_picture_under_the_negative_prompt(batch, monkeypatch):
    asked = []
    for share in (0.0, 1.0):
        loss = task(replace(CONFIG, negative=share, drop=0.0))
        monkeypatch.setattr(
            loss,
            "restore",
            lambda damaged, tokens, negative, dropped: (asked.append(negative), damaged + tokens.mean() * 0)[1],
        )
        error = loss(batch)["l2"]
        assert bool(asked[-1].all()) == bool(share) and (error == 0) == bool(share)


def test_dropped_tokens_and_the_other_prompt_change_only_their_own_pictures(batch):
    loss = task()
    for weight in loss.mapnet.parameters():  # tokens that say something
        torch.nn.init.normal_(weight)
    damaged, no = batch["damaged"][0], torch.zeros(2, dtype=torch.bool)
    tokens = 5 * torch.randn(2, TOKENS, tiny.WIDTH)

    def restore(tokens, negative=no, dropped=no):
        torch.manual_seed(3)
        with torch.no_grad():
            return loss.restore(damaged, tokens, negative, dropped)

    usual, first = restore(tokens), torch.tensor([True, False])
    for changed in (restore(tokens, dropped=first), restore(tokens, negative=first)):
        torch.testing.assert_close(changed[1], usual[1], atol=1e-5, rtol=0)
        assert (changed[0] - usual[0]).abs().max() > 1e-4
    torch.testing.assert_close(restore(-tokens, dropped=first)[0], restore(tokens, dropped=first)[0], atol=1e-5, rtol=0)


@torch.no_grad()
def error(weights: face2scene.Face2SceneWeights, groups: Groups) -> float:
    """Mean squared error of what the weights make of damaged pictures, each with its partner's code."""
    net, extractor, found = face2scene.Face2Scene(tiny.turbo(), weights), weights.extractor(), 0.0
    restorer = SDTurboRestorer(lambda: net, *weights.prompts, cfg=1.0, color=None)
    for index in range(4):
        clean, damaged = groups[index]["clean"], groups[index]["damaged"]
        code = estimate_code(extractor, torch.cat([clean[1], damaged[1]]), weights.token_space)
        found += float((restorer.restore(damaged[:1], Conditions(code=code)) - clean[:1]).square().mean()) / 4
    return found


@pytest.mark.slow
def test_fifty_steps_with_every_loss_lower_them_and_the_result_restores(tmp_path, monkeypatch):
    untrained, forward, seen = task(), stage.SceneLoss.forward, []

    def watched(self, batch):
        terms = forward(self, batch)
        seen.append({name: value.item() for name, value in terms.items()})
        return terms

    monkeypatch.setattr(stage.SceneLoss, "forward", watched)
    path = stage.train_face2scene(tmp_path / "run", CONFIG, tiny.turbo(), tiny.prompts(), [], CPU, lpips(), critic())
    for name in ("l2", "lpips"):  # the adversarial term is a contest and need not fall
        first, last = (sum(one[name] for one in part) / 15 for part in (seen[:15], seen[-15:]))
        assert last < 0.95 * first, (name, first, last)
    logged = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert logged.keys() == {"step", "loss", "l2", "lpips", "adversarial", "critic"} and logged["step"] == 50
    weights = face2scene.read_face2scene(path)
    assert weights.provenance["losses"] == ["l2", "lpips", "adversarial"]
    start = {name: one.detach() for name, one in untrained.named.items()}
    before, groups = (
        replace(weights, tensors=weights.tensors | start),
        Groups(bank(tmp_path, CONFIG.data), CONFIG.data, 50),
    )
    assert error(weights, groups) < 0.9 * error(before, groups)


class Killed(Exception):
    pass


def test_a_run_killed_in_the_middle_resumes_to_the_same_weights(tmp_path, monkeypatch):
    config = replace(CONFIG, schedule=replace(CONFIG.schedule, steps=7, save_every=3))

    def train(folder):
        prompts = tiny.prompts()
        return stage.train_face2scene(tmp_path / folder / "x", config, tiny.turbo(), prompts, [], CPU, None, critic())

    whole = face2scene.read_face2scene(train("whole"))
    forward, steps = stage.SceneLoss.forward, []

    def dies(self, batch):
        steps.append(1)
        if len(steps) == 5:
            raise Killed
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(stage.SceneLoss, "forward", dies)
        with pytest.raises(Killed):
            train("killed")
    again = face2scene.read_face2scene(train("killed"))
    assert again.token_space == whole.token_space and again.provenance["losses"] == ["l2", "adversarial"]
    assert all(torch.equal(again.tensors[name], one) for name, one in whole.tensors.items())


def test_losses_without_their_backbones_are_left_out_with_one_line_each(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert stage.backbones([tmp_path]) == (None, None)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "Training without the adversarial loss",
        "Without LPIPS",
    ]


def test_backbones_are_read_from_their_public_files(tmp_path):
    torch.save(vgg16().state_dict(), tmp_path / "vgg16-397923af.pth")
    torch.save(perceptual.weigher().state_dict(), tmp_path / "LPIPS_v0.1_vgg-a78928a0.pth")
    critic().frozen[0].save_pretrained(tmp_path / stage.DINO)
    looked, judge = stage.backbones([tmp_path])
    assert isinstance(looked, perceptual.LPIPS) and isinstance(judge, adversarial.Critic)
    (tmp_path / stage.DINO / "config.json").write_text("{")
    with pytest.raises(UserError, match="dino-vitb16: DINO could not be read"):
        stage.backbones([tmp_path])


def test_photographs_are_cut_whatever_their_size(photos):
    files = sorted(photos.rglob("*.jpg"))[:3] or sorted(photos.rglob("*.png"))[:3]
    groups = stage.Photographs(files, replace(CONFIG.data, crop=96), 4)
    item = groups[2]
    assert item["clean"].shape == item["damaged"].shape == (2, 3, 96, 96)
    assert torch.equal(groups[2]["damaged"], item["damaged"]) and 0 <= item["clean"].min() <= item["clean"].max() <= 1


def test_a_configuration_changes_what_it_names(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"schedule": {"steps": 7}, "data": {"crop": 256}}')
    assert stage.read_config(path).schedule == replace(stage.Config().schedule, steps=7)
    path.write_text('{"steps": 7}')
    with pytest.raises(UserError, match="config.json is not a training configuration.*steps"):
        stage.read_config(path)

"""Face2Scene at full size, on tiny networks: its file, its fused adapters, its tokens, and whose codes it takes."""

from __future__ import annotations

import json
import re

import pytest
import torch
from personal_restore.lib.diffusion import lora
from personal_restore.lib.vocabulary import Conditions, DegradationCode, Restorer, UserError
from personal_restore.models.embedded.estimate import estimate_code
from personal_restore.models.embedded.mapnet import TOKENS, with_tokens
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer
from personal_restore.tests import tiny_s3diff as tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny.write_face2scene(tmp_path_factory.mktemp("face2scene") / "one.safetensors")


@pytest.fixture(scope="module")
def weights(path) -> face2scene.Face2SceneWeights:
    return face2scene.read_face2scene(path)


@pytest.fixture(scope="module")
def net(weights) -> face2scene.Face2Scene:
    return face2scene.Face2Scene(tiny.turbo(), weights)


@pytest.fixture(scope="module")
def code(weights) -> DegradationCode:
    """Of a random pair, from the file's own extractor."""
    torch.manual_seed(0)
    return estimate_code(weights.extractor(), torch.rand(6, 40, 32), weights.token_space)


@pytest.fixture
def restorer(net, weights) -> SDTurboRestorer:
    return SDTurboRestorer(lambda: net, *weights.prompts, cfg=1.1, name=face2scene.NAME)


def rewritten(path, target, tensors=None, **metadata):
    """The file with other tensors or metadata."""
    with safe_open(path, "pt") as file:
        before = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, target, before | metadata)
    return target


def test_the_file_says_what_it_is_and_where_it_comes_from(path, weights):
    assert weights.config == tiny.FACE2SCENE and weights.provenance == {"trained_by": "nobody"}
    assert re.fullmatch(r"face2scene-[0-9a-f]{12}", weights.token_space)
    assert all(one.shape == (1, 7, tiny.WIDTH) for one in weights.prompts)
    only = face2scene.read_face2scene(path, only="extractor.")
    assert only.tensors.keys() < weights.tensors.keys() and all(name.startswith("extractor.") for name in only.tensors)


def test_another_training_has_another_token_space(path, weights, tmp_path):
    assert (
        face2scene.read_face2scene(tiny.write_face2scene(tmp_path / "same.safetensors")).token_space
        == weights.token_space
    )
    assert (
        face2scene.read_face2scene(tiny.write_face2scene(tmp_path / "other.safetensors", 3)).token_space
        != weights.token_space
    )


def test_fused_adapters_give_what_they_give_beside_their_layers(net, weights, code):
    beside = tiny.turbo()
    face2scene.fill_adapters(face2scene.adapt(beside, weights.config["adapters"]), weights)
    assert sum(isinstance(layer, lora.LoraLayer) for layer in beside.modules()) > 250
    assert not any(isinstance(layer, lora.LoraLayer) for layer in net.modules())
    torch.manual_seed(1)
    picture, latent = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(net.encode(picture, None), beside.encode(picture), atol=1e-5, rtol=1e-4)
    context = [with_tokens(text, code.tokens) for text in weights.prompts]
    seen = beside.predict(latent, *context, 1.1)
    torch.testing.assert_close(net.predict(latent, code.tokens, *weights.prompts, 1.1), seen, atol=1e-5, rtol=1e-4)
    bare = tiny.turbo()
    assert (bare.encode(picture) - beside.encode(picture)).abs().max() > 1e-2
    assert (bare.predict(latent, *context, 1.1) - seen).abs().max() > 1e-2


def test_both_branches_get_the_tokens_behind_their_text_in_one_batch(net, weights, code, monkeypatch):
    contexts, forward = [], net.turbo.unet.forward
    monkeypatch.setattr(
        net.turbo.unet,
        "forward",
        lambda *a, encoder_hidden_states: (
            contexts.append(encoder_hidden_states),
            forward(*a, encoder_hidden_states=encoder_hidden_states),
        )[1],
    )
    positive, negative = weights.prompts
    for cfg, order in ((1.1, [negative, positive]), (1.0, [positive])):
        net.predict(torch.zeros(1, 4, 8, 8), code.tokens, positive, negative, cfg)
        assert torch.equal(contexts.pop(), torch.cat([torch.cat([text, code.tokens], 1) for text in order]))
    net.predict(torch.zeros(1, 4, 8, 8), None, positive, negative, 1.0)
    assert torch.equal(contexts.pop(), positive) and not contexts


def test_a_picture_is_restored_with_a_code_and_without_and_the_code_matters(restorer, code):
    assert isinstance(restorer, Restorer) and code.tokens.shape == (1, TOKENS, tiny.WIDTH)
    torch.manual_seed(4)
    picture = torch.rand(2, 3, 70, 90)
    blind = restorer.restore(picture, Conditions())
    guided = restorer.restore(picture, Conditions(code=code))
    assert blind.shape == guided.shape == picture.shape
    assert torch.equal(restorer.restore(picture, Conditions()), blind)
    assert (blind - guided).abs().max() > 1e-4


def test_codes_of_another_space_are_refused_by_name(restorer):
    theirs = DegradationCode(torch.zeros(1, 8, 4, 4), torch.zeros(1, 21, 192), "personal-restore-embedded-2")
    with pytest.raises(UserError, match="format 'personal-restore-embedded-2', but the restorer 'Face2Scene' needs"):
        restorer.restore(torch.rand(1, 3, 64, 64), Conditions(code=theirs))


def test_tokens_and_text_of_different_widths_are_refused_with_both_widths():
    with pytest.raises(UserError, match="192 numbers wide, but the encoded prompt is 1024"):
        with_tokens(torch.zeros(1, 77, 1024), torch.zeros(1, 21, 192))
    assert with_tokens(torch.zeros(2, 77, 1024), torch.ones(1, 21, 1024)).shape == (2, 98, 1024)


def test_files_that_are_something_else_are_named(path, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    adapters = {**tiny.FACE2SCENE["adapters"], "unet": {"rank": 0, "targets": ["conv"]}}
    cases = [
        (broken, ""),
        (tmp_path / "absent.safetensors", ""),
        (rewritten(path, tmp_path / "a.safetensors", kind="one_step"), "'one_step', not 'face2scene'"),
        (rewritten(path, tmp_path / "b.safetensors", config="[]"), "adapters"),
        (rewritten(path, tmp_path / "c.safetensors", config=json.dumps({"adapters": adapters})), "rank of the unet"),
        (rewritten(path, tmp_path / "d.safetensors", config=json.dumps(tiny.FACE2SCENE | {"extractor": {"x": 1}})), ""),
    ]
    for file, match in cases:
        with pytest.raises(UserError, match=f"{file.name} is not a trained Face2Scene.*{match}"):
            face2scene.read_face2scene(file)


def test_weights_that_do_not_fit_are_named_with_file_and_tensor(path, tmp_path):
    tensors = load_file(path)
    key = "unet.mid_block.resnets.0.conv1.lora_A.default.weight"
    lacking = {name: one for name, one in tensors.items() if name != key}
    weights = face2scene.read_face2scene(rewritten(path, tmp_path / "lacking.safetensors", lacking))
    with pytest.raises(UserError, match=f"lacking.safetensors: the tensor {re.escape(key)} is missing"):
        face2scene.Face2Scene(tiny.turbo(), weights)
    other = tensors | {"extractor.mapnet.embed.bias": torch.zeros(3)}
    weights = face2scene.read_face2scene(rewritten(path, tmp_path / "other.safetensors", other))
    with pytest.raises(UserError, match=r"other.safetensors: the tensor mapnet.embed.bias has the shape \[3\]"):
        weights.extractor()

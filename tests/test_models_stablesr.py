"""StableSR: its published layout, how it steers the UNet, what it learns, and what is read from its files."""

from __future__ import annotations

import copy
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared.sd_turbo import TEXT_PREFIXES
from personal_restore.models.stablesr import network as stablesr
from personal_restore.models.stablesr.network import (
    PLACES,
    StructureEncoder,
    load_stablesr,
    load_structure_encoder,
    public_name,
)
from personal_restore.tests import tiny_sd
from safetensors.torch import save_file

T = torch.tensor([500])


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return tiny_sd.stablesr(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def latents(net, astronaut) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy one and that of a damaged picture, ``[1, 4, 16, 16]``."""
    picture = torch.nn.functional.interpolate(astronaut[..., 0:256, 130:386], (128, 128), mode="area")
    torch.manual_seed(1)
    return torch.randn(1, 4, 16, 16), net.encode(picture)


def test_the_full_size_has_the_published_tensors():
    """Number and shapes are those of the public classes under v2-finetune_text_T_512.yaml."""
    with torch.device("meta"):
        control = StructureEncoder()
    shapes = {public_name(name): tuple(value.shape) for name, value in control.state_dict().items()}
    assert len(shapes) == 376 and sum(value.numel() for value in control.parameters()) == 105_514_240
    widths = [320] * 2 + [640] * 2 + [1280] * 9 + [1280] * 3 + [640] * 3 + [320] * 3
    assert len(PLACES) == len(widths) == 22
    for place, width in zip(PLACES, widths, strict=True):
        spade = f"model.diffusion_model.{place}.spade"
        own = {name.removeprefix(f"{spade}."): shape for name, shape in shapes.items() if name.startswith(spade)}
        assert own == {
            "param_free_norm.weight": (width,), "param_free_norm.bias": (width,),
            "mlp_shared.0.weight": (128, 256, 3, 3), "mlp_shared.0.bias": (128,),
            "mlp_gamma.weight": (width, 128, 3, 3), "mlp_gamma.bias": (width,),
            "mlp_beta.weight": (width, 128, 3, 3), "mlp_beta.bias": (width,),
        }  # fmt: skip
    for name, shape in {
        "time_embed.0.weight": (1024, 256),
        "input_blocks.0.0.weight": (256, 4, 3, 3),
        "input_blocks.3.0.op.weight": (256, 256, 3, 3),
        "input_blocks.7.0.skip_connection.weight": (512, 256, 1, 1),
        "input_blocks.8.1.qkv.weight": (1536, 512, 1),
        "middle_block.1.proj_out.weight": (512, 512, 1),
        "fea_tran.1.emb_layers.1.weight": (256, 1024),
        "fea_tran.3.skip_connection.weight": (256, 512, 1, 1),
    }.items():
        assert shapes[f"structcond_stage_model.{name}"] == shape
    assert "structcond_stage_model.input_blocks.10.1.qkv.weight" not in shapes  # the coarsest level has no attention


def test_the_unet_keeps_its_tensors_and_their_names(net, tmp_path):
    assert net.unet.state_dict().keys() == tiny_sd.base(tmp_path, control=False).unet.state_dict().keys()


@torch.no_grad()
def test_without_a_hint_or_with_strength_0_it_is_stable_diffusion_bit_for_bit(net, latents, tmp_path):
    noisy, hint = latents
    plain = tiny_sd.base(tmp_path, control=False)
    plain.unet.load_state_dict(net.unet.state_dict())
    alone = plain(noisy, T, net.prompt("cat"))
    for given in ((None,), (hint, 0.0), (hint, torch.zeros(1, 1, 1, 1))):
        assert torch.equal(net(noisy, T, net.prompt("cat"), *given), alone)
    full = net(noisy, T, net.prompt("cat"), hint)
    assert (full - alone).abs().mean() > 0.05
    assert torch.equal(net(noisy, T, net.prompt("cat"), hint, torch.ones(1, 1, 1, 1)), full)
    half = net(noisy, T, net.prompt("cat"), hint, 0.5)
    assert not torch.equal(half, full) and not torch.equal(half, alone)
    each = net(
        noisy.repeat(2, 1, 1, 1),
        T.repeat(2),
        net.prompt("cat", 2),
        hint.repeat(2, 1, 1, 1),
        torch.eye(2)[0].view(2, 1, 1, 1),
    )
    torch.testing.assert_close(each, torch.cat([full, alone]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_encoder_knows_the_time_and_every_block_is_steered(net, latents):
    noisy, hint = latents
    guides = net.control(hint, T)
    assert [tuple(one.shape[1:]) for one in guides] == [(tiny_sd.WIDTH, side, side) for side in (16, 8, 4, 2)]
    assert all(not torch.equal(one, other) for one, other in zip(guides, net.control(hint, T + 1), strict=True))
    before = net(noisy, T, net.prompt(""), hint)
    for spade in net.control.spade:
        kept = spade.mlp_beta.bias.clone()
        spade.mlp_beta.bias += 1
        assert not torch.equal(net(noisy, T, net.prompt(""), hint), before)
        spade.mlp_beta.bias.copy_(kept)


@torch.no_grad()
def test_a_modulation_scales_and_shifts_what_is_normalised(net, latents):
    """SPADE by hand, at the first block."""
    spade, x, guide = net.control.spade[0], torch.randn(1, tiny_sd.WIDTH, 16, 16), net.control(latents[1], T)[0]
    seen = spade.mlp_shared[0](guide).clamp(min=0)
    flat = x.flatten(2)  # as many groups as channels
    normal = ((flat - flat.mean(-1, keepdim=True)) / (flat.var(-1, False, keepdim=True) + 1e-5).sqrt()).view_as(x)
    normal = normal * spade.param_free_norm.weight[:, None, None] + spade.param_free_norm.bias[:, None, None]
    torch.testing.assert_close(
        spade(x, guide), normal + normal * spade.mlp_gamma(seen) + spade.mlp_beta(seen), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("saving", [False, True])
def test_the_gradient_reaches_all_of_the_control(net, latents, saving):
    """Also of two passes under different strengths, whose memory is saved: every block is computed again under its own."""
    noisy, hint = latents
    lavish, tuned = (copy.deepcopy(net) for _ in range(2))
    if saving:
        tuned.enable_gradient_checkpointing()
    gradients = []
    for one in (lavish, tuned):
        one.control.requires_grad_()
        text = one.prompt("")
        passes = [one(noisy, T, text, hint), one(noisy, T, text, hint, 0.5), one(noisy, T, text)]
        sum(weight * out.square().mean() for weight, out in zip((1, 2, 3), passes, strict=True)).backward()
        gradients.append({name: value.grad for name, value in one.control.named_parameters()})
    assert all(value is not None and value.any() for value in gradients[1].values())
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-3, atol=1e-6)
    assert not any(value.requires_grad for value in net.parameters())


@torch.no_grad()
def test_copies_and_pickles_are_networks_of_their_own(net, latents):
    noisy, hint = latents
    want = net(noisy, T, net.prompt(""), hint)
    control, unet = pickle.loads(pickle.dumps((net.control, net.unet)))
    copied = copy.deepcopy(net)
    copied.control, copied.unet = control, unet
    assert torch.equal(copied(noisy, T, net.prompt(""), hint), want)
    control.spade[3].mlp_beta.bias += 1
    assert not torch.equal(copied(noisy, T, net.prompt(""), hint), want)
    assert torch.equal(net(noisy, T, net.prompt(""), hint), want)


def test_an_interrupted_pass_leaves_the_unet_alone(net, latents, monkeypatch):
    noisy, hint = latents
    with torch.no_grad():
        alone = net(noisy, T, net.prompt(""))

        def stop(*given):
            raise KeyboardInterrupt

        monkeypatch.setattr(net, "predict", stop)
        with pytest.raises(KeyboardInterrupt):
            net(noisy, T, net.prompt(""), hint)
        monkeypatch.undo()
        assert torch.equal(net(noisy, T, net.prompt("")), alone)


def lightning_file(path, tensors):
    """As PyTorch Lightning 1.4 saves it: a class of its own among the keys."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    kind = type("ModelCheckpoint", (), {"__module__": name})
    parts = name.split(".")
    stand_ins = {".".join(parts[: n + 1]): types.ModuleType(parts[n]) for n in range(3)}
    stand_ins[name].ModelCheckpoint = kind
    before = dict(sys.modules)
    sys.modules.update(stand_ins)
    try:
        torch.save({"epoch": 117, "callbacks": {kind: {"best": None}}, "state_dict": tensors}, path)
    finally:
        for name in stand_ins:
            sys.modules.pop(name)
        sys.modules.update({name: before[name] for name in stand_ins if name in before})


@pytest.mark.parametrize(
    "form", ["lightning.ckpt", "older.ckpt", "flat.ckpt", "whole.safetensors", "beside.ckpt", "beside.safetensors"]
)
def test_published_files_give_the_same_base(net, latents, tmp_path, form):
    """All in one file, or the control alone, as for web interfaces, beside Stable Diffusion."""
    path, tensors = tmp_path / form, tiny_sd.stablesr_file(net)
    base = None
    if form.startswith("beside"):
        base = tmp_path / "sd21.safetensors"
        save_file(tiny_sd.single_file(net, TEXT_PREFIXES[0]), base)
        tensors = {name: value for name, value in tensors.items() if "spade" in name or "structcond" in name}
    if form.startswith("lightning"):
        lightning_file(path, tensors)
    elif form.startswith("older"):
        torch.save({"state_dict": tensors, "loss": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    elif path.suffix == ".ckpt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    words = tiny_sd.write_tokenizer(tmp_path / "words")
    found = load_stablesr(path, base, words, topology=tiny_sd.TOPOLOGY, **tiny_sd.STRUCTURE)
    assert (found.native_size, found.velocity, found.training) == (512, False, False)
    assert not any(value.requires_grad for value in found.parameters())
    with torch.no_grad():
        given = latents[0], T, net.prompt("cat"), latents[1]
        torch.testing.assert_close(found(*given), net(*given), atol=1e-5, rtol=0)


def test_what_is_missing_or_of_another_network_is_said(net, tmp_path):
    tensors = tiny_sd.stablesr_file(net)
    own = {name: value for name, value in tensors.items() if "spade" in name or "structcond" in name}
    first = "model.diffusion_model.input_blocks.10.0.spade.mlp_beta.bias"
    for number, (stored, match) in enumerate([
        (own, "1.ckpt contains only the control. Also choose the Stable Diffusion 2.1"),
        ({name: value for name, value in tensors.items() if name not in own}, "the tensor model.diffusion_model.* is missing"),
        ({name: value for name, value in tensors.items() if name != first}, f"the tensor {first} is missing.*stablesr_000117"),
        (tensors | {first: torch.zeros(3)}, rf"the tensor {first} has the shape \[3\], but the network needs \[32\]"),
    ], 1):  # fmt: skip
        path = tmp_path / f"{number}.ckpt"
        torch.save(stored, path)
        with pytest.raises(UserError, match=f"StableSR: {number}.ckpt.*" if number > 1 else match) as told:
            load_stablesr(path, topology=tiny_sd.TOPOLOGY, **tiny_sd.STRUCTURE)
        told.match(match)
    with pytest.raises(UserError, match="gone.ckpt does not exist"):
        load_stablesr(tmp_path / "gone.ckpt")


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a file was run')",)


def test_no_code_of_a_file_is_run(net, tmp_path):
    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": tiny_sd.stablesr_file(net), "callbacks": Trap()}, path)
    with pytest.raises(UserError, match="trap.ckpt is damaged or contains more than plain weights"):
        load_structure_encoder(path, **tiny_sd.STRUCTURE)


def test_the_one_that_predicts_velocity_works_at_768(net):
    sides = [
        stablesr.StableSR(net.unet, net.vae, net.text, net.control, velocity).native_size for velocity in (False, True)
    ]
    assert sides == [512, 768]

"""SD-Turbo, adapters and S3Diff against public vectors, from the public file formats, and with tiny networks."""

from __future__ import annotations

import os
import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.lib.diffusion import lora
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.s3diff import network as s3diff
from personal_restore.models.s3diff.de_net import DegradationEstimator
from personal_restore.models.shared import sd_turbo, sd_vae, vae_strips
from personal_restore.tests import tiny_s3diff as tiny
from safetensors.torch import save_file
from torch import nn

ROUNDING = dict(atol=2e-5, rtol=0)  # a batch sums in another order than its pictures alone; real effects exceed 1e-2
VARIANTS = ("a_untiled_cfg1.07", "b_untiled_cfg1.0")


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return tiny.write_public_files(tmp_path_factory.mktemp("s3diff"))


@pytest.fixture(scope="module")
def net(public) -> s3diff.S3Diff:
    return s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(public))


@pytest.fixture
def reference(golden, tmp_path):
    """S3Diff of the golden vectors, from the public pickle and from what it converts to, and the vectors."""
    tensors, about = golden("s3diff")
    tensors = {name: value.float() for name, value in tensors.items()}

    def part(start):
        return {k.removeprefix(start): v.clone() for k, v in tensors.items() if k.startswith(start)}

    estimator = tmp_path / "de_net.pth"
    torch.save(DegradationEstimator().state_dict(), estimator)
    weights = s3diff.read_s3diff(golden.folder / about["companion_file"], estimator)
    converted = tmp_path / "s3diff.safetensors"
    s3diff.convert(weights, converted)

    def build(form: str) -> s3diff.S3Diff:
        turbo = sd_turbo.assemble(part("w.unet."), part("w.vae."), about["unet_config"], about["vae_config"], "golden")
        return s3diff.S3Diff(turbo, weights if form == "public" else s3diff.read_s3diff(converted))

    return build, tensors, about


@pytest.mark.parametrize("form", ["public", "converted"])
@pytest.mark.parametrize("posterior", ["mode", "noise"])
def test_golden_s3diff_untiled(reference, form, posterior):
    build, tensors, about = reference
    net, tolerance = build(form), about["tolerance"]
    noise = tensors["in.posterior_noise"] if posterior == "noise" else None
    latent = net.encode(tensors["in.x"], tensors["in.deg"], noise)
    torch.testing.assert_close(latent, tensors[f"mid.latent.{posterior}"], atol=tolerance["image_atol"], rtol=0)
    for variant in VARIANTS:
        cfg = about["variants"][variant]["guidance_scale"]
        seen = net.predict(latent, tensors["in.deg"], tensors["in.emb_pos"], tensors["in.emb_neg"], cfg)
        clean = net.turbo.clean(latent, seen)
        expected = f"out.{variant}.{posterior}"
        atol = tolerance["x0_latent_atol"]
        torch.testing.assert_close(clean, tensors[f"{expected}.x0_latent"], atol=atol, rtol=0)
        if f"{expected}.image" in tensors:
            image = net.turbo.decode(clean)
            torch.testing.assert_close(image, tensors[f"{expected}.image"], atol=tolerance["image_atol"], rtol=0)


def test_golden_schedule_and_adapter_scales(reference):
    build, _, about = reference
    assert pytest.approx(about["alphas_cumprod_999"], rel=1e-5) == sd_turbo.ALPHA_BAR
    assert about["timestep"] == 999 == sd_turbo.TIMESTEP
    for side, adapters in build("public").adapters.items():
        assert {layer.scale for layer in adapters.values()} == {about["lora_scaling"][side]}


def test_full_size_adapters_have_the_public_keys_and_shapes(golden):
    """Against the list of keys beside the golden vectors where it is there; the counts are those of the public file."""
    with torch.device("meta"):
        networks = {
            "vae": AutoencoderKL.from_config(sd_turbo.VAE),
            "unet": UNet2DConditionModel.from_config(sd_turbo.UNET),
        }
        shapes, total = {}, 64
        for side, rank in (("vae", 16), ("unet", 32)):
            tensors = lora.weights(lora.attach(networks[side], tiny.TARGETS[side], rank), s3diff.ADAPTERS[side])
            if side == "unet":
                tensors |= {f"conv_in.{name}": one for name, one in networks[side].conv_in.named_parameters()}
            modulation = s3diff.BlockModulation(rank, s3diff.BLOCKS[side])
            total += sum(one.numel() for one in [*tensors.values(), *modulation.parameters()])
            shapes[side] = {name: tuple(one.shape) for name, one in tensors.items()}
    assert (len(shapes["vae"]), len(shapes["unet"]), total) == (62, 514 + 2, 34_475_184)
    listed = golden.folder.parent / "reference" / "s3diff_keys.md"
    if listed.is_file():
        for side, section in zip(("vae", "unet"), listed.read_text().split("## state_dict_")[1:], strict=True):
            keys = re.findall(r"^(\S+\.(?:weight|bias)) \((.+?)\)$", section, re.M)
            assert shapes[side] == {key: tuple(int(n) for n in sizes.split(",") if n) for key, sizes in keys}


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Linear(6, 10), (2, 5, 6)),
        (nn.Conv2d(6, 10, 3, 2, 1), (2, 6, 9, 8)),
        (nn.Conv2d(6, 10, 1), (2, 6, 4, 4)),
    ],
)
def test_a_fused_adapter_is_the_adapter_and_the_identity_modulates_nothing(layer, size):
    root = nn.ModuleDict({"one": nn.Sequential(deepcopy(layer))}).requires_grad_(False)
    x, before = torch.randn(size), root["one"](torch.ones(size))
    adapters = lora.attach(root, ["0"], 4)
    assert list(adapters) == ["one.0"] and torch.equal(root["one"](torch.ones(size)), before)
    nn.init.normal_(adapters["one.0"].up.weight)
    adapted = root["one"](x)
    with lora.modulated(adapters, {"one.0": torch.eye(4).expand(2, 4, 4)}):
        torch.testing.assert_close(root["one"](x), adapted)
    assert adapters["one.0"].modulation is None
    lora.fuse_adapters(root)
    assert type(root["one"][0]) is type(layer)
    torch.testing.assert_close(root["one"](x), adapted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "size", "in_weights"),
    [
        (nn.Linear(6, 10), (2, 15, 6), True),
        (nn.Linear(6, 10), (2, 5, 6), False),
        (nn.Conv2d(6, 10, 3, 2, 1), (2, 6, 9, 8), True),
        (nn.Conv2d(6, 10, 3, 1, 1), (2, 6, 2, 2), False),
    ],
)
def test_one_matrix_for_all_gives_the_same_in_the_weights_as_beside_them(layer, size, in_weights):
    torch.manual_seed(0)
    root = nn.ModuleDict({"one": nn.Sequential(deepcopy(layer))}).requires_grad_(False)
    adapters, x, matrix = lora.attach(root, ["0"], 4), torch.randn(size), torch.randn(1, 4, 4)
    nn.init.normal_(adapters["one.0"].up.weight)
    asked = []
    adapters["one.0"].up.register_forward_hook(lambda *given: asked.append(given))
    with lora.modulated(adapters, {"one.0": matrix.expand(2, 4, 4)}):
        each = root["one"](x)
    with lora.modulated(adapters, {"one.0": matrix}):
        torch.testing.assert_close(root["one"](x), each, atol=1e-4, rtol=1e-5)
    assert len(asked) == (1 if in_weights else 2)


def test_every_picture_of_a_batch_has_its_own_modulation(net):
    torch.manual_seed(0)
    degrees, (positive, negative) = torch.tensor([[0.1, 0.9], [0.8, 0.2]]), tiny.prompts()
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    latent = net.encode(pictures, degrees)
    seen = net.predict(latent, degrees, positive, negative, 1.5)
    for one in (slice(0, 1), slice(1, 2)):
        torch.testing.assert_close(net.encode(pictures[one], degrees[one]), latent[one], **ROUNDING)
        alone = net.predict(latent[one], degrees[one], positive, negative, 1.5)
        torch.testing.assert_close(alone, seen[one], **ROUNDING)
    assert (net.encode(pictures[:1], degrees[1:]) - latent[:1]).abs().max() > 1e-2
    assert (net.predict(latent[:1], degrees[1:], positive, negative, 1.5) - seen[:1]).abs().max() > 1e-2


def test_large_pictures_are_adapted_in_strips_as_in_one_piece(net, monkeypatch):
    torch.manual_seed(0)
    degrees, pictures = torch.rand(2, 2), torch.rand(2, 3, 128, 64) * 2 - 1
    latent = net.encode(pictures, degrees)
    monkeypatch.setattr(sd_vae, "WHOLE", 64)
    monkeypatch.setattr(vae_strips, "STRIP", 700)
    torch.testing.assert_close(net.encode(pictures, degrees), latent, **ROUNDING)


def test_cfg_is_two_branches_in_one_batch_and_one_branch_at_one(net, monkeypatch):
    torch.manual_seed(0)
    batches = []
    forward = net.turbo.unet.forward
    monkeypatch.setattr(net.turbo.unet, "forward", lambda x, *a, **k: (batches.append(len(x)), forward(x, *a, **k))[1])
    degrees, (positive, negative) = torch.rand(1, 2), tiny.prompts()
    latent = torch.randn(1, 4, 8, 8)
    towards, away = (net.predict(latent, degrees, text, text, 1) for text in (positive, negative))
    guided = net.predict(latent, degrees, positive, negative, 1.5)
    assert batches == [1, 1, 2]
    torch.testing.assert_close(guided, away + 1.5 * (towards - away), **ROUNDING)
    assert (guided - towards).abs().max() > 1e-2


def test_conversion_keeps_every_bit_and_says_where_it_comes_from(public, tmp_path):
    weights = s3diff.read_s3diff(public)
    s3diff.convert(weights, tmp_path / "one.safetensors")
    again = s3diff.read_s3diff(tmp_path / "one.safetensors")
    assert again.config == weights.config and again.provenance == weights.provenance
    assert again.tensors.keys() == weights.tensors.keys()
    assert all(torch.equal(again.tensors[name], value) for name, value in weights.tensors.items())
    assert set(again.provenance["sha256"]) == {"s3diff.pkl", "de_net.pth"}
    assert dict(s3diff.S3Diff(tiny.turbo(), again).public_tensors()).keys() == weights.tensors.keys()


def test_golden_estimator_through_conversion(golden, public, tmp_path):
    tensors, about = golden("de_net")
    s3diff.convert(s3diff.read_s3diff(public, golden.folder / "de_net.pth"), tmp_path / "one.safetensors")
    net = s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(tmp_path / "one.safetensors"))
    degrees = net.damage(tensors["full.in.lq"])
    torch.testing.assert_close(degrees, tensors["full.out.deg"], atol=about["tolerance"]["atol"], rtol=0)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_a_pickle_that_runs_code_is_refused_and_not_run(public, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = torch.load(public, weights_only=True)
    torch.save(stored | {"w": Trap()}, tmp_path / "s3diff.pkl")
    with pytest.raises(UserError, match="s3diff.pkl is damaged or contains more than weights"):
        s3diff.read_s3diff(tmp_path / "s3diff.pkl", public.with_name("de_net.pth"))
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_missing_or_something_else_are_named(public, tmp_path):
    for path, match in [
        (tmp_path / "s3diff.pkl", "s3diff.pkl is not in"),
        (tmp_path / "s3diff.safetensors", "s3diff.safetensors is not a converted S3Diff"),
    ]:
        with pytest.raises(UserError, match=match):
            s3diff.read_s3diff(path)
    (tmp_path / "s3diff.pkl").write_bytes(public.read_bytes())
    with pytest.raises(UserError, match="de_net.pth is not in"):
        s3diff.read_s3diff(tmp_path / "s3diff.pkl")
    (tmp_path / "de_net.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="de_net.pth is damaged"):
        s3diff.read_s3diff(tmp_path / "s3diff.pkl")
    torch.save([torch.ones(1)], tmp_path / "de_net.pth")
    with pytest.raises(UserError, match="de_net.pth contains a list"):
        s3diff.read_s3diff(tmp_path / "s3diff.pkl")
    save_file({"w": torch.ones(1)}, tmp_path / "other.safetensors", {"kind": "one_step"})
    with pytest.raises(UserError, match="'one_step', not 's3diff'"):
        s3diff.read_s3diff(tmp_path / "other.safetensors")
    save_file(
        {"w": torch.ones(1)}, tmp_path / "other.safetensors", {"kind": "s3diff", "config": "1", "provenance": "{}"}
    )
    with pytest.raises(UserError, match="other.safetensors is not a converted S3Diff"):
        s3diff.read_s3diff(tmp_path / "other.safetensors")


def test_weights_that_do_not_fit_are_named_with_file_and_key(public):
    weights = s3diff.read_s3diff(public)
    key = "state_dict_unet.mid_block.resnets.0.conv1.lora_A.default.weight"
    without = {name: value for name, value in weights.tensors.items() if name != key}
    for tensors, match in [
        (without, f"s3diff.pkl: the tensor {re.escape(key)} is missing, but the network needs"),
        (weights.tensors | {key: torch.ones(2, 2)}, f"{re.escape(key)} has the shape"),
        (
            weights.tensors | {"zz.weight": torch.ones(1)},
            "zz.weight has the shape .* but the network has no such tensor",
        ),
    ]:
        with pytest.raises(UserError, match=match):
            s3diff.S3Diff(tiny.turbo(), replace(weights, tensors=tensors))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank_unet", None),
        ("rank_vae", 0),
        ("vae_lora_target_modules", 5),
        ("vae_lora_target_modules", "("),
        ("unet_lora_target_modules", [1]),
    ],
)
def test_a_file_without_usable_configuration_is_refused(public, tmp_path, name, value):
    stored = torch.load(public, weights_only=True)
    torch.save(stored | {name: value}, tmp_path / "s3diff.pkl")
    with pytest.raises(UserError, match=f"s3diff.pkl has no usable {name}"):
        s3diff.read_s3diff(tmp_path / "s3diff.pkl", public.with_name("de_net.pth"))

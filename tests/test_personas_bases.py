"""The published bases under the trainers and the restorer that the small one runs under."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from personal_restore.lib.storage.fingerprint import weights_fingerprint
from personal_restore.lib.storage.personas import load_persona, save_persona
from personal_restore.lib.vocabulary import Conditions, Reference, UserError
from personal_restore.models.gen2res.adm_unet import ADMUNet
from personal_restore.models.gen2res.generation import SkipGuidance, generation, generative_album
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion
from personal_restore.models.personas.restorer import PersonalRestorer
from personal_restore.models.personas.wear import wearing
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.tests import tiny_sd
from personal_restore.training.personas.make import make_persona, outside_inference
from personal_restore.training.personas.methods import METHODS, PLACEHOLDER, Material, Settings, adapter

QUICK = Settings(steps=1, batch=1, rank=2, damage="mild", prior_weight=0.0, keep_references=True)
PARTS = {
    "textual_pivot": {"unet"}, "model_pivot": {"control"}, "dual_pivot": {"unet", "control"}, "album": {"unet"},
    "adapter": {"unet", "token", "reference"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("words")


@pytest.fixture(scope="module")
def net(folder):
    return tiny_sd.base(folder)


@pytest.fixture(scope="module")
def stablesr(folder):
    return tiny_sd.stablesr(folder)


@pytest.fixture(scope="module")
def bases(net, stablesr, pixels):
    return {"diffbir": net, "stablesr": stablesr, "pixels": pixels}


@pytest.fixture(scope="module")
def pixels():
    torch.manual_seed(0)
    unet = ADMUNet(32, 32, 1, channel_mult="1,1", attention_resolutions="16").eval().requires_grad_(False)
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return PixelDiffusion(unet, 32, 2)


@pytest.fixture(scope="module")
def pictures(astronaut) -> torch.Tensor:
    """Two faces, ``[2, 3, 128, 128]``."""
    crops = torch.cat([astronaut[..., y : y + 160, x : x + 160] for y, x in ((40, 180), (44, 170))])
    return torch.nn.functional.interpolate(crops, (128, 128), mode="area")


def made(net, pictures, method, **changes):
    return make_persona(net, tiny_sd.BASE, Material(pictures), replace(QUICK, method=method, **changes), "Eileen")


@pytest.mark.parametrize("kind", ["diffbir", "stablesr"])
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_runs_and_its_persona_is_worn(bases, pictures, tmp_path, kind, method):
    """Tests 23, 31, 32, 37 and 45 on these bases."""
    net = bases[kind]
    before = weights_fingerprint(net)
    persona = made(net, pictures, method)
    assert {name.split(".")[0] for name in persona.tensors} == PARTS[method]
    restorer = DiffusionRestorer(lambda: net, tiny_sd.BASE, tiny_sd.SIDE, denoise=0.3, steps=2)
    plain = restorer.restore(pictures[:1], Conditions())
    save_persona(persona, tmp_path, "E")
    wearer = PersonalRestorer(restorer, load_persona(tmp_path, "E"))
    assert plain.shape == pictures[:1].shape and plain.isfinite().all()
    assert not torch.equal(wearer.restore(pictures[:1], Conditions()), plain)
    assert torch.equal(replace(wearer, strength=0.0).restore(pictures[:1], Conditions()), plain)
    unnoised = PersonalRestorer(replace(restorer, denoise=0.0), persona)
    assert torch.equal(unnoised.restore(pictures[:1], Conditions()), pictures[:1])
    assert weights_fingerprint(net) == before
    assert torch.equal(restorer.restore(pictures[:1], Conditions()), plain)


@torch.no_grad()
def test_a_shut_gate_and_no_strength_are_the_base_bit_for_bit(net, pictures):
    """Test 37: any gate with lambda_att 0, and gates of 0, in the four places of Stable Diffusion's decoder."""
    persona = made(net, pictures, "adapter", gate=0.5)
    gates = [name for name in persona.tensors if name.endswith(".gamma")]
    assert sorted(gates) == sorted(f"unet.{place}.gamma" for place in net.places) and len(gates) == 4
    shut = {name: torch.zeros_like(value) if name in gates else value for name, value in persona.tensors.items()}
    latent = net.encode(pictures[:1])
    wordless = {name: value for name, value in shut.items() if name != "token"}
    alone = net(latent, torch.tensor([300]), net.prompt("cat"), latent)
    for worn, strength in ((shut, 1.0), (wordless, 1.0), (persona.tensors, 0.0)):
        with wearing(net, replace(persona, tensors=dict(persona.tensors) | worn), strength) as predict:
            assert torch.equal(predict(latent, 300, "cat", latent), alone)
    with wearing(net, persona) as predict:
        assert not torch.equal(predict(latent, 300, "cat", latent), alone)


def test_the_learnt_word_is_an_embedding_that_the_text_encoder_reads(net, pictures):
    task = adapter(outside_inference(net), Material(pictures), replace(QUICK, method="adapter"))
    batch = task.batch(0)
    _blocks, (token,), gates = (group["params"] for group in task.groups)
    torch.testing.assert_close(token.data, net.text.rows[net.text.row("person")])
    sum(weight * loss(batch) for weight, loss in task.losses.values()).backward()
    assert token.grad.any() and all(gate.grad.any() for gate in gates)
    persona = made(net, pictures, "adapter")
    assert persona.token == PLACEHOLDER and persona.tensors["token"].shape == (tiny_sd.WIDTH,)
    with torch.no_grad(), wearing(net, persona, references=None) as predict:
        latent = net.encode(pictures[:1])
        assert not torch.equal(predict(latent, 300, "a photo of *"), predict(latent, 300, "a photo of x"))


@pytest.mark.parametrize(
    ("base", "method"),
    [
        (tiny_sd.base, "dual_pivot"),
        (tiny_sd.base, "adapter"),
        (tiny_sd.base, "album"),
        (tiny_sd.stablesr, "dual_pivot"),
        (tiny_sd.stablesr, "adapter"),
    ],
)
def test_a_base_in_half_precision_learns_in_single(folder, pictures, base, method):
    """On a graphics card the base is bfloat16, in which a step of 1e-4 would be lost."""
    half = base(folder).bfloat16()
    persona = made(half, pictures, method, rank=0 if method == "album" else 2)
    learnt = {name: value.dtype for name, value in persona.tensors.items() if name != "reference"}
    assert set(learnt.values()) == {torch.float32}
    restorer = DiffusionRestorer(lambda: half, tiny_sd.BASE, tiny_sd.SIDE, denoise=0.3, steps=2)
    plain = restorer.restore(pictures[:1], Conditions())
    worn = PersonalRestorer(restorer, persona).restore(pictures[:1], Conditions())
    assert worn.isfinite().all() and worn.dtype == torch.float32 and not torch.equal(plain, worn)
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("base", "method"),
    [(tiny_sd.base, "dual_pivot"), (tiny_sd.base, "adapter"), (tiny_sd.stablesr, "dual_pivot")],
)
def test_all_of_it_works_under_inference_mode(folder, bases, pictures, base, method):
    net = bases["diffbir" if base is tiny_sd.base else "stablesr"]
    with torch.inference_mode():
        inside = base(folder)
        persona = made(inside, pictures.clone(), method)
        guided = DiffusionRestorer(
            lambda: inside, tiny_sd.BASE, tiny_sd.SIDE, denoise=0.3, steps=2, skip_guidance=SkipGuidance(every=2)
        )
        out = PersonalRestorer(guided, persona).restore(pictures[:1].clone(), Conditions())
    assert out.isfinite().all()
    outside = made(net, pictures, method)
    assert all(torch.equal(outside.tensors[name], value) for name, value in persona.tensors.items())


def test_training_shares_the_tensors_of_the_base_until_they_are_tuned(net, pictures):
    copied = outside_inference(net)
    shared = {value.data_ptr() for value in net.parameters()}
    assert {value.data_ptr() for value in copied.parameters()} == shared
    assert all(ours is not theirs for ours, theirs in zip(copied.modules(), net.modules(), strict=True))
    persona = made(net, pictures, "model_pivot", first=3)
    own = net.state_dict()
    assert len(persona.tensors) == 3
    assert all(not torch.equal(value, own[name]) for name, value in persona.tensors.items())


def test_stable_diffusion_alone_learns_what_needs_no_control(folder, pictures):
    alone = tiny_sd.base(folder, control=False)
    for method in ("model_pivot", "dual_pivot"):
        with pytest.raises(UserError, match=f"{method} cannot be trained on this base, which has no ControlNet"):
            made(alone, pictures, method)
    persona = made(alone, pictures, "album")
    restorer = generation(lambda: alone, tiny_sd.BASE, tiny_sd.SIDE, denoise=0.002)
    assert not torch.equal(
        PersonalRestorer(restorer, persona).restore(pictures[:1], Conditions()),
        restorer.restore(pictures[:1], Conditions()),
    )


def test_an_adapter_looks_at_the_album_where_the_persona_carries_no_picture(net, pictures):
    persona = made(net, pictures, "adapter", keep_references=False)
    restorer = DiffusionRestorer(lambda: net, tiny_sd.BASE, tiny_sd.SIDE, denoise=0.3, steps=1)
    album = (Reference("a.png", pictures[1], torch.zeros(5, 2).numpy()),)
    wearer = PersonalRestorer(restorer, persona)
    alone, shown = (wearer.restore(pictures[:1], Conditions(references=refs)) for refs in ((), album))
    assert not torch.equal(alone, shown)


def test_the_pixel_model_learns_an_album_and_nothing_else(pixels, pictures, tmp_path):
    before = weights_fingerprint(pixels)
    persona = made(pixels, pictures, "album")
    assert {name.split(".")[0] for name in persona.tensors} == {"unet"}
    restorer = generation(lambda: pixels, tiny_sd.BASE, 32, denoise=0.02)
    face = torch.nn.functional.interpolate(pictures[:1], (32, 32), mode="area")
    plain = restorer.restore(face, Conditions())
    save_persona(persona, tmp_path, "E")
    wearer = PersonalRestorer(restorer, load_persona(tmp_path, "E"))
    assert not torch.equal(wearer.restore(face, Conditions()), plain)
    assert torch.equal(replace(wearer, strength=0.0).restore(face, Conditions()), plain)
    assert torch.equal(replace(restorer, denoise=0.0).restore(face, Conditions()), face)
    assert weights_fingerprint(pixels) == before
    for method in ("textual_pivot", "adapter"):
        with pytest.raises(UserError, match=f"{method} cannot be trained on this base, which takes no text"):
            made(pixels, pictures, method)
    with pytest.raises(UserError, match="takes no text and has no ControlNet"):
        made(pixels, pictures, "dual_pivot")


def test_a_generative_album_of_the_pixel_model_can_be_learnt(pixels, pictures):
    face = torch.nn.functional.interpolate(pictures[:1], (32, 32), mode="area")
    restorer = generation(lambda: pixels, tiny_sd.BASE, 32, skip_guidance=SkipGuidance(every=20, exact=False))
    album = generative_album(replace(restorer, steps=10), face, Conditions(), count=2)
    assert album.shape == (2, 3, 32, 32)
    persona = made(pixels, album, "album")
    assert persona.provenance["pictures"] == 2


def test_a_loss_of_the_pixel_model_that_is_learnt_falls(pixels, pictures):
    settings = replace(QUICK, method="album", rank=0, steps=16, batch=2, learning_rate=3e-3)
    seen = []

    def report(step, steps, losses):
        seen.append(losses["noise"])

    make_persona(pixels, tiny_sd.BASE, Material(pictures), settings, report=report)
    assert sum(seen[-6:]) < 0.8 * sum(seen[:6])


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("diffbir", "model_pivot"),
        ("diffbir", "adapter"),
        ("stablesr", "model_pivot"),
        ("stablesr", "adapter"),
        ("pixels", "album"),
    ],
)
def test_what_is_learnt_does_not_depend_on_saving_memory(bases, pictures, kind, method):
    saving = bases[kind]
    lavish = copy.deepcopy(saving)
    lavish.large = False
    assert saving.large
    ours, theirs = (made(one, pictures, method).tensors for one in (saving, lavish))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)

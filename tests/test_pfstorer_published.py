"""What PFStorer publishes beyond its blocks: equation 10, lambda_att, p_HQ, and the base model that people are taught on."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from personal_restore.lib.bridge import keep
from personal_restore.lib.diffusion.noise_schedule import linear_schedule
from personal_restore.lib.vocabulary import Conditions, Persona, UserError
from personal_restore.models.personas.restorer import PersonalRestorer
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.nodes.personas import ApplyPersona, TrainPersona
from personal_restore.nodes.train_faces import TrainBaseModel
from personal_restore.tests.photographs import picture
from personal_restore.tests.tiny_base import BASE, small_base
from personal_restore.training.personas.base_model import published_settings, train_base_model
from personal_restore.training.personas.batches import draw_batch
from personal_restore.training.personas.make import make_persona
from personal_restore.training.personas.methods import Material, Settings


@pytest.fixture(scope="module")
def net():
    return small_base()


@pytest.fixture
def face(small) -> torch.Tensor:
    return torch.nn.functional.interpolate(small[..., 20:148, 60:188], (32, 32), mode="area")


def restorer(net, **settings) -> DiffusionRestorer:
    usual = {"denoise": 0.3, "steps": 1, "cfg": 1.0, "keep_colors": False}
    return DiffusionRestorer(keep(net), BASE, 32, **usual | settings)


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("weight", [2.0, 4.0])
def test_guidance_is_equation_9_or_with_a_blind_negative_equation_10(net, face, weight, blind):
    """X + lambda (X(p_pos, I_LQ) - X(p_neg, I_LQ or nothing)), with X the negative side, so that lambda 1 is no guidance. One step of
    the sampler is undone by hand."""
    made = restorer(net, cfg=weight, prompt="bright", negative="damaged", blind_negative=blind)
    out = made.restore(face, Conditions(seed=5))
    with torch.inference_mode():
        z = net.encode(net.cleaner(face))
        t = torch.tensor([net.schedule.steps_as_noisy_as(linear_schedule(), 300) - 1])
        left = float(net.schedule.alphas_cumprod[t])
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
        x = math.sqrt(left) * z + math.sqrt(1 - left) * noise
        positive = net(x, t, net.prompt("bright"), z, 1.0)
        negative = net(x, t, net.prompt("damaged"), None if blind else z, 1.0)
        guided = negative + weight * (positive - negative)
        clean = ((x - math.sqrt(1 - left) * guided) / math.sqrt(left)).clamp(-net.schedule.limit, net.schedule.limit)
        expected = net.decode(clean).clamp(0, 1)
    torch.testing.assert_close(out, expected, atol=2e-4, rtol=0)
    assert not torch.allclose(out, replace(made, blind_negative=not blind).restore(face, Conditions(seed=5)), atol=1e-3)


@pytest.fixture(scope="module")
def persona(net) -> Persona:
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    settings = Settings("adapter", steps=1, batch=2, learning_rate=1e-3, damage="mild", keep_references=True, gate=0.5)
    made = make_persona(net, BASE, Material(pictures), settings)
    generator = torch.Generator().manual_seed(2)
    word = made.tensors["token"] + torch.randn(made.tensors["token"].shape, generator=generator)
    return replace(made, tensors=made.tensors | {"token": word})


def with_gates(persona: Persona, factor: float) -> Persona:
    return replace(persona, tensors={n: v * factor if n.endswith(".gamma") else v for n, v in persona.tensors.items()})


def test_lambda_att_scales_the_gates_beyond_1_and_at_0_keeps_the_word(net, face, persona):
    base = restorer(net, steps=3)
    plain = base.restore(face, Conditions())

    def worn(attention: float, gates: float = 1.0, strength: float = 1.0) -> torch.Tensor:
        return PersonalRestorer(base, with_gates(persona, gates), strength, "", attention).restore(face, Conditions())

    torch.testing.assert_close(worn(2.0), worn(1.0, gates=2.0), atol=1e-5, rtol=0)
    word = worn(0.0)
    assert torch.equal(word, worn(1.0, gates=0.0)) and not torch.equal(word, plain)
    assert not torch.allclose(worn(2.0), worn(1.0), atol=1e-4) and not torch.allclose(word, worn(1.0), atol=1e-4)
    assert torch.equal(worn(2.0, strength=0.0), plain)
    through = ApplyPersona.execute(base, persona, 1.0, "", attention=0.0).args[0]
    assert torch.equal(through.restore(face, Conditions()), word)


def test_a_share_of_the_hints_is_undamaged_and_nothing_else_is_drawn_differently(net):
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    whole = 0
    for step in range(30):
        usual, mixed = (draw_batch(net, pictures, 4, "trial", 0, step, intact) for intact in (0.0, 0.5))
        for name in ("clean", "reference", "noise", "t", "silent"):
            assert torch.equal(getattr(usual, name), getattr(mixed, name))
        undamaged = net.encode(
            net.cleaner((mixed.clean / 2 + 0.5) if mixed.clean.shape[1] == 3 else net.decode(mixed.clean))
        )
        same = ((mixed.hint - undamaged).abs().amax((1, 2, 3)) < 1e-4).tolist()
        kept = (mixed.hint == usual.hint).flatten(1).all(1).tolist()
        assert all(a != b for a, b in zip(same, kept, strict=True)), "each is one or the other"
        whole += sum(same)
    assert abs(whole - 60) < 4 * math.sqrt(120 * 0.25)


@pytest.fixture
def files(tmp_path, small):
    return [picture(tmp_path / "faces" / f"{n}.png", small[..., 8 * n : 8 * n + 160, 40:210]) for n in range(3)]


SETTINGS = Settings("base_model", steps=3, batch=2, rank=0, learning_rate=1e-3, damage="pfstorer_heavy", intact=0.03)


def test_the_base_model_tunes_the_control_alone_and_becomes_part_of_a_base_that_learns_people(
    net, face, files, tmp_path
):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tuned = train_base_model(net, BASE, files, SETTINGS, tmp_path)
    assert tuned.tensors.keys() == {f"control.{name}" for name, _ in net.control.named_parameters()}
    assert any(not torch.equal(value, before[name]) for name, value in tuned.tensors.items())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    base = restorer(net, steps=3)
    other = ApplyPersona.execute(base, tuned, 1.0, "").args[0]
    assert other.base != base.base and not torch.equal(
        other.restore(face, Conditions()), base.restore(face, Conditions())
    )
    half = restorer(copy.deepcopy(net).to(torch.bfloat16), steps=3)
    assert ApplyPersona.execute(half, tuned, 1.0, "").args[0].base == other.base, "on a device of another precision"
    assert ApplyPersona.execute(base, tuned, 0.5, "").args[0].base != other.base
    images = face.movedim(1, -1)
    person = TrainPersona.execute(other, "", "adapter", 1, 0, images=images, batch=1).args[0]
    assert person.base == other.base
    ApplyPersona.execute(other, person, 1.0, "")
    assert ApplyPersona.execute(base, tuned, 0.0, "").args[0] is base
    for wrong in ((other, tuned, ""), (base, person, "")):
        with pytest.raises(UserError, match="made for"):
            ApplyPersona.execute(wrong[0], wrong[1], 1.0, wrong[2])
    with pytest.raises(UserError, match="a base model is for everybody"):
        ApplyPersona.execute(base, tuned, 1.0, "Eileen")


def test_a_base_model_that_was_stopped_is_resumed_with_the_same_result(net, files, tmp_path):
    def stop(done, total, losses):
        if done == 2:
            raise KeyboardInterrupt

    whole = train_base_model(net, BASE, files, SETTINGS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_base_model(net, BASE, files, SETTINGS, tmp_path / "parts", stop)
    resumed = train_base_model(net, BASE, files, SETTINGS, tmp_path / "parts")
    assert all(torch.equal(value, whole.tensors[name]) for name, value in resumed.tensors.items())


@pytest.mark.usefixtures("separate_folders")
def test_the_node_trains_it_under_inference_mode_as_comfyui_runs_it(net, files):
    given = {"steps": 2, "batch": 1, "learning_rate": 1e-3, "damage": "trial", "intact": 0.0, "seed": 0}
    with torch.inference_mode():
        persona, report = TrainBaseModel.execute(restorer(net), "faces", "own", **given).args
        worn = ApplyPersona.execute(restorer(net), persona, 1.0, "").args[0]
    assert persona.kind == "base_model" and "base_model persona of everybody" in report and "3 picture(s)" in report
    assert worn.base != BASE
    with pytest.raises(UserError, match="cannot be trained. Connect StableSR"):
        TrainBaseModel.execute(worn_by(net, persona), "faces", "own", **given)


def worn_by(net, persona: Persona) -> PersonalRestorer:
    return PersonalRestorer(restorer(net), persona)


def test_the_published_base_model_is_twelve_epochs_at_stablesrs_rate():
    made = published_settings(Settings("base_model", rank=0), 70_000)
    assert (made.steps, made.batch, made.learning_rate, made.intact) == (35_000, 24, 5e-5, 0.03)

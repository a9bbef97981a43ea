"""The nodes of the published bases, from files in models folders to a face that wears a persona."""

from __future__ import annotations

import functools

import pytest
import torch
from personal_restore.cli.main import main
from personal_restore.lib import samples
from personal_restore.lib.bridge import weight_folders
from personal_restore.lib.pictures.files import to_pil
from personal_restore.lib.standin import host
from personal_restore.lib.vocabulary import Conditions, UserError
from personal_restore.models.diffbir import controlnet as diffbir_controlnet
from personal_restore.models.embedded.reference_restorer import ReferenceRestorer
from personal_restore.models.gen2res import adm_unet
from personal_restore.models.shared import stable_diffusion
from personal_restore.models.shared.diffusion_restorer import first_stage
from personal_restore.models.shared.sd_turbo import TEXT_PREFIXES
from personal_restore.models.upscale.restorer import UpscalerRestorer
from personal_restore.nodes import diffbir
from personal_restore.nodes.diffbir import DiffBIRRestorer
from personal_restore.nodes.generation import RestorationByGeneration
from personal_restore.nodes.personas import ApplyPersona, LoadPersona, TrainPersona
from personal_restore.tests import tiny_sd
from safetensors.torch import load_file, save_file
from spandrel import ModelLoader


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models folders with Stable Diffusion as one file and in the diffusers format, and DiffBIR's ControlNet, all tiny."""
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    net = tiny_sd.base(tmp_path / "clip")
    (tmp_path / "checkpoints").mkdir()
    save_file(tiny_sd.single_file(net, TEXT_PREFIXES[0]), tmp_path / "checkpoints" / "sd21.safetensors")
    for part, module in (("unet", net.unet), ("vae", net.vae), ("text_encoder", net.text.encoder)):
        module.save_pretrained(tmp_path / "diffusers" / "sd21" / part)
    tiny_sd.write_tokenizer(tmp_path / "diffusers" / "sd21" / "tokenizer")
    torch.save(net.control.state_dict(), tmp_path / "v1_face.pth")
    monkeypatch.setattr(
        stable_diffusion,
        "load_stable_diffusion",
        functools.partial(stable_diffusion.load_stable_diffusion, topology=tiny_sd.TOPOLOGY),
    )
    monkeypatch.setattr(
        diffbir_controlnet,
        "load_diffbir_controlnet",
        functools.partial(diffbir_controlnet.load_diffbir_controlnet, **tiny_sd.CONTROL),
    )
    return tmp_path


@pytest.fixture
def face(astronaut) -> torch.Tensor:
    return torch.nn.functional.interpolate(astronaut[..., 40:200, 180:340], (128, 128), mode="area")


def restorer(checkpoint="sd21.safetensors", control_model="v1_face.pth", denoise=0.3, control=1.0, **more):
    with torch.inference_mode():  # as ComfyUI executes every node
        given = {"denoise": denoise, "steps": 2, "control": control, "cfg": 1.0, **more}
        return DiffBIRRestorer.execute(checkpoint, control_model, **given).args[0]


def test_the_node_lists_what_lies_in_the_folders_and_restores_with_it(folder, face):
    assert set(diffbir.bases()) == {"sd21.safetensors", "sd21/"}
    assert "v1_face.pth" in diffbir.controls()
    file, parts = restorer(), restorer("sd21/")
    torch.save(
        {"state_dict": load_file(folder / "checkpoints" / "sd21.safetensors")}, folder / "checkpoints" / "sd21.ckpt"
    )
    assert restorer("sd21.ckpt").base == file.base
    assert file.base == parts.base and file.base.startswith("diffbir ") and file.native_size == 512
    out = file.restore(face, Conditions())
    assert out.shape == face.shape and out.isfinite().all()
    # The same numbers, but where they lie in memory decides in which order some are added.
    torch.testing.assert_close(parts.restore(face, Conditions()), out, atol=1e-5, rtol=0)
    assert torch.equal(restorer(denoise=0.0).restore(face, Conditions()), face)


def test_personas_and_what_was_trained_are_no_controlnets(tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    ours, core = (weight_folders(kind)[0] for kind in ("personal_restore", "controlnet"))
    for file in (
        ours / "personas/training/ann.safetensors",
        ours / "face2scene/f.safetensors",
        ours / "v1.pth",
        core / "sub/b.pth",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert set(diffbir.controls()) == {"v1.pth", "sub/b.pth"}


def test_without_control_it_is_stable_diffusion_alone(folder, face):
    alone = restorer(control_model="none")
    assert alone.base.startswith("stable_diffusion ") and alone.control == 0
    assert torch.equal(alone.restore(face, Conditions()), restorer(control=0.0).restore(face, Conditions()))
    assert not torch.equal(alone.restore(face, Conditions()), restorer().restore(face, Conditions()))


def test_a_persona_is_trained_and_worn_in_the_graph(folder, face):
    base = restorer()
    base.load().native_size = 128
    images = face.movedim(1, -1)
    with torch.inference_mode():
        persona = TrainPersona.execute(base, "", "dual_pivot", 1, 0, images=images, batch=1, rank=2).args[0]
        worn = ApplyPersona.execute(base, persona, 1.0, "").args[0]
        off = ApplyPersona.execute(base, persona, 0.0, "").args[0]
    plain = base.restore(face, Conditions())
    assert torch.equal(off.restore(face, Conditions()), plain)
    assert not torch.equal(worn.restore(face, Conditions()), plain)
    with pytest.raises(UserError, match="made for 'diffbir"):
        ApplyPersona.execute(restorer(control_model="none"), persona, 1.0, "")


def test_a_persona_of_the_command_line_is_for_the_restorer_of_the_node(folder):
    (folder / "Eileen").mkdir()
    to_pil(samples.sample_album()[0]).save(folder / "Eileen" / "a.png")
    (folder / "config.json").write_text('{"steps": 1, "batch": 1, "rank": 2}')
    arguments = [("photos", "Eileen"), ("config", "config.json"), ("base", "checkpoints/sd21.safetensors"),
                 ("control", "v1_face.pth")]  # fmt: skip
    given = [text for name, path in arguments for text in (f"--{name}", str(folder / path))]
    assert main(["persona", "--method", "model_pivot", *given]) == 0
    persona = LoadPersona.execute("Eileen").args[0]
    assert persona.provenance["settings"]["learning_rate"] == 1e-4
    assert ApplyPersona.execute(restorer(), persona, 1.0, "").args[0].persona == persona
    assert main(["persona", *given, "--prediction", "guess"]) == 1


def test_the_cleaner_is_a_restorer_and_its_enlargement_is_undone(folder, face):
    class Doubling:
        needs_references = False

        def restore(self, image, conditions):
            return torch.nn.functional.interpolate(image, scale_factor=2.0) * 0.5

    cleaned = first_stage(Doubling())(face)
    assert cleaned.shape == face.shape and (cleaned - face * 0.5).abs().mean() < 0.003
    own, other = (restorer(cleaner=cleaner).restore(face, Conditions()) for cleaner in (None, Doubling()))
    assert not torch.equal(own, other)


def test_a_cleaner_that_needs_an_album_is_refused(folder):
    """The first stage sees no album, so that such a restorer would fail in the middle of restoring."""
    with pytest.raises(UserError, match="cleaner 'reference detail' needs an album"):
        restorer(cleaner=ReferenceRestorer())


@pytest.mark.parametrize("stored", ["plain", "module."])
def test_diffbirs_swinir_is_an_upscale_model_of_scale_1(face, stored):
    """The topology of face_swinir_v1.ckpt, narrower: shrunk by 8 before the first layer, enlarged by 8 behind the last."""
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    network = SwinIR(
        img_size=64, in_chans=3, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2, upscale=8,
        img_range=1.0, upsampler="nearest+conv", resi_connection="1conv", start_unshuffle=8,
    )  # fmt: skip
    tensors = {
        name.replace("conv_first.", "conv_first.1.") if "conv_first." in name else name: value
        for name, value in network.state_dict().items()
    }
    tensors = {(stored if stored != "plain" else "") + name: value for name, value in tensors.items()}
    model = ModelLoader().load_from_state_dict(tensors)
    assert model.architecture.id == "SwinIR" and model.scale == 1
    with torch.no_grad():
        clean = first_stage(UpscalerRestorer(lambda: model.eval(), "SwinIR", model.scale))(face)
    assert clean.shape == face.shape and not torch.equal(clean, face)


def test_what_is_missing_is_said(folder):
    for checkpoint, control, match in (
        ("other.safetensors", "none", "no checkpoint 'other.safetensors'. Known: sd21.safetensors, sd21/"),
        ("sd21.safetensors", "v9.pth", "no ControlNet 'v9.pth'.*diffbir-v1-face"),
        ("none found", "none", r"v2-1_512-ema-pruned.safetensors is missing.*5.2 GB.*Open RAIL"),
    ):
        with pytest.raises(UserError, match=match):
            restorer(checkpoint, control)
    (folder / "clip" / "vocab.json").unlink()
    with pytest.raises(UserError, match="vocab.json is missing"):
        restorer()
    assert restorer("sd21/").name == "DiffBIR"  # which has a tokenizer of its own


def test_restoration_by_generation_is_a_base_that_learns_albums(folder, face, monkeypatch):
    torch.manual_seed(0)
    unet = adm_unet.ADMUNet(32, 32, 1, channel_mult="1,1", attention_resolutions="16").eval()
    torch.nn.init.normal_(unet.out[2].weight, std=0.05)
    (folder / "base_256.pt").touch()
    monkeypatch.setattr(adm_unet, "load_adm_unet", lambda path: unet)
    base = RestorationByGeneration.execute(0.003, 0.0).args[0]
    assert base.native_size == 256 and base.base.startswith("gen2res-256 ") and base.control == 0
    base.load().native_size = 32
    with torch.inference_mode():
        images = face[..., :32, :32].movedim(1, -1)
        persona = TrainPersona.execute(base, "", "album", 1, 0, images=images, rank=2).args[0]
        worn = ApplyPersona.execute(base, persona, 1.0, "").args[0]
    small = face[..., :32, :32]
    plain = base.restore(small, Conditions())
    assert not torch.equal(worn.restore(small, Conditions()), plain)
    assert torch.equal(RestorationByGeneration.execute(0.0, 0.0).args[0].restore(small, Conditions()), small)
    with pytest.raises(UserError, match="takes no text"):
        TrainPersona.execute(base, "", "adapter", 1, 0, images=images, rank=2)

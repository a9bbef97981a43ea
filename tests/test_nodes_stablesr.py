"""The StableSR node, from files in models folders to a face that wears a persona."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from personal_restore.lib.bridge import weight_folders
from personal_restore.lib.standin import host
from personal_restore.lib.vocabulary import Conditions, UserError
from personal_restore.models.shared.sd_turbo import TEXT_PREFIXES
from personal_restore.models.stablesr import network as stablesr
from personal_restore.nodes.personas import ApplyPersona, TrainPersona
from personal_restore.nodes.stablesr import SAME, StableSRRestorer, stablesr_files
from personal_restore.tests import tiny_sd
from safetensors.torch import save_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models folders with StableSR as one file and as the control alone, and Stable Diffusion, all tiny."""
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    net = tiny_sd.stablesr(tmp_path / "clip")
    tensors = tiny_sd.stablesr_file(net)
    torch.save({"state_dict": tensors}, tmp_path / "stablesr_000117.ckpt")
    own = {name: value for name, value in tensors.items() if "spade" in name or "structcond" in name}
    save_file(own, tmp_path / "webui.safetensors")
    (tmp_path / "checkpoints").mkdir()
    save_file(tiny_sd.single_file(net, TEXT_PREFIXES[0]), tmp_path / "checkpoints" / "sd21.safetensors")
    tiny = functools.partial(stablesr.load_stablesr, topology=tiny_sd.TOPOLOGY, **tiny_sd.STRUCTURE)
    monkeypatch.setattr(stablesr, "load_stablesr", tiny)
    return tmp_path


@pytest.fixture
def face(astronaut) -> torch.Tensor:
    return torch.nn.functional.interpolate(astronaut[..., 40:200, 180:340], (128, 128), mode="area")


def restorer(checkpoint="stablesr_000117.ckpt", denoise=1.0, control=1.0, base=SAME, **more):
    with torch.inference_mode():  # as ComfyUI executes every node
        given = {"denoise": denoise, "steps": 2, "control": control, "cfg": 1.0, "stable_diffusion": base, **more}
        return StableSRRestorer.execute(checkpoint, **given).args[0]


def test_the_node_lists_what_lies_in_the_folder_and_restores_with_it(folder, face, monkeypatch):
    # A VAE in bfloat16 would round what differs in the last bits up or down.
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert set(stablesr_files()) == {"stablesr_000117.ckpt", "webui.safetensors"}
    whole, beside = restorer(), restorer("webui.safetensors", base="sd21.safetensors")
    assert whole.base == beside.base and whole.base.startswith("stablesr ") and whole.native_size == 512
    out = whole.restore(face, Conditions())
    assert out.shape == face.shape and out.isfinite().all()
    # The same numbers, but where they lie in memory decides in which order some are added.
    torch.testing.assert_close(beside.restore(face, Conditions()), out, atol=1e-4, rtol=0)
    assert not torch.equal(restorer(control=0.0).restore(face, Conditions()), out)
    assert torch.equal(restorer(denoise=0.0).restore(face, Conditions()), face)


def test_the_damaged_face_itself_is_shown_to_the_control(folder, face):
    made, seen = restorer(), []
    net = made.load()
    net.control.register_forward_hook(lambda module, given, out: seen.append(given))
    made.restore(face, Conditions())
    assert len(seen) == 2 and all(torch.equal(hint, net.encode(face)) for hint, _ in seen)
    assert [int(t) for _, t in seen] == sorted((int(t) for _, t in seen), reverse=True)


@pytest.mark.parametrize("method", ["adapter", "dual_pivot"])
def test_a_persona_is_trained_and_worn_in_the_graph(folder, face, method):
    base = restorer()
    base.load().native_size = 128
    images = face.movedim(1, -1)
    with torch.inference_mode():
        persona = TrainPersona.execute(base, "", method, 1, 0, images=images, batch=1, rank=2).args[0]
        worn = ApplyPersona.execute(base, persona, 1.0, "").args[0]
        off = ApplyPersona.execute(base, persona, 0.0, "").args[0]
    plain = base.restore(face, Conditions())
    assert torch.equal(off.restore(face, Conditions()), plain)
    assert not torch.equal(worn.restore(face, Conditions()), plain)
    with pytest.raises(UserError, match="made for 'diffbir 1'"):
        ApplyPersona.execute(base, replace(persona, base="diffbir 1"), 1.0, "")


def test_what_is_missing_is_said(folder):
    for given, match in (
        ({"checkpoint": "other.ckpt"}, "no checkpoint 'other.ckpt'. Known: stablesr_000117.ckpt, webui.safetensors"),
        ({"base": "sd3"}, "no Stable Diffusion 'sd3'. Choose 'in the same file' or one of: sd21.safetensors"),
        ({"checkpoint": "webui.safetensors"}, "webui.safetensors contains only the control"),
        ({"checkpoint": "none found"}, None),
    ):
        if match is None:
            for path in weight_folders("personal_restore")[0].glob("*.ckpt"):
                path.unlink()
            match = r"stablesr_000117.ckpt is missing.*S-Lab License 1.0, commercial use: no"
        with pytest.raises(UserError, match=match):
            restorer(**given)

"""Blind face restorers from their public file formats, with random weights; who gets one in place of an album."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.vocabulary import Conditions, UserError
from personal_restore.models.upscale import networks
from personal_restore.models.upscale.restorer import UpscalerRestorer
from personal_restore.nodes.face_models import FaceModelRestorer
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def restoreformer() -> dict[str, torch.Tensor]:
    """The published topology, narrow: spandrel reads widths from the tensors."""
    from spandrel.architectures.RestoreFormer.__arch.restoreformer_arch import RestoreFormer

    torch.manual_seed(0)
    network = RestoreFormer(
        n_embed=16, embed_dim=64, ch=32, out_ch=3, ch_mult=(1, 1, 1, 1, 2, 2), num_res_blocks=1, attn_resolutions=(16,),
        dropout=0.0, in_channels=3, resolution=512, z_channels=64, double_z=False, enable_mid=True, head_size=8,
    )  # fmt: skip
    return network.state_dict()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    (tmp_path / "facerestore_models").mkdir()
    return tmp_path / "facerestore_models"


def gfpgan():
    """The published architecture at 64 px, under a descriptor as spandrel makes it."""
    from spandrel import ImageModelDescriptor
    from spandrel.architectures.GFPGAN import GFPGANArch
    from spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch import GFPGANv1Clean

    torch.manual_seed(0)
    network = GFPGANv1Clean(
        out_size=64, num_style_feat=32, narrow=0.25, input_is_latent=True, different_w=True, sft_half=True
    )
    for layer in network.modules():
        if type(layer).__name__ == "StyleConv":
            torch.nn.init.constant_(layer.weight, 0.5)  # how much noise enters, 0 before training
    return ImageModelDescriptor(
        network.eval(), network.state_dict(), GFPGANArch(), "FaceSR", [], False, True, 1, 3, 3,
        call_fn=lambda model, image: model(image)[0],
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["pth", "ckpt", "safetensors"])
def test_a_file_in_the_users_folder_restores_aligned_faces(folder, restoreformer, astronaut, suffix):
    if suffix == "safetensors":
        save_file(restoreformer, folder / "former.safetensors")
    else:
        torch.save({"state_dict" if suffix == "ckpt" else "params_ema": restoreformer}, folder / f"former.{suffix}")
    options = FaceModelRestorer.define_schema().inputs[0].options["options"]
    assert f"former.{suffix}" in options
    restorer = FaceModelRestorer.execute(f"former.{suffix}").args[0]
    assert (restorer.name, restorer.native_size, restorer.scale) == ("RestoreFormer", 512, 1)
    assert not restorer.tileable and not restorer.needs_references
    face = astronaut[..., 60:156, 170:266]  # smaller than the native size, for speed
    first, again = (restorer.restore(face, Conditions(seed=seed)) for seed in (1, 2))
    assert first.shape == face.shape and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    # spandrel heeds this network's range itself, so both ways must agree.
    torch.testing.assert_close(first, restorer.load()(face), atol=1e-5, rtol=0)


def test_gfpgan_sees_the_range_it_was_trained_with_and_draws_no_noise(astronaut):
    descriptor, seen = gfpgan(), []
    face = astronaut[..., 60:124, 190:254].contiguous()
    descriptor.model.register_forward_pre_hook(lambda network, given: seen.append(given[0]))
    restorer = UpscalerRestorer(lambda: descriptor, "GFPGAN", 1, native_size=64, tileable=False)
    first = restorer.restore(face, Conditions())
    torch.testing.assert_close(seen[0], face * 2 - 1)
    torch.manual_seed(7)
    assert torch.equal(first, restorer.restore(face, Conditions()))
    with torch.no_grad():
        raw = descriptor.model(face * 2 - 1, randomize_noise=False)[0]
    torch.testing.assert_close(first, (raw / 2 + 0.5).clamp(0, 1))
    assert first.std() > 0.01


@pytest.mark.slow
def test_gfpgan_at_its_published_size(folder, astronaut):
    from spandrel.architectures.GFPGAN.__arch.gfpganv1_clean_arch import GFPGANv1Clean

    network = GFPGANv1Clean(
        out_size=512, num_style_feat=512, channel_multiplier=2, num_mlp=8, input_is_latent=True, different_w=True,
        narrow=1, sft_half=True,
    )  # fmt: skip
    torch.save({"params_ema": network.state_dict()}, folder / "GFPGANv1.4.pth")
    restorer = FaceModelRestorer.execute("GFPGANv1.4.pth").args[0]
    out = restorer.restore(astronaut, Conditions())
    assert restorer.name == "GFPGAN" and out.shape == astronaut.shape and out.isfinite().all()


def test_what_is_no_face_restorer_is_named(folder, restoreformer):
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    compact = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2, act_type="prelu")
    files = {
        "scene.pth": (compact.state_dict(), "not made for aligned faces"),
        "other.pth": ({"weight": torch.zeros(2)}, "not a network that spandrel supports"),
        "codeformer.pth": ({name: torch.zeros(2) for name in networks.CODEFORMER}, "spandrel_extra_arches"),
        "half.pth": ({k: v for k, v in restoreformer.items() if "up.0" not in k}, "incomplete"),
        "evil.pth": ({"state_dict": print}, "more than plain weights"),
    }
    for name, (content, message) in files.items():
        torch.save(content, folder / name)
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            FaceModelRestorer.execute(name)
    with pytest.raises(UserError, match="there is no 'none found'"):
        FaceModelRestorer.execute("none found")

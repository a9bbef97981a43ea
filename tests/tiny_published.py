"""The files of the published bases in a size for tests: same topology, narrow, random, in the published layouts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from personal_restore.models.diffbir import controlnet as diffbir_controlnet
from personal_restore.models.gen2res import adm_unet, pixel_diffusion
from personal_restore.models.shared import stable_diffusion
from personal_restore.models.shared.catalogue import entry
from personal_restore.models.shared.sd_turbo import TEXT_PREFIXES
from personal_restore.models.stablesr import network as stablesr
from personal_restore.tests import tiny_sd
from safetensors.torch import save_file

ADM = {"image_size": 32, "num_channels": 32, "num_res_blocks": 1, "attention_resolutions": "16", "channel_mult": "1,1"}


def write_public_files(workflow: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the workflow looks for, below a models folder; their loaders expect the narrow topology afterwards."""
    for folder in ("checkpoints", "upscale_models", "clip"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    tiny_sd.write_tokenizer(models / "clip")
    WRITERS[workflow](models, monkeypatch)


def _narrow(monkeypatch: pytest.MonkeyPatch, module: object, loader: str, **given) -> None:
    """The loader makes networks for pictures of 128 px of this topology."""
    load = partial(getattr(module, loader), **given)

    def small(*args, **more):
        net = load(*args, **more)
        net.native_size = tiny_sd.SIDE
        return net

    monkeypatch.setattr(module, loader, small)


def _stablesr(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny_sd.stablesr(models / "clip")
    torch.save({"state_dict": tiny_sd.stablesr_file(net)}, models / entry("stablesr-512").file)
    _narrow(monkeypatch, stablesr, "load_stablesr", topology=tiny_sd.TOPOLOGY, **tiny_sd.STRUCTURE)


def _diffbir(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    net = tiny_sd.base(models / "clip")
    save_file(tiny_sd.single_file(net, TEXT_PREFIXES[0]), models / "checkpoints" / entry("sd21-base").file)
    torch.save(net.control.state_dict(), models / entry("diffbir-v1-face").file)
    # face_swinir_v1.ckpt's topology, narrower: shrunk by 8 before the first layer, enlarged by 8 behind the last.
    swinir = SwinIR(
        img_size=64, in_chans=3, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2, upscale=8,
        img_range=1.0, upsampler="nearest+conv", resi_connection="1conv", start_unshuffle=8,
    )  # fmt: skip
    tensors = {name.replace("conv_first.", "conv_first.1."): value for name, value in swinir.state_dict().items()}
    torch.save(tensors, models / "upscale_models" / entry("diffbir-swinir-face").file)
    _narrow(monkeypatch, stable_diffusion, "load_stable_diffusion", topology=tiny_sd.TOPOLOGY)
    load = partial(diffbir_controlnet.load_diffbir_controlnet, **tiny_sd.CONTROL)
    monkeypatch.setattr(diffbir_controlnet, "load_diffbir_controlnet", load)


def _gen2res(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = adm_unet.ADMUNet(**ADM)
    torch.nn.init.normal_(network.out[2].weight, std=0.05)
    torch.save(network.state_dict(), models / entry("gen2res-256").file)
    monkeypatch.setattr(adm_unet, "load_adm_unet", partial(adm_unet.load_adm_unet, **ADM))
    monkeypatch.setattr(pixel_diffusion.PixelDiffusion, "__init__", _of_32_px(pixel_diffusion.PixelDiffusion.__init__))


def _of_32_px(made: Callable[..., None]) -> Callable[..., None]:
    return lambda self, unet, native_size=256, **more: made(self, unet, 32, **more)


WRITERS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "pfstorer_stablesr": _stablesr,
    "dualpivot_diffbir": _diffbir,
    "gen2res_published": _gen2res,
}

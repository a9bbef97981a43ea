"""The files of the published bases in a size for tests: same topology, narrow, random, in the published layouts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from personal_restore.models.diffbir import controlnet as diffbir_controlnet
from personal_restore.models.gen2res import adm_unet, pixel_diffusion
from personal_restore.models.shared import sd_turbo, stable_diffusion
from personal_restore.models.shared.catalogue import entry
from personal_restore.models.stablesr import network as stablesr
from personal_restore.nodes import diffbir as diffbir_nodes
from personal_restore.nodes import generation as generation_nodes
from personal_restore.nodes import stablesr as stablesr_nodes
from personal_restore.nodes import stage_one
from personal_restore.tests import tiny_s3diff, tiny_sd
from personal_restore.training import generator
from personal_restore.training.personas import base_model, presets, prior
from safetensors.torch import save_file

ADM = {"image_size": 32, "num_channels": 32, "num_res_blocks": 1, "attention_resolutions": "16", "channel_mult": "1,1"}


def write_public_files(workflow: str, own: Path, shared: Path) -> None:
    """What the workflow looks for. own: the pack's models folder, shared: ComfyUI's, which headless is the same."""
    for folder in (own, shared / "checkpoints", shared / "upscale_models", shared / "clip"):
        folder.mkdir(parents=True, exist_ok=True)
    tiny_sd.write_tokenizer(shared / "clip")
    WRITERS[workflow](own, shared)


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loaders expect the narrow topology of these files afterwards."""
    _narrow(monkeypatch, stablesr, "load_stablesr", topology=tiny_sd.TOPOLOGY, **tiny_sd.STRUCTURE)
    _narrow(monkeypatch, stable_diffusion, "load_stable_diffusion", topology=tiny_sd.TOPOLOGY)
    for module, loader, given in (
        (diffbir_controlnet, "load_diffbir_controlnet", tiny_sd.CONTROL),
        (adm_unet, "load_adm_unet", ADM),
        (sd_turbo, "load_sd_turbo", {"unet_config": tiny_s3diff.UNET, "vae_config": tiny_s3diff.VAE}),
        (sd_turbo, "embed_prompts", {"config": tiny_s3diff.TEXT}),
    ):
        monkeypatch.setattr(module, loader, partial(getattr(module, loader), **given))
    made = pixel_diffusion.PixelDiffusion.__init__
    monkeypatch.setattr(
        pixel_diffusion.PixelDiffusion,
        "__init__",
        lambda self, unet, native_size=256, **more: made(self, unet, 32, **more),
    )


def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published presets with as few steps as show that they are used."""
    for stage, values in presets.PER_STAGE.items():
        monkeypatch.setitem(presets.PER_STAGE, stage, values | {"steps": 1, "batch": 1})
    monkeypatch.setitem(presets.VARIANTS, presets.GENERATIVE, ("album", {"steps": 2}))
    monkeypatch.setattr(prior, "COUNT", 1)
    monkeypatch.setattr(prior, "SAMPLES", 1)
    for module in (base_model, stage_one):
        monkeypatch.setattr(module, "EPOCHS", 1)
    monkeypatch.setitem(base_model.PUBLISHED, "batch", 1)
    monkeypatch.setitem(generator.MODELS, "published, 512 px", (ADM, 2, 2))
    for table, name, values in (
        (stablesr_nodes.PRESETS, "published, PFStorer", {"steps": 2}),
        (diffbir_nodes.PRESETS, "published, Dual-Pivot Tuning", {"steps": 2}),
        (generation_nodes.PRESETS, "published, 256 px", {"steps": 3}),
        (generation_nodes.ALBUM_PRESETS, "published", {"count": 2}),
    ):
        monkeypatch.setitem(table, name, {**table[name], **values})


def _narrow(monkeypatch: pytest.MonkeyPatch, module: object, loader: str, **given) -> None:
    """The loader makes networks for pictures of 128 px of this topology."""
    load = partial(getattr(module, loader), **given)

    def small(*args, **more):
        net = load(*args, **more)
        net.native_size = tiny_sd.SIDE
        return net

    monkeypatch.setattr(module, loader, small)


def _stablesr(own: Path, shared: Path) -> None:
    net = tiny_sd.stablesr(shared / "clip")
    torch.save({"state_dict": tiny_sd.stablesr_file(net)}, own / entry("stablesr-512").file)


def _diffbir(own: Path, shared: Path) -> None:
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    net = tiny_sd.base(shared / "clip")
    tensors = tiny_sd.single_file(net, sd_turbo.TEXT_PREFIXES[0])
    save_file(tensors, shared / "checkpoints" / entry("sd21-base").file)
    torch.save(net.control.state_dict(), own / entry("diffbir-v1-face").file)
    # face_swinir_v1.ckpt's topology, narrower: shrunk by 8 before the first layer, enlarged by 8 behind the last.
    swinir = SwinIR(
        img_size=64, in_chans=3, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2, upscale=8,
        img_range=1.0, upsampler="nearest+conv", resi_connection="1conv", start_unshuffle=8,
    )  # fmt: skip
    tensors = {name.replace("conv_first.", "conv_first.1."): value for name, value in swinir.state_dict().items()}
    torch.save(tensors, shared / "upscale_models" / entry("diffbir-swinir-face").file)


def _gen2res(own: Path, shared: Path) -> None:
    torch.manual_seed(0)
    network = adm_unet.ADMUNet(**ADM)
    torch.nn.init.normal_(network.out[2].weight, std=0.05)
    torch.save(network.state_dict(), own / entry("gen2res-256").file)


def _s3diff(own: Path, shared: Path) -> None:
    tensors = tiny_s3diff.single_file(tiny_s3diff.turbo(), tiny_s3diff.text_encoder(), sd_turbo.TEXT_PREFIXES[1])
    save_file(tensors, shared / "checkpoints" / entry("sd-turbo").file)
    tiny_s3diff.write_public_files(own)


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "pfstorer_stablesr": _stablesr,
    "dualpivot_diffbir": _diffbir,
    "gen2res_published": _gen2res,
    "train_bases": _stablesr,
    "s3diff_scene": _s3diff,
    "face2scene_train": _s3diff,
    "face2scene_stages": _s3diff,
}

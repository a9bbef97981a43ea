"""The published topologies at their full size, random weights: they build, and every method takes a step on them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from personal_restore.models.diffbir.controlnet import DiffBIRControlNet
from personal_restore.models.gen2res.adm_unet import ADMUNet
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion
from personal_restore.models.shared import clip_text
from personal_restore.models.shared.clip_words import ClipWords, load_tokenizer
from personal_restore.models.shared.stable_diffusion import TEXT, UNET, VAE, StableDiffusion
from personal_restore.models.stablesr.network import StableSR, StructureEncoder
from personal_restore.tests.tiny_sd import write_tokenizer
from personal_restore.training.personas.make import make_persona
from personal_restore.training.personas.methods import Material, Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of the memory is read from /proc"),
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[UNet2DConditionModel, AutoencoderKL, ClipWords]:
    """Stable Diffusion's, which both bases share: one after the other in the order of this file."""
    torch.manual_seed(0)
    encoder = clip_text.empty_encoder(TEXT).to_empty(device="cpu")
    for name, value in [*encoder.named_parameters(), *encoder.named_buffers()]:
        value.data = torch.arange(77)[None] if name.endswith("position_ids") else 0.02 * torch.randn(value.shape)
    words = ClipWords(encoder.eval(), load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("words"))))
    return UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE), words


@pytest.fixture
def diffbir(parts) -> StableDiffusion:
    net = StableDiffusion(*parts, DiffBIRControlNet())
    sizes = {part: sum(p.numel() for p in getattr(net, part).parameters()) for part in ("unet", "vae", "control")}
    assert sizes == {"unet": 865_910_724, "vae": 83_653_863, "control": 363_153_280}
    return net


@pytest.fixture
def stablesr(parts) -> StableSR:
    net = StableSR(*parts, StructureEncoder())
    assert sum(p.numel() for p in net.control.parameters()) == 105_514_240
    return net


def measured(net, method: str, rank: int, side: int, pictures: torch.Tensor, record_property) -> dict:
    """One step, and the most memory of this process meanwhile, everything included, in GB."""
    net.native_size = side  # the topology does not depend on it; a smaller picture takes minutes less on one core
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    began = time.process_time()
    settings = Settings(method=method, steps=1, batch=1, rank=rank, learning_rate=1e-4, damage="mild", prior_weight=0.0)
    persona = make_persona(net, "full size", Material(pictures), settings)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9
    size = sum(value.numel() * value.element_size() for value in persona.tensors.values()) / 1e6
    said = {"cpu_seconds": round(time.process_time() - began), "peak_GB": round(peak, 2), "persona_MB": round(size, 1)}
    print(method, side, said, flush=True)
    record_property(f"{method} {side}", said)
    assert all(value.isfinite().all() for value in persona.tensors.values())
    assert peak < 12
    return persona.tensors


@pytest.fixture(scope="module")
def pictures(astronaut) -> torch.Tensor:
    return torch.cat([astronaut, astronaut.flip(-1)])


def moved(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether an adapter has left the zero it starts from."""
    return any(value.any() for name, value in tensors.items() if name.endswith(("lora_B.weight", "gamma")))


@pytest.mark.parametrize(
    ("method", "side"), [("textual_pivot", 256), ("model_pivot", 256), ("adapter", 256), ("album", 512)]
)
def test_a_method_takes_a_step_on_diffbir(diffbir, pictures, record_property, method, side):
    tensors = measured(diffbir, method, 4, side, pictures, record_property)
    assert (
        moved(tensors) or method == "model_pivot"
    )  # whose zero convolutions let a gradient through after the first step
    if method == "adapter":
        own = [value.numel() for name, value in tensors.items() if "image_cross_attention" in name]
        assert sum(own) == 51_248_960  # test 41


@pytest.mark.parametrize(("method", "side"), [("model_pivot", 256), ("adapter", 256)])
def test_a_method_takes_a_step_on_stablesr(stablesr, pictures, record_property, method, side):
    """Fresh zero convolutions are at the ends of the encoder's branches alone, so that the control moves at once."""
    assert moved(measured(stablesr, method, 4, side, pictures, record_property))


def test_the_album_takes_a_step_on_the_pixel_model(pictures, record_property):
    torch.manual_seed(0)
    net = PixelDiffusion(ADMUNet())
    assert moved(measured(net, "album", 4, 256, pictures, record_property))

"""What runs where the networks are runs on a device without float64, and mixes no tensors of two devices."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from personal_restore.lib.vocabulary import Conditions
from personal_restore.models.pfstorer.vico_block import otsu_mask
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.models.shared.sd_turbo_restorer import _publicly_tiled
from personal_restore.tests.refusing_device import DEVICE, Refusing, There
from personal_restore.tests.tiny_base import BASE, small_base


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the pretended device
    with torch.inference_mode(), Refusing():
        yield


def there(net: torch.nn.Module) -> torch.nn.Module:
    """The network on the device."""
    net.to(DEVICE)
    assert all(isinstance(one, There) for one in net.parameters())
    return net


def came_back(out: torch.Tensor, like: torch.Tensor) -> None:
    assert not isinstance(out, There) and out.device.type == "cpu"
    assert out.shape == like.shape and out.isfinite().all() and (out - like).abs().max() > 1e-3


def test_the_device_is_one():
    one = torch.ones(2, 3).to(DEVICE)
    assert one.device == DEVICE and torch.equal((one * 2).cpu(), torch.full((2, 3), 2.0))
    assert torch.arange(3, device=DEVICE).tolist() == [0, 1, 2]
    for wrong in (one.double, lambda: torch.ones(2, dtype=torch.float64).to(DEVICE), lambda: one.new_zeros(2).double()):
        with pytest.raises(TypeError, match="no float64"):
            wrong()
    with pytest.raises(RuntimeError, match="two devices"):
        one + torch.ones(2, 3)
    assert torch.ones(2, dtype=torch.float64).to(one).dtype == torch.float32


def test_public_tiles_and_masks_of_attention():
    latent, values = torch.rand(1, 4, 40, 48), torch.rand(2, 64)
    ours = _publicly_tiled(lambda part: part * 2, latent.to(DEVICE), 16, 8, lambda done, total: None)
    assert isinstance(ours, There)
    torch.testing.assert_close(ours.cpu(), latent * 2)
    mask = otsu_mask(values.to(DEVICE))
    assert isinstance(mask, There) and torch.equal(mask.cpu(), otsu_mask(values))


def test_a_diffusion_base(pictures):
    net = there(small_base())
    restorer = DiffusionRestorer(lambda: net, BASE, 32, denoise=0.2, steps=3, cfg=1.5)
    came_back(restorer.restore(pictures[:1], Conditions(seed=1)), pictures[:1])


def test_no_float64_is_made_on_the_devices_of_networks():
    """What the tests above cannot reach: a conversion before the tensor has left its device."""
    folder = Path(__file__).resolve().parent.parent / "models"
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in folder.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"(?<!\.cpu\(\))\.double\(\)|torch\.float64", line)
    ]
    on_the_cpu = ["pfstorer/vico_block.py", "shared/sd_turbo_restorer.py", "shared/vae_strips.py"]
    assert sorted(line.partition(":")[0] for line in found) == on_the_cpu, "write .cpu().double()"

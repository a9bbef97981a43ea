"""Restoring at twice the size: an upscale model of that scale, or the embedded restorer on the enlarged picture."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import Conditions, DegradationCode, UserError
from personal_restore.nodes.enlarging import EnlargingRestorer
from personal_restore.nodes.restore import EmbeddedRestorer


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    (tmp_path / "upscale_models").mkdir()
    return tmp_path / "upscale_models"


def compact(scale: int) -> dict[str, torch.Tensor]:
    """Real-ESRGAN's small network, narrow and random."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    return SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=scale, act_type="prelu"
    ).state_dict()


def test_enlarging_before_restoring_is_nearer_to_the_truth_than_after(astronaut):
    truth = astronaut[..., 20:212, 130:322]
    noise = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    small = (F.interpolate(truth, scale_factor=0.5, mode="area") + 10 / 255 * noise).clamp(0, 1)
    own, restorer = EmbeddedRestorer.execute().args[0], EnlargingRestorer.execute(2, "embedded").args[0]
    with torch.inference_mode():
        before, after = restorer.restore(small, Conditions()), own.restore(small, Conditions())
    after = F.interpolate(after, scale_factor=2, mode="bicubic").clamp(0, 1)
    assert restorer.scale == 2 and before.shape == truth.shape
    assert psnr(before, truth) > psnr(after, truth) + 0.5


def test_a_code_of_the_small_picture_is_not_used(astronaut):
    restorer = EnlargingRestorer.execute(2, "embedded").args[0]
    code = DegradationCode(torch.zeros(1, 8, 1, 1), torch.zeros(1, 21, 4), "of another network")
    small = astronaut[..., 60:100, 200:240]
    with torch.inference_mode():
        assert torch.equal(restorer.restore(small, Conditions(code=code)), restorer.restore(small, Conditions()))


def test_auto_takes_the_file_that_is_named_for_the_scale_and_says_which(folder, astronaut):
    restorer, report = EnlargingRestorer.execute(2, "auto").args
    assert restorer.name == "one-step at 2x" and "no file in models/upscale_models is named for 2x" in report
    torch.save({"params": compact(4)}, folder / "RealESRGAN_x4plus.pth")
    torch.save({"params": compact(2)}, folder / "RealESRGAN_x2plus.pth")
    restorer, report = EnlargingRestorer.execute(2, "auto").args
    assert report.startswith("RealESRGAN Compact at 2x from RealESRGAN_x2plus.pth, the first file")
    assert restorer.restore(astronaut[..., :40, :40], Conditions()).shape == (1, 3, 80, 80)
    assert EnlargingRestorer.execute(4, "auto").args[0].scale == 4
    assert EnlargingRestorer.execute(3, "auto").args[0].name == "one-step at 3x"


def test_a_file_of_another_scale_or_of_none_is_refused(folder):
    torch.save({"params": compact(4)}, folder / "RealESRGAN_x4plus.pth")
    with pytest.raises(UserError, match="enlarges 4x, not 2x"):
        EnlargingRestorer.execute(2, "RealESRGAN_x4plus.pth")
    with pytest.raises(UserError, match="there is no 'gone.pth'"):
        EnlargingRestorer.execute(2, "gone.pth")

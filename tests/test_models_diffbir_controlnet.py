"""DiffBIR's ControlNet against public vectors, its published layout, and how it meets a UNet of diffusers."""

from __future__ import annotations

import inspect

import pytest
import torch
from diffusers import UNet2DConditionModel
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.diffbir.controlnet import DiffBIRControlNet, load_diffbir_controlnet

SMALL = {"model_channels": 32, "channel_mult": (1, 2, 2, 2), "num_head_channels": 16, "context_dim": 24}


def config_of(about: dict) -> dict:
    return {name: about["config"][name] for name in inspect.signature(DiffBIRControlNet).parameters}


def golden_outputs(golden, **changed) -> list[torch.Tensor]:
    tensors, about = golden("diffbir_controlnet")
    net = load_diffbir_controlnet(golden.folder / "diffbir_controlnet.pth", **config_of(about))
    given = {name: tensors[f"in.{name}"] for name in ("x", "hint", "timesteps", "context")} | changed
    with torch.inference_mode():
        return net(**given)


def test_golden_outputs_from_the_public_layout(golden):
    tensors, about = golden("diffbir_controlnet")
    outputs = golden_outputs(golden)
    assert len(outputs) == sum(name.startswith("out.") for name in tensors)
    for n, out in enumerate(outputs):
        torch.testing.assert_close(out, tensors[f"out.{n:02}"], atol=about["tolerance"]["atol"], rtol=0)


def test_the_order_of_the_eight_channels_matters(golden):
    tensors, _ = golden("diffbir_controlnet")
    swapped = golden_outputs(golden, x=tensors["in.hint"], hint=tensors["in.x"])
    assert not torch.allclose(swapped[0], tensors["out.00"], atol=1e-2)


def test_the_published_files_have_exactly_these_tensors(golden):
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in DiffBIRControlNet().state_dict().items()}
    assert shapes["input_blocks.0.0.weight"] == (320, 8, 3, 3)
    listed = golden.folder.parent / "reference" / "diffbir_controlnet_keys.md"
    if not listed.is_file():
        pytest.skip("the list of published tensors is absent")
    lines = [line.split(" ", 1) for line in listed.read_text().splitlines() if line and not line.startswith("#")]
    assert shapes == {name: tuple(int(n) for n in shape.strip("() ,").split(",")) for name, shape in lines}


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    cross, plain = ("CrossAttn{}2D",), ("{}2D",)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64, 64), attention_head_dim=2, cross_attention_dim=24,
        down_block_types=[name.format("DownBlock") for name in cross * 3 + plain],
        up_block_types=[name.format("UpBlock") for name in plain + cross * 3],
    ).eval().requires_grad_(False)  # fmt: skip


def controlled(unet: UNet2DConditionModel, outputs: list[torch.Tensor], strength: float, **given) -> torch.Tensor:
    *skips, middle = [strength * one for one in outputs]
    return unet(**given, down_block_additional_residuals=skips, mid_block_additional_residual=middle).sample


def test_a_fresh_one_leaves_the_unet_as_it_is_and_so_does_strength_zero(unet):
    torch.manual_seed(0)
    net = DiffBIRControlNet(**SMALL).eval()
    x, hint, context = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.randn(2, 77, 24)
    given = {"sample": x, "timestep": 500, "encoder_hidden_states": context}
    with torch.inference_mode():
        base = unet(**given).sample
        arguments = (x, hint, torch.full((2,), 500), context)
        assert torch.equal(controlled(unet, net(*arguments), 1.0, **given), base)
        for one in (*net.zero_convs, net.middle_block_out):
            torch.nn.init.normal_(one[0].weight, std=0.1)
        trained = net(*arguments)
        assert torch.equal(controlled(unet, trained, 0.0, **given), base)
        assert not torch.allclose(controlled(unet, trained, 1.0, **given), base, atol=1e-3)


def test_the_first_gradient_reaches_only_the_zero_convolutions():
    net = DiffBIRControlNet(**SMALL)
    outputs = net(torch.randn(1, 4, 16, 16), torch.randn(1, 4, 16, 16), torch.tensor([10]), torch.randn(1, 77, 24))
    sum((out - 1).square().mean() for out in outputs).backward()
    moved = {name.split(".")[0] for name, one in net.named_parameters() if one.grad.any()}
    assert moved == {"zero_convs", "middle_block_out"}


def test_the_weights_of_another_network_are_refused_by_tensor(tmp_path):
    path = tmp_path / "v2.pth"
    torch.save(DiffBIRControlNet(**SMALL, hint_channels=0).state_dict(), path)
    with pytest.raises(
        UserError, match=r"v2\.pth: the tensor input_blocks\.0\.0\.weight has the shape \[32, 4, 3, 3\]"
    ):
        load_diffbir_controlnet(path, **SMALL)

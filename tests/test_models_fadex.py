"""FaDeX, degradation attention and MapNet against public vectors and their defining properties."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from personal_restore.models.embedded.degradation_attention import (
    DegradationAttention,
    differential_attention,
    head_rms_norm,
)
from personal_restore.models.embedded.fadex import FaDeX
from personal_restore.models.embedded.mapnet import MapNet


def encoder(weights: dict, widths, channels: int) -> FaDeX:
    net = FaDeX(tuple(widths), channels)
    net.load_state_dict(weights)
    return net.eval()


def assert_encodes(net: FaDeX, tensors: dict, name: str, atol: float):
    features = net(tensors[f"{name}.in"])
    expected = tensors.get(f"{name}.map", tensors.get(f"{name}.map_ch0_15"))
    torch.testing.assert_close(features[:, : expected.shape[1]], expected, atol=atol, rtol=0)
    torch.testing.assert_close(features.mean((-2, -1)), tensors[f"{name}.feature"], atol=atol, rtol=0)
    torch.testing.assert_close(net.project(features), tensors[f"{name}.projected"], atol=atol, rtol=0)


@pytest.mark.parametrize(("name", "channels"), [("rgb", 3), ("six", 6)])
def test_golden_encoder_of_reduced_width(golden, name, channels):
    tensors, about = golden("dasr_encoder")
    prefix = f"w.{name}."
    weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    net = encoder(weights, about["config"]["reduced"], channels)
    assert_encodes(net, tensors, f"reduced.{name}", about["tolerance"]["atol"])


def test_golden_encoder_from_the_public_checkpoint(golden):
    tensors, about = golden("dasr_encoder")
    public = torch.load(golden.folder / "dasr_encoder.pth", weights_only=True)
    prefix = "E.encoder_q."
    weights = {key.removeprefix(prefix): value.clone() for key, value in public.items() if key.startswith(prefix)}
    widths = about["config"]["full"]
    assert_encodes(encoder(weights, widths, 3), tensors, "full.rgb", about["tolerance"]["full_atol"])
    weights["E.0.weight"] = tensors["full.six.first_conv_weight"]
    assert_encodes(encoder(weights, widths, 6), tensors, "full.six", about["tolerance"]["full_atol"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_golden_differential_attention(golden, dtype):
    tensors, about = golden("diff_attention")
    given = {key.removeprefix("in."): value.to(dtype) for key, value in tensors.items() if key.startswith("in.")}
    scalars = about["scalars"]
    atol = about["tolerance"]["float64_atol" if dtype is torch.float64 else "float32_atol"]

    def check(got: torch.Tensor, name: str):
        torch.testing.assert_close(got.double(), tensors[f"out.{name}"], atol=atol, rtol=0)

    inputs = [given[name] for name in ("q1", "k1", "q2", "k2", "v")]
    attended = differential_attention(*inputs, given["lambda"])
    normed = head_rms_norm(attended, given["rms_gain"], scalars["eps"])
    check(attended, "attn")
    check(head_rms_norm(attended, eps=scalars["eps"]), "rmsnorm_nogain")
    check(normed, "rmsnorm")
    check(normed * (1 - scalars["lambda_init"]), "rmsnorm_times_1_minus_lambda_init")
    check(normed.transpose(1, 2).flatten(2), "heads_merged")
    check(differential_attention(*inputs, given["lambda_per_head"].view(1, -1, 1, 1)), "attn_lambda_per_head")

    def exponent(n):
        return (given[f"lambda_q{n}"] @ given[f"lambda_k{n}"]).exp()

    weight = exponent(1) - exponent(2) + scalars["lambda_init"]
    check(weight, "lambda_reparam")
    check(differential_attention(*inputs, weight), "attn_lambda_reparam")


def test_attention_rows_sum_to_one_minus_lambda():
    q1, k1, q2, k2 = torch.randn(4, 2, 3, 17, 8)
    ones = torch.ones(2, 3, 17, 16)
    torch.testing.assert_close(differential_attention(q1, k1, q2, k2, ones, 0.3), 0.7 * ones)


def test_attention_with_lambda_zero_is_plain_and_with_identical_branches_and_one_is_zero():
    q, k = torch.randn(2, 2, 3, 17, 8)
    v = torch.randn(2, 3, 17, 16)
    plain = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1) @ v
    torch.testing.assert_close(differential_attention(q, k, torch.randn_like(q), k, v, 0.0), plain)
    assert differential_attention(q, k, q, k, v, 1.0).abs().max() == 0


@pytest.mark.parametrize("size", [(16, 16), (37, 53), (16, 300), (128, 128), (512, 384)])
def test_any_crop_from_16_pixels_gives_21_tokens(size):
    with torch.inference_mode():
        features = FaDeX((8, 12, 16)).eval()(torch.rand(2, 6, *size))
        tokens = MapNet(16, 32, 16, 2, 1024)(features)
    assert tokens.shape == (2, 21, 1024)
    assert tokens.isfinite().all()
    assert torch.cat([torch.zeros(2, 77, 1024), tokens], 1).shape == (2, 98, 1024)


def test_means_of_16_cells_4_cells_and_the_global_cell_agree():
    local, middle, whole = MapNet(16, 32, 16, 2, 64).pooled(torch.rand(1, 16, 32, 32))
    torch.testing.assert_close(local.mean(1), whole[:, 0])
    torch.testing.assert_close(middle.mean(1), whole[:, 0])


def test_paper_sizes_have_the_papers_parameter_counts():
    def count(net):
        return sum(p.numel() for p in net.parameters())

    assert count(DegradationAttention()) == 655_489
    assert count(FaDeX()) == 1_280_512
    assert round(count(MapNet()) / 1e6, 1) == 5.8


def test_order_of_the_pair_matters():
    net = FaDeX((8, 12, 16)).eval()
    high, low = torch.rand(2, 1, 3, 32, 32)
    assert not torch.allclose(net(torch.cat([high, low], 1)), net(torch.cat([low, high], 1)))


def test_attention_over_a_512_pixel_face_never_builds_the_square_map():
    """4096 positions, 4 heads, 2 branches: the maps alone would take 512 MB."""
    program = (
        "import sys, resource, torch; sys.path.insert(0, sys.argv[1]); import run; run.load_package();"
        "from personal_restore.models.embedded.degradation_attention import DegradationAttention as A;"
        "net, x = A(), torch.randn(1, 4096, 512);"
        "torch.inference_mode().__enter__(); net(x[:, :64]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; net(x);"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    root = str(__import__("pathlib").Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150, f"{done.stdout.strip()} MB more"

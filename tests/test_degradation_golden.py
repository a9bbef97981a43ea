"""The elementary degradations against the public implementation's numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from personal_restore.lib.degradation import operators
from personal_restore.lib.degradation.jpeg import diff_jpeg
from PIL import Image


def kernel(row: dict) -> torch.Tensor:
    p = row["params"]
    if row["kind"] == "sinc":
        made = operators.sinc_kernel(row["kernel_size"], p["cutoff"])
        pad = max(0, (p["pad_to"] - row["kernel_size"]) // 2)
        return torch.nn.functional.pad(made, (pad,) * 4)
    isotropic = not row["kind"].endswith("aniso")
    second, angle = (p["sig_x"], 0.0) if isotropic else (p["sig_y"], p["theta"])
    return operators.gaussian_kernel(
        row["kernel_size"], p["sig_x"], second, angle, p.get("beta", 1.0), row["kind"].startswith("plateau")
    )


def test_golden_kernels(golden):
    tensors, about = golden("degradation")
    for row in about["kernels"]:
        made, atol = kernel(row), about["tolerance"]["kernel_atol"]
        torch.testing.assert_close(made.double(), tensors[f"kernel.{row['index']}"], atol=atol, rtol=0)


def test_golden_filter(golden):
    tensors, about = golden("degradation")
    picture, atol = tensors["in.img"].float(), about["tolerance"]["filter2D_atol"]
    shared = tensors[about["filter2D"]["shared_kernel"]]
    for kernels, name in ((shared, "shared"), (tensors["filter2D.per_sample.kernels"], "per_sample")):
        expected = tensors[f"filter2D.{name}.out"]
        torch.testing.assert_close(operators.filter2d(picture, kernels), expected, atol=atol, rtol=0)


def test_golden_gaussian_noise(golden, monkeypatch):
    tensors, about = golden("degradation")
    picture, atol = tensors["in.img"].float(), about["tolerance"]["noise_atol"]
    for i, (sigma, gray) in enumerate(
        zip(tensors["gauss.sigma"].tolist(), tensors["gauss.gray"].tolist(), strict=True)
    ):
        given = tensors["gauss.noise_gray"][None, None] if gray else tensors["gauss.noise_colour"][i : i + 1]
        monkeypatch.setattr(torch, "randn", lambda *size, given=given, generator=None: given)
        out = operators.gaussian_noise(picture[i : i + 1], sigma=sigma, gray=bool(gray), generator=torch.Generator())
        torch.testing.assert_close(out, tensors["gauss.out_clip"][i : i + 1], atol=atol, rtol=0)


def test_golden_poisson_noise(golden, monkeypatch):
    tensors, about = golden("degradation")
    picture, atol = tensors["in.img"].float(), about["tolerance"]["noise_atol"]
    for i, (scale, gray) in enumerate(
        zip(tensors["poisson.scale"].tolist(), tensors["poisson.gray"].tolist(), strict=True)
    ):
        name = "gray" if gray else "colour"
        light, counts = operators.poisson_rate(picture[i : i + 1], bool(gray))
        torch.testing.assert_close(light * counts, tensors[f"poisson.rate_{name}"][i : i + 1], atol=1e-3, rtol=1e-5)
        drawn = tensors[f"poisson.counts_{name}"][i : i + 1].float()
        monkeypatch.setattr(torch, "poisson", lambda rate, drawn=drawn, generator=None: drawn)
        out = operators.poisson_noise(picture[i : i + 1], scale=scale, gray=bool(gray), generator=torch.Generator())
        torch.testing.assert_close(out, tensors["poisson.out_clip"][i : i + 1], atol=atol, rtol=0)


def test_golden_diff_jpeg(golden):
    tensors, _ = golden("degradation")
    picture = tensors["in.img"].float()
    cases = [(diff_jpeg(picture, quality=tensors["jpeg.quality"]), tensors["jpeg.diff_out"])]
    cases += [
        (diff_jpeg(picture[:1], quality=float(name.rsplit("_", 1)[1])), tensors[name])
        for name in tensors
        if name.startswith("jpeg.diff_out_scalar_")
    ]
    for out, expected in cases:
        assert ((out - expected).abs() <= 1e-4).float().mean() >= 0.995


@pytest.mark.parametrize("own", [False, True])
def test_golden_jpeg_file(golden, own):
    """A real JPEG file: reading the public one, and writing our own (builds of libjpeg differ a little)."""
    tensors, _ = golden("degradation")
    names = [name for name in tensors if name.startswith("jpeg.cv2_bytes_q")]
    for name in names:
        quality = int(name.removeprefix("jpeg.cv2_bytes_q"))
        expected = tensors[f"jpeg.cv2_out_q{quality}"]
        if own:
            out = operators.jpeg(tensors["in.img"][:1].float(), quality=quality)[0].permute(1, 2, 0)
            assert (out - expected).abs().mean() <= 1 / 255
        else:
            with Image.open(io.BytesIO(tensors[name].numpy().tobytes())) as coded:
                out = torch.from_numpy(np.asarray(coded.convert("RGB")).copy()).float() / 255
            assert (out - expected).abs().max() <= 1.001 / 255
    assert names


def test_golden_unsharp_mask(golden):
    tensors, _ = golden("degradation")
    out = operators.unsharp_mask(tensors["usm.in"].float())
    assert ((out - tensors["usm.out"]).abs() <= 5e-5).float().mean() >= 0.999

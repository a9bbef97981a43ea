"""Loads the pack under its installed name, whatever the folder is called, and finds the optional test material."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent

spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)
run.load_package()

GOLDEN = Path(os.environ.get("PR_GOLDEN_DIR", ROOT.parent / "shared" / "golden"))
PHOTOS = Path(os.environ.get("PR_PHOTOS", ROOT.parent / "shared" / "photos"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests (``-n``), the tests of a file, or of a ComfyUI, stay in one, as they share what they made."""
    for item in items:
        comfyui = getattr(item, "callspec", None) and item.callspec.params.get("comfyui_root")
        item.add_marker(pytest.mark.xdist_group(f"ComfyUI {comfyui}" if comfyui else str(item.path)))


@pytest.fixture
def golden():
    """golden(item) -> (tensors, description); skips where the vectors are absent."""

    def load(item: str):
        if not (GOLDEN / f"{item}.safetensors").is_file():
            pytest.skip(
                f"no golden vectors {item}.safetensors in {GOLDEN}: set PR_GOLDEN_DIR to a folder with inputs and outputs "
                "of the published code; tests/README.md says which"
            )
        return load_file(GOLDEN / f"{item}.safetensors"), json.loads((GOLDEN / f"{item}.json").read_text())

    load.folder = GOLDEN
    return load


@pytest.fixture
def photos() -> Path:
    if not PHOTOS.is_dir():
        pytest.skip(
            f"no photographs in {PHOTOS}: set PR_PHOTOS to a folder with sample pictures of public repositories; "
            "tests/README.md says which"
        )
    return PHOTOS


@pytest.fixture(scope="session")
def astronaut() -> torch.Tensor:
    """float32 [1, 3, 512, 512] in 0..1: NASA's portrait of Eileen Collins from the scikit-image wheel."""
    from skimage.data import astronaut

    return torch.from_numpy(np.ascontiguousarray(astronaut())).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def denoiser():
    """The smallest of diffusers' pixel-space networks, with random weights."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval().requires_grad_(False)  # fmt: skip


@pytest.fixture(scope="module")
def net():
    """A diffusion base of random weights for faces of 32x32."""
    from personal_restore.tests.tiny_base import small_base

    return small_base()


@pytest.fixture(scope="module")
def pictures(astronaut) -> torch.Tensor:
    """Four faces, ``[4, 3, 32, 32]``: the portrait's, moved."""
    corners = ((40, 180), (44, 170), (36, 176), (50, 184))
    crops = torch.cat([astronaut[..., y : y + 160, x : x + 160] for y, x in corners])
    return torch.nn.functional.interpolate(crops, (32, 32), mode="area")


@pytest.fixture
def restorer(net):
    """A restorer on that base."""
    from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
    from personal_restore.tests.tiny_base import BASE

    return DiffusionRestorer(lambda: net, BASE, 32, denoise=0.2, steps=3)


@pytest.fixture
def small(astronaut) -> torch.Tensor:
    """The portrait at a size that restores in a second."""
    return astronaut[..., :256, 80:336]


@pytest.fixture
def separate_folders(tmp_path, monkeypatch):
    """The stand-in reads, writes and finds models in the test's own folder."""
    from personal_restore.lib.standin.host import folders

    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(folders, "input", tmp_path)
    monkeypatch.setattr(folders, "output", tmp_path / "output")
    monkeypatch.setattr(folders, "allowed", [])

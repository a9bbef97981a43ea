"""The comparison with other restorers, on pictures small enough to check."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.cli.benchmarks import peers, peers_methods
from personal_restore.cli.benchmarks.peers_methods import Measured
from personal_restore.lib import extras
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.vocabulary import UserError

ROOT = Path(__file__).resolve().parent.parent


def noisy(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    return (picture + torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) * sigma / 255).clamp(0, 1)


def test_the_estimate_of_the_noise_is_near_the_truth(astronaut):
    """Measured 14.1 with noise of 15, because black is clipped, and 2.2 without: the portrait's own grain."""
    assert peers.estimated_sigma(noisy(astronaut, 15)) == pytest.approx(15, abs=1.5)
    assert peers.estimated_sigma(astronaut) < 3


@pytest.mark.parametrize("name", ["OpenCV non-local means", "scikit-image non-local means"])
def test_denoisers_that_are_told_the_noise_remove_it(astronaut, name):
    """Measured: 24.6 dB become 28.6 and 32.2."""
    truth = astronaut[..., :128, 160:288]
    damaged = noisy(truth, 15)
    done = peers_methods.run_method(name, [damaged.numpy()], [15.0])
    assert psnr(torch.from_numpy(done.pictures[0]), truth) > psnr(damaged, truth) + 3
    assert len(done.seconds) == 1 and done.seconds[0] > 0


def test_ours_with_the_damage_read_differs_from_ours_alone(astronaut):
    damaged = [noisy(astronaut[..., :192, 128:320], 10).numpy()]
    blind, guided = (
        peers_methods.run_method(name, damaged, [10.0]).pictures[0] for name in ("ours", "ours, damage read")
    )
    assert blind.shape == damaged[0].shape and not np.array_equal(blind, guided)


def test_what_is_not_installed_is_skipped_with_the_reason(astronaut, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "bm3d" else found(name))
    with pytest.raises(UserError, match='pip install "bm3d'):
        peers_methods.restorer_named("BM3D")
    monkeypatch.setattr(peers, "_in_own_process", peers_methods.run_method)
    figures = peers.bench(None, tmp_path, side=96, draws=1, noise="true", methods=["BM3D", "OpenCV non-local means"])
    assert list(figures["methods"]) == ["damaged", "OpenCV non-local means"]
    assert (tmp_path / "peers.png").is_file()
    assert "Not measured: BM3D. BM3D needs bm3d, which is not installed." in peers.table(figures)


def test_the_table_says_what_was_measured():
    truth, zeros = torch.full((1, 3, 32, 32), 0.6), np.full((1, 3, 32, 32), 0.5, np.float32)
    cases = [(kind, photo) for kind in peers.DAMAGES for photo in ("one", "other")]
    done = Measured([zeros] * 6, [0.1024] * 6, 5e6)
    row = peers.peer_scores(cases, [truth] * 6, done)
    assert row["seconds_per_megapixel"] == 100 and row["memory_mb"] == 5
    figures = {"photographs": 2, "longest_side": 32, "draws": 1, "noise": "true", "skipped": {}}
    lines = peers.table(figures | {"methods": {"damaged": row, "other": row}}).splitlines()
    cell = f"20.00 ± 0.0, {row['damage']['everyday']['ssim'][0]:.3f}"
    assert lines[-1] == f"| other | {cell} | {cell} | {cell} | 100.0 | 5 |"


def test_the_documented_table_is_that_of_the_figures():
    figures = json.loads((ROOT / "docs" / "peers.json").read_text("utf-8"))
    assert peers.table(figures) in (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


@pytest.mark.slow
def test_every_method_runs_in_a_process_of_its_own(tmp_path):
    command = ["bench", "peers", "--side", "96", "--out", str(tmp_path), "--json", str(tmp_path / "peers.json")]
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "peers.json").read_text())
    assert {*peers_methods.METHODS} == {*figures["methods"], *figures["skipped"]} - {"damaged"}
    assert figures["methods"]["ours"]["memory_mb"] > 1

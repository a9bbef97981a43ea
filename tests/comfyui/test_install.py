"""Installing the pack leaves ComfyUI's own packages as they are."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import run

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

PACK = Path(__file__).resolve().parents[2]


def needed(requirements: list[str]) -> dict[str, str]:
    """Installed versions of these packages and of everything they depend on."""
    found: dict[str, str] = {}
    waiting = list(requirements)
    while waiting:
        line = waiting.pop()
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        if not name or "extra ==" in line:
            continue
        key = re.sub(r"[-_.]+", "-", name[0]).lower()
        if key in found:
            continue
        try:
            package = importlib.metadata.distribution(key)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        found[key] = package.version
        waiting += package.requires or []
    return found


def test_our_requirements_fit_the_versions_that_comfyui_has(comfyui_root, tmp_path):
    """pip, told to keep every version that ComfyUI uses, finds a solution: so it has no reason to change one."""
    lines = [line.split("#")[0].strip() for line in (comfyui_root / "requirements.txt").read_text().splitlines()]
    versions = needed([line for line in lines if line])
    assert "torch" in versions and len(versions) > 30
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(f"{name}=={version}" for name, version in versions.items()))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-input"]
    done = subprocess.run(
        [*command, *run.wanted("demo"), "-c", str(constraints)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "No matching distribution" in done.stderr and "onnxruntime" not in versions and "Retrying" in done.stderr:
        pytest.skip("no package index is reachable: run it with a network, or with PIP_FIND_LINKS")
    assert done.returncode == 0, done.stderr[-3000:]


def test_torch_is_never_required():
    lines = (PACK / "requirements.txt").read_text().splitlines()
    assert not [line for line in lines if re.match(r"torch(vision|audio)?\b", line)]

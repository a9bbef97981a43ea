"""Files of torch.save: read where torch protects from what may be in them, refused in plain words where it does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from personal_restore.lib.faces import mtcnn
from personal_restore.lib.storage.tensors import read_pickled
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.yolo import segment
from torch.torch_version import TorchVersion

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def file(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2.5.1", ["CVE-2025-32434", "CVE-2026-24747"]),
        ("2.6.0+cu124", ["CVE-2026-24747"]),
        ("2.9.1", ["CVE-2026-24747"]),
        ("2.10.0", []),
        ("2.11.0+cu130", []),
    ],
)
def test_versions_of_torch_with_known_holes_read_no_pickle(file, monkeypatch, version, names):
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    if not names:
        assert torch.equal(read_pickled(file)["a"], torch.ones(2))
        return
    for read in (read_pickled, segment.load_segmenter):
        if read is segment.load_segmenter:
            pytest.importorskip("ultralytics")
        with pytest.raises(UserError, match=r"weights\.pth.*Update PyTorch to 2\.10") as error:
            read(file)
        assert re.findall(r"CVE-[\d-]+", str(error.value)) == names and version in str(error.value)


def test_the_detectors_own_files_are_known_and_read_by_any_version(monkeypatch, tmp_path):
    folder = mtcnn.weight_folder()
    if folder is None:
        pytest.skip("facenet-pytorch, whose wheel carries the weights, is not installed")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.0"))
    assert len(mtcnn.load_mtcnn.__wrapped__(folder)) == 3
    for name in mtcnn.SHA256:
        (tmp_path / f"{name}.pt").write_bytes((folder / f"{name}.pt").read_bytes() + b"\0")
    with pytest.raises(UserError, match="pnet"):
        mtcnn.load_mtcnn.__wrapped__(tmp_path)


def test_only_one_function_reads_pickles():
    sources = [path for room in ("lib", "models", "nodes", "training", "cli") for path in (ROOT / room).rglob("*.py")]
    found = [
        path for path in sources if re.search(r"torch\.load\(|pickle\.loads?\(|Unpickler", path.read_text("utf-8"))
    ]
    assert [path.relative_to(ROOT).as_posix() for path in found] == ["lib/storage/tensors.py"]

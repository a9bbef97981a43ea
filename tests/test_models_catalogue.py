"""The catalogue of published weights; nothing here touches the network."""

from __future__ import annotations

import hashlib

import huggingface_hub
import pytest
from personal_restore.cli.main import main
from personal_restore.lib.storage.names import shown_folder
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import catalogue
from personal_restore.models.shared.catalogue import Weights, download, entry, find, find_all, verify
from personal_restore.nodes.weights import DownloadWeights


def test_every_entry_says_what_a_user_must_know():
    for name, weights in catalogue.catalogue().items():
        assert weights.name == name and weights.purpose and weights.licence and weights.commercial
        assert weights.repository or weights.page
        assert weights.folder in ("personal_restore", "checkpoints", "upscale_models")
        for part in (weights.file, weights.below):
            assert "\\" not in part and ".." not in part and not part.startswith("/")


def test_a_missing_file_is_reported_with_size_licence_source_and_folder(tmp_path):
    with pytest.raises(UserError) as error:
        find("s3diff", [tmp_path])
    for part in ("s3diff.pkl", "138 MB", "Apache-2.0", "zhangap/S3Diff", shown_folder(tmp_path), "models get s3diff"):
        assert part in str(error.value)


def test_the_first_folder_that_has_the_file_wins(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "s3diff.pkl").write_bytes(b"weights")
    assert find("s3diff", [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b" / "s3diff.pkl"


def test_several_missing_files_are_named_at_once_and_found_where_they_belong(tmp_path):
    names = ["faceme-mix", "antelopev2-arcface"]
    with pytest.raises(UserError) as error:
        find_all(names, lambda kind: [tmp_path / kind])
    for part in (
        "mix.safetensors",
        "Pi-Lab",
        "glintr100.onnx",
        "non-commercial",
        shown_folder(tmp_path / "personal_restore"),
    ):
        assert part in str(error.value)
    (tmp_path / "personal_restore" / "faceme" / "mix").mkdir(parents=True)
    paths = [tmp_path / "personal_restore" / name for name in ("faceme/mix/mix.safetensors", "glintr100.onnx")]
    for path in paths:
        path.write_bytes(b"weights")
    assert find_all(names, lambda kind: [tmp_path / kind]) == paths


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="s3diff"):
        entry("s4diff")


def weights_of(content: bytes) -> Weights:
    digest = hashlib.sha256(content).hexdigest()
    return Weights("x", "tests", "x.bin", "personal_restore", "none", "no", sha256=digest, repository="a/b")


def test_a_file_that_is_not_the_published_one_is_removed(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"published")
    verify(weights_of(b"published"), path)
    path.write_bytes(b"tampered")
    with pytest.raises(UserError, match="not the published file"):
        verify(weights_of(b"published"), path)
    assert not path.exists()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    asked = []

    def fetch(repository, file, local_dir):
        asked.append((repository, file))
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / file).write_bytes(b"weights")
        return str(local_dir / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    return asked


def test_the_node_fetches_only_after_agreement(hub, tmp_path):
    assert "Apache-2.0" in DownloadWeights.execute("s3diff", False).args[0]
    assert not hub
    DownloadWeights.execute("s3diff", True)
    assert hub == [("zhangap/S3Diff", "s3diff.pkl")] and (tmp_path / "s3diff.pkl").is_file()


def test_the_command_line_asks_before_it_fetches(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["models", "get", "s3diff"]) == 0 and not hub
    assert main(["models", "get", "sd-turbo", "--agree"]) == 0
    assert (tmp_path / "checkpoints" / "sd_turbo.safetensors").is_file()
    capsys.readouterr()
    main(["models", "list"])
    listed = capsys.readouterr().out
    assert "gen2res-256" in listed and f"is in {tmp_path / 'checkpoints'}" in listed


def test_a_failed_download_is_a_clear_error(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match="no route.*Try again"):
        download("s3diff", tmp_path)
    with pytest.raises(UserError, match="cannot be downloaded automatically"):
        download("gen2res-256", tmp_path)

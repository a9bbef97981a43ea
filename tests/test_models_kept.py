"""What is loaded from files stays loaded while they are the same and the host keeps it."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from personal_restore.lib.bridge import keep
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import kept as room
from personal_restore.models.shared import sd_turbo
from personal_restore.models.shared.kept import KEPT, kept
from personal_restore.nodes.face2scene import Face2SceneRestorer
from personal_restore.nodes.s3diff import S3DiffRestorer
from personal_restore.tests import tiny_s3diff as tiny
from safetensors.torch import save_file


@pytest.fixture(autouse=True)
def nothing_kept():
    room._kept.clear()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_text("first")
    return path


@pytest.fixture
def reads(tmp_path, monkeypatch) -> list:
    """SD-Turbo, S3Diff and a trained Face2Scene in models folders, all tiny; every reading of SD-Turbo is noted."""
    (tmp_path / "checkpoints").mkdir()
    whole = tiny.single_file(tiny.turbo(), tiny.text_encoder(), sd_turbo.TEXT_PREFIXES[1])
    save_file(whole, tmp_path / "checkpoints" / "sd_turbo.safetensors")
    tiny.write_public_files(tmp_path)
    tiny.write_face2scene(tmp_path / "face2scene" / "mine.safetensors")
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    load, noted = partial(sd_turbo.load_sd_turbo, unet_config=tiny.UNET, vae_config=tiny.VAE), []
    monkeypatch.setattr(sd_turbo, "load_sd_turbo", lambda path: noted.append(path) or load(path))
    monkeypatch.setattr(sd_turbo, "embed_prompts", partial(sd_turbo.embed_prompts, config=tiny.TEXT))
    return noted


def test_another_setting_does_not_load_again_and_a_changed_file_does(reads, tmp_path):
    node = partial(S3DiffRestorer.execute, "sd_turbo.safetensors")
    first, other = node(cfg=1.1).args[0], node(cfg=1.5, scale=2).args[0]
    assert len(reads) == 1 and other.load() is first.load()
    assert (first.cfg, first.scale, other.cfg, other.scale) == (1.1, 1, 1.5, 2)
    public = tmp_path / "s3diff.pkl"
    os.utime(public, ns=(0, public.stat().st_mtime_ns + 10**9))
    assert node(cfg=1.1).args[0].load() is not first.load() and len(reads) == 2


def test_methods_on_the_same_checkpoint_keep_networks_of_their_own(reads):
    scene = S3DiffRestorer.execute("sd_turbo.safetensors").args[0]
    tokens = [
        Face2SceneRestorer.execute("sd_turbo.safetensors", "mine.safetensors", cfg, 1).args[0].load()
        for cfg in (1.0, 1.1)
    ]
    assert tokens[0] is tokens[1] is not scene.load() and len(reads) == 2


def test_size_time_and_every_file_of_a_folder_count(file, tmp_path):
    made = []

    def build(keep, *given):
        made.append(given)
        return object()

    first = kept(build, file, None, "noise")
    assert kept(build, file, None, "noise") is first and kept(build, file, None, "velocity") is not first
    stamps = file.stat()
    file.write_text("second")
    os.utime(file, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))  # the same time, but another size
    assert kept(build, file, None, "noise") is not first
    folder = tmp_path / "folder"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "a").write_text("a")
    whole = kept(build, folder)
    assert kept(build, folder) is whole
    (folder / "unet" / "b").write_text("b")
    assert kept(build, folder) is not whole
    assert made[0] == (file, None, "noise")


def test_few_are_kept_and_none_that_the_host_has_unloaded(file):
    unload = {}

    def build(keep, path, name):
        unload[name] = keep.keywords["unloaded"]
        return torch.nn.Linear(1, 1), keep(torch.nn.Linear(1, 1))

    first = [kept(build, file, name) for name in range(KEPT)]
    assert kept(build, file, 0) is first[0]  # now the one that was used last
    kept(build, file, KEPT)
    assert kept(build, file, 0) is first[0] and kept(build, file, 1) is not first[1]
    unload[0]()
    unload[0]()
    assert kept(build, file, 0) is not first[0]


def test_what_could_not_be_built_is_tried_again(file):
    def build(keep, path):
        raise UserError(path.read_text())

    for _ in range(2):
        with pytest.raises(UserError, match="first"):
            kept(build, file)


def test_without_a_host_nothing_is_unloaded():
    heard = []
    network = torch.nn.Linear(1, 1)
    assert keep(network, unloaded=lambda: heard.append(1))() is network and not heard

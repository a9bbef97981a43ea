"""Names and paths that a workflow, a command or a file brings: inside the permitted folders, or refused with words that tell no folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from hypothesis import example
from hypothesis import strategies as st
from personal_restore.cli.restore import LONGEST_NAME, NAMES, _fitting
from personal_restore.lib.pictures.comfy_files import save_images
from personal_restore.lib.standin.core_nodes import without_path
from personal_restore.lib.storage.inputs import existing
from personal_restore.lib.storage.names import holding, stored_path
from personal_restore.lib.storage.whole import remains, remove_whole, write_whole
from personal_restore.lib.vocabulary import UserError
from personal_restore.tests.fuzzing import fuzzed, refused_with_words

PARTS = ["..", ".", "a", "here.png", "/", "\\", "//", "\\\\server\\share\\", "C:", "~", "~root",
         "file://", "%2e%2e", "\0", "\n", " ", "[input]", " [output]", " [temp]",
         "\udce9", "ü" * 130, "a" * 300, "CON", "link", ".safetensors", "%batch_num%", "%width%", "*", "?", "|"]  # fmt: skip
PATHS = st.lists(st.one_of(st.sampled_from(PARTS), st.sampled_from(["/", "/"]), st.text(max_size=4)), max_size=6).map(
    "".join
)


def folders_in(base: Path) -> dict[str, Path]:
    """The three folders of a host, with a picture in the first and a link that leads out of it, to a secret."""
    folders = {kind: base / "host" / kind for kind in ("input", "output", "temp")}
    if not (base / "host").exists():
        for folder in folders.values():
            folder.mkdir(parents=True)
        (base / "secret").mkdir()
        (base / "secret" / "here.png").write_bytes(b"secret")
        (folders["input"] / "here.png").write_bytes(b"")
        (folders["input"] / "link").symlink_to(base / "secret", target_is_directory=True)
    return folders


@fuzzed("paths", 300, path=PATHS)
@example(path="link/here.png")
@example(path="../../secret/here.png")
def test_no_path_leads_out_of_the_folders(tmp_path_factory, path):
    base = tmp_path_factory.getbasetemp()
    folders = folders_in(base)
    try:
        found = existing(path, folders)
        assert any(found.is_relative_to(folder.resolve()) for folder in folders.values())
    except UserError as error:
        assert str(base) not in str(error) and len(str(error)) < 1000


@fuzzed("names", 300, name=PATHS)
def test_no_name_leads_out_of_its_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "named"
    with refused_with_words():
        path = stored_path(folder, name, "library")
        assert path.parent == folder.resolve() and not path.name.startswith(".")
        holding([folder, folder], name, "library")
        write_whole(path, "text")
        assert remains(path) == []
        remove_whole(path)
        assert not path.exists()


@fuzzed("prefixes", 60, prefix=PATHS)
def test_no_prefix_leads_out_of_the_output_folder(tmp_path_factory, prefix):
    folder = tmp_path_factory.getbasetemp() / "saved"
    folder.mkdir(exist_ok=True)
    with refused_with_words():
        for file in save_images(torch.zeros(1, 2, 2, 3), prefix, folder):
            assert (folder / file["subfolder"] / file["filename"]).resolve().is_relative_to(folder.resolve())


@fuzzed("paths in reports", 300, text=PATHS)
def test_no_path_from_the_root_is_shown(text):
    shown = without_path(text)
    assert not PurePosixPath(shown).is_absolute() and not PureWindowsPath(shown).is_absolute()
    assert not shown.startswith(("~/", "file:"))


@fuzzed("names of results", 200, stem=PATHS.filter(bool), number=st.integers(1, 10**6))
def test_a_result_s_name_fits(stem, number):
    import os

    fitted = _fitting(stem, f"_{number}", NAMES)
    assert all(len(os.fsencode(f"{fitted}_{what}")) <= LONGEST_NAME for what in NAMES)

"""The nodes that load photographs and people."""

from __future__ import annotations

import torch
from personal_restore.lib.pictures import comfy_files as files
from personal_restore.lib.standin.host import folders
from personal_restore.nodes.sources import LoadLibrary, LoadPhotograph


def test_a_photograph_is_loaded_and_until_one_is_chosen_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "input", tmp_path)
    portrait, whole = LoadPhotograph.execute("", "portrait").args
    assert portrait.shape == whole.shape == (1, 512, 512, 3) and 0.01 < (portrait - whole).abs().mean() < 0.2
    edit, nothing = LoadPhotograph.execute("", "edited portrait").args
    assert edit.shape == (1, 630, 680, 3) and nothing is None
    before = LoadPhotograph.fingerprint_inputs("", "portrait")
    assert before != LoadPhotograph.fingerprint_inputs("", "edited portrait")

    (tmp_path / "sub").mkdir()
    files.eight_bit(whole[0, :40, :60]).save(tmp_path / "sub" / "own.png")
    own, nothing = LoadPhotograph.execute("sub/own.png", "portrait").args
    assert own.shape == (1, 40, 60, 3) and torch.equal(own, whole[:, :40, :60]) and nothing is None
    before = LoadPhotograph.fingerprint_inputs("sub/own.png", "portrait")
    files.eight_bit(whole[0, :40, :61]).save(tmp_path / "sub" / "own.png")
    assert LoadPhotograph.fingerprint_inputs("sub/own.png", "portrait") != before

    assert LoadPhotograph.validate_inputs("") is True and LoadPhotograph.validate_inputs("sub/own.png") is True
    assert "folder, not a picture" in LoadPhotograph.validate_inputs("sub")
    assert "none.png" in LoadPhotograph.validate_inputs("none.png")
    assert isinstance(LoadPhotograph.validate_inputs("../outside.png"), str)


def test_the_sample_album_needs_no_folder():
    library, said = LoadLibrary.execute("sample album").args
    assert [person.name for person in library.people] == ["Eileen Collins"] and said == "Eileen Collins: 4 picture(s)"
    assert LoadLibrary.fingerprint_inputs("sample album") == "sample album"


def test_what_of_an_album_cannot_be_used_is_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folders, "input", tmp_path)
    (tmp_path / "album" / "Ada").mkdir(parents=True)
    LoadLibrary.execute("album")
    assert "The album is empty" in caplog.text
    (tmp_path / "album" / "Ada" / "broken.jpg").write_text("no picture")
    LoadLibrary.execute("album")
    assert "broken.jpg" in caplog.text

"""A folder of photographs goes through a graph, a few in each run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.pictures import mirror
from personal_restore.lib.pictures.mark import is_marked
from personal_restore.lib.standin.host import folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes import NODES
from personal_restore.nodes.archive import SavePhotographs
from personal_restore.tests.bundled import bundled
from PIL import Image

COLORS = {"b.png": 40, "sub/a.jpg": 90, "sub/deep/a.jpg.png": 140, "a.jpg": 200}
COPY = {
    "next": {
        "class_type": "PR_LoadNextPhotographs",
        "inputs": {"folder": "photographs", "results": "restored", "count": 2},
    },
    "save": {
        "class_type": "PR_SavePhotographs",
        "inputs": {"results": "restored", "names": ["next", 1], "images": ["next", 0], "report": ["next", 2]},
    },
    "left": {"class_type": "PreviewAny", "inputs": {"source": ["next", 2]}},
}


@pytest.fixture(autouse=True)
def photographs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folders, "input", tmp_path / "input")
    monkeypatch.setattr(folders, "output", tmp_path / "output")
    monkeypatch.setattr(folders, "allowed", [])
    for name, gray in COLORS.items():
        path = tmp_path / "input" / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (gray, gray, gray)).save(path)
    return tmp_path / "input" / "photographs"


def copied(*overrides: str) -> str:
    """Runs the graph that only copies; what it says."""
    return run_graph(COPY, NODES, overrides=overrides).ui["left"]["text"][0]


def results() -> dict[str, bytes]:
    return {
        path.relative_to(folders.output).as_posix(): path.read_bytes()
        for path in folders.output.rglob("*")
        if path.is_file()
    }


def test_queued_again_and_again_it_ends_with_every_photograph_under_its_own_name(photographs, caplog):
    before = {path: path.read_bytes() for path in photographs.rglob("*.*")}
    assert copied() == "After this run, 2 of 4 are left."
    assert copied() == "After this run, 0 of 4 are left."
    done = results()
    pictures = {"b.png": 40, "sub/a.jpg.png": 90, "sub/deep/a.jpg.png.png": 140, "a.jpg.png": 200}
    assert done.keys() == {f"restored/{name}{also}" for name in pictures for also in ("", ".json")}
    for name, gray in pictures.items():
        assert np.abs(np.asarray(Image.open(folders.output / "restored" / name), int) - gray).max() <= 1
        assert is_marked(folders.output / "restored" / name)
    with caplog.at_level(logging.WARNING):
        assert copied() == "Nothing is left to do: 4 of 4 photographs have a result."
    assert [record.getMessage() for record in caplog.records] == [
        "node save (PR_SavePhotographs): Nothing is left to do: 4 of 4 photographs have a result."
    ]
    assert results() == done and before == {path: path.read_bytes() for path in before}


def test_a_result_that_is_missing_is_made_again_and_alone(photographs):
    copied("next.count=9")
    done = results()
    (folders.output / "restored" / "sub" / "a.jpg.png").unlink()
    copied()
    again = results()
    assert again.keys() == done.keys()
    assert again["restored/sub/a.jpg.png"] == done["restored/sub/a.jpg.png"]


def test_what_cannot_be_read_is_passed_over_and_said(photographs):
    (photographs / "a broken one.jpg").write_bytes(b"no picture")
    said = copied("next.count=9")
    assert said.startswith("After this run, 0 of 5 are left.\na broken one.jpg: ") and "cannot be read" in said
    assert copied().startswith("Nothing is left to do: 4 of 5 photographs have a result. The others cannot be read: 1.")


def test_a_large_folder_is_not_walked_for_every_photograph(photographs, monkeypatch):
    walks: list[Path] = []
    real = mirror.photographs
    monkeypatch.setattr(mirror, "photographs", lambda *given: (walks.append(given[0]), real(*given))[1])
    (photographs / "a broken one.jpg").write_bytes(b"no picture")
    assert [copied("next.count=1").splitlines()[0] for _ in range(4)] == [
        f"After this run, {left} of 5 are left." for left in (3, 2, 1, 0)
    ]
    assert len(walks) == 1
    Image.new("RGB", (30, 20)).save(photographs / "added.png")
    assert copied().startswith("After this run, 0 of 6 are left.")
    assert copied().startswith("Nothing is left to do: 5 of 6 photographs have a result. The others cannot be read: 1.")
    assert len(walks) == 3


@pytest.mark.parametrize("where", ["photographs", "."])
def test_photographs_are_never_taken_for_their_own_results(photographs, monkeypatch, where):
    """Where input and output are one folder."""
    monkeypatch.setattr(folders, "output", folders.input if where == "photographs" else folders.input.parent)
    with pytest.raises(UserError, match="The photographs themselves lie in the folder for the results"):
        copied(f"next.results={'photographs' if where == 'photographs' else 'input'}")


def test_results_inside_the_folder_are_not_taken_for_photographs(photographs, monkeypatch):
    monkeypatch.setattr(folders, "output", folders.input)
    graph = [f"{node}.results=photographs/restored" for node in ("next", "save")]
    assert copied(*graph, "next.count=9") == "After this run, 0 of 4 are left."
    assert copied(*graph) == "Nothing is left to do: 4 of 4 photographs have a result."


def test_a_picture_that_is_no_result_is_never_replaced(photographs, monkeypatch):
    """The folder for results of Save Photographs is that of the photographs, by mistake."""
    monkeypatch.setattr(folders, "output", folders.input)
    before = (photographs / "b.png").read_bytes()
    with pytest.raises(UserError, match="'b.png' is there already and is not a result"):
        copied("next.count=9", "save.results=photographs")
    assert (photographs / "b.png").read_bytes() == before


@pytest.mark.parametrize("results", ["..", "../elsewhere", "/tmp/elsewhere", "", ".", "a/../..", "//host/share"])
@pytest.mark.parametrize("node", ["next", "save"])
def test_results_stay_in_the_output_folder(tmp_path, node, results):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is not inside the folder for results"):
        copied(f"{node}.results={results}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../a.png", "sub/../../../a.png", "/tmp/a.png", "link/a.png"])
def test_a_name_stays_in_the_folder_for_results(tmp_path, name):
    (tmp_path / "output" / "restored").mkdir(parents=True)
    (tmp_path / "output" / "restored" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is not inside the folder for results"):
        copied("next.count=1", f"save.names={name}")


def test_photographs_outside_the_folders_of_a_workflow_are_not_read(photographs, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (photographs / "0.png").symlink_to(tmp_path / "secret.png")
    assert "0.png: '0.png' lies outside the folders" in copied("next.count=9")
    assert not (folders.output / "restored" / "0.png").exists()
    with pytest.raises(UserError, match="lies outside the folders that a workflow may read"):
        copied(f"next.folder={tmp_path}")


def test_a_folder_without_photographs_is_an_error(photographs):
    (folders.input / "empty").mkdir()
    with pytest.raises(UserError, match="There are no photographs in 'empty'"):
        copied("next.folder=empty")


def test_two_pictures_cannot_have_one_name():
    with pytest.raises(UserError, match="2 pictures have one name"):
        SavePhotographs.execute("a.png", torch.zeros(2, 4, 4, 3), "restored")


def test_the_bundled_workflow_restores_a_folder(photographs, astronaut):
    portrait = Image.fromarray((astronaut[0].permute(1, 2, 0) * 255).byte().numpy()[:256, 80:336])
    for path in photographs.rglob("*.*"):
        path.unlink()
    portrait.resize((96, 96)).resize((256, 256)).save(photographs / "sub" / "portrait.png")
    (folders.input / "album" / "Eileen").mkdir(parents=True)
    portrait.save(folders.input / "album" / "Eileen" / "1.png")
    run_graph(bundled("restore_folder"), NODES)
    made = folders.output / "restored" / "sub" / "portrait.png"
    assert Image.open(made).size == (256, 256)
    assert json.loads(made.with_name("portrait.png.json").read_text())["faces"][0]["person"] == "Eileen"
    shown = run_graph(bundled("restore_folder"), NODES).ui["42"]["text"][0]
    assert shown == "Nothing is left to do: 1 of 1 photographs have a result."

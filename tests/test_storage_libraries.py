"""Libraries as one file: what goes in comes out, nothing else is read, nothing outside of the folder is touched."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from personal_restore.lib.storage.libraries import delete_person, load_library_file, save_library
from personal_restore.lib.storage.names import holding, shown_folder
from personal_restore.lib.storage.whole import whole
from personal_restore.lib.vocabulary import Library, Person, Reference, UserError
from safetensors.torch import load_file, save_file


@pytest.fixture
def library() -> Library:
    random = np.random.default_rng(0)

    def person(name: str) -> Person:
        references = tuple(
            Reference(
                f"{index} ß.png",
                torch.from_numpy(random.random((3, 64, 64), np.float32)),
                random.random((5, 2)) * 64,
                random.random(8, np.float32) if index else None,
            )
            for index in range(3)
        )
        return Person(name, references, "woman")

    return Library((person("Zoë Müller"), person("../Ann")), "dlib", ("a note",))


def assert_same(first: Library, second: Library, atol: float):
    assert first.embedder == second.embedder
    assert [(person.name, person.noun) for person in first.people] == [
        (person.name, person.noun) for person in second.people
    ]
    for one, other in zip(first.people, second.people, strict=True):
        for a, b in zip(one.references, other.references, strict=True):
            assert a.name == b.name
            torch.testing.assert_close(a.crop, b.crop, atol=atol, rtol=0)
            np.testing.assert_array_equal(a.landmarks, b.landmarks)
            assert (a.embedding is None) == (b.embedding is None)
            if a.embedding is not None:
                np.testing.assert_array_equal(a.embedding, b.embedding)
                assert a.embedding.dtype == b.embedding.dtype


def test_what_is_saved_is_loaded(tmp_path, library):
    path = save_library(library, tmp_path / "libraries", "Familie Müller")
    assert path == tmp_path.resolve() / "libraries" / "Familie Müller.safetensors"
    loaded = load_library_file(tmp_path / "libraries", "Familie Müller")
    assert_same(loaded, library, 0.5 / 255 + 1e-6)
    assert loaded.notes == ()
    # Eight bits are rounded to once.
    save_library(loaded, tmp_path, "again.safetensors")
    assert_same(load_library_file(tmp_path, "again"), loaded, 0)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_empty_library_is_saved_too(tmp_path):
    save_library(Library(), tmp_path, "nobody")
    assert load_library_file(tmp_path, "nobody").people == ()


def test_a_deleted_person_leaves_nothing_behind(tmp_path, library):
    path = save_library(library, tmp_path, "family")
    gone, stays = (load_file(path)[f"{number}.1.embedding"].numpy().tobytes() for number in (0, 1))
    left = delete_person(tmp_path, "family", "Zoë Müller")
    assert [person.name for person in left.people] == ["../Ann"]
    content = path.read_bytes()
    assert gone not in content and stays in content and "Müller".encode() not in content
    assert_same(load_library_file(tmp_path, "family"), left, 0)
    assert delete_person(tmp_path, "family", "../Ann").people == ()
    assert list(tmp_path.iterdir()) == []


def test_deleting_a_stranger_names_who_is_known(tmp_path, library):
    path = save_library(library, tmp_path, "family")
    before = path.read_bytes()
    with pytest.raises(UserError, match="no 'Bob'.*Zoë Müller, ../Ann"):
        delete_person(tmp_path, "family", "Bob")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["../family", "/tmp/family", "a/../../family", "", "link/family", "a\0b"])
def test_a_name_never_leads_out_of_the_folder(tmp_path, library, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    for use in (lambda: save_library(library, inside, name), lambda: load_library_file(inside, name)):
        with pytest.raises(UserError):
            use()
    assert not list(tmp_path.rglob("*.safetensors"))


def rewritten(path, change) -> None:
    """The file with its tensors and metadata changed."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, metadata: metadata.update(format="other"),
        lambda tensors, metadata: metadata.pop("people"),
        lambda tensors, metadata: metadata.update(people="[1]"),
        lambda tensors, metadata: metadata.update(people=json.dumps([{"name": "a", "references": ["b"]}])),
        lambda tensors, metadata: tensors.pop("0.0.crop"),
        lambda tensors, metadata: tensors.update({"0.0.crop": torch.zeros(3, 4, 4)}),
        lambda tensors, metadata: tensors.update({"1.0.landmarks": torch.zeros(68, 2)}),
        lambda tensors, metadata: tensors.update({"0.0.embedding": torch.zeros(2, 2)}),
        lambda tensors, metadata: tensors.update({"0.0.embedding": torch.zeros(0)}),
        lambda tensors, metadata: tensors.update({"0.1.embedding": torch.zeros(9)}),
        lambda tensors, metadata: tensors.update({"0.1.embedding": torch.full((8,), torch.nan)}),
        lambda tensors, metadata: tensors.update({"0.1.embedding": torch.zeros(8, dtype=torch.int64)}),
        lambda tensors, metadata: tensors.update({"0.0.landmarks": torch.full((5, 2), torch.inf)}),
        lambda tensors, metadata: tensors.update({"0.0.crop": torch.zeros(3, dtype=torch.uint8)}),
        lambda tensors, metadata: tensors.update({"0.0.crop": torch.zeros(3, 0, 0, dtype=torch.uint8)}),
        lambda tensors, metadata: metadata.update(people="[" * 99999),
        lambda tensors, metadata: metadata.update(people='{"a": 1}'),
        lambda tensors, metadata: metadata.update(people="null"),
        lambda tensors, metadata: metadata.update(people=json.dumps([{"name": "a", "noun": "b", "references": []}])),
        lambda tensors, metadata: metadata.update(people=json.dumps([{"name": [], "noun": "b", "references": ["c"]}])),
        lambda tensors, metadata: metadata.update(people=json.dumps([{"name": "a", "noun": "b", "references": "c"}])),
        lambda tensors, metadata: metadata.update(
            people=json.dumps(2 * [{"name": "a", "noun": "b", "references": ["c"]}])
        ),
    ],
)
def test_a_file_that_is_no_library_is_named_without_its_folder(tmp_path, library, change):
    path = save_library(library, tmp_path, "family")
    rewritten(path, change)
    with pytest.raises(UserError, match=r"family\.safetensors") as error:
        load_library_file(tmp_path, "family")
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"dear diary, not a library"])
def test_a_damaged_file_is_a_user_error(tmp_path, content):
    (tmp_path / "family.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"family\.safetensors") as error:
        load_library_file(tmp_path, "family")
    assert str(tmp_path) not in str(error.value)


def test_a_missing_library_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no library gone"):
        load_library_file(tmp_path, "gone")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_library_can_be_read_by_its_owner_alone(tmp_path, library):
    assert save_library(library, tmp_path, "family").stat().st_mode & 0o777 == 0o600
    delete_person(tmp_path, "family", "../Ann")
    assert (tmp_path / "family.safetensors").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("everybody", [False, True])
def test_what_killed_writers_left_of_a_forgotten_person_goes_too(tmp_path, library, everybody):
    path = save_library(library, tmp_path, "family")
    with whole(path) as partial:
        shutil.copy(path, partial)
        left = shutil.copy(partial, partial.with_name(partial.name.replace("-", "-0")))
    shutil.copy(path, tmp_path / "family.safetensors.part")  # as earlier versions named it
    assert left.exists() and len(list(tmp_path.iterdir())) == 3
    for name in ["Zoë Müller", *(["../Ann"] if everybody else [])]:
        delete_person(tmp_path, "family", name)
    assert [file.name for file in tmp_path.iterdir()] == ([] if everybody else [path.name])


def test_two_who_forget_at_once_forget_both(tmp_path, library):
    person = library.people[0]
    many = replace(library, people=tuple(replace(person, name=f"person {number}") for number in range(12)))
    save_library(many, tmp_path, "family")
    threads = [Thread(target=delete_person, args=(tmp_path, "family", f"person {number}")) for number in range(11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.name for one in load_library_file(tmp_path, "family").people] == ["person 11"]


def test_a_name_is_found_in_every_folder_and_new_ones_belong_to_the_first(tmp_path, library):
    first, second = tmp_path / "first", tmp_path / "second"
    save_library(library, second, "family")
    assert holding([first, second], "family", "library") == second
    assert holding([first, second], "friends", "library") == first
    save_library(library, first, "family")
    assert holding([first, second], "family", "library") == first


def test_folders_are_shown_without_the_path_to_them(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert shown_folder(tmp_path / "ComfyUI" / "models") == "~/ComfyUI/models"
    assert shown_folder(Path("/srv/me/ComfyUI/models/checkpoints")) == "models/checkpoints"

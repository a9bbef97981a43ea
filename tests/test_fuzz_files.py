"""Files of tensors that no program of ours wrote: libraries, personas and weights are read or refused, and no code of theirs runs."""

from __future__ import annotations

import io
import json
import struct
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import example
from hypothesis import strategies as st
from personal_restore.lib.storage.libraries import delete_person, load_library_file, save_library
from personal_restore.lib.storage.personas import describe_persona, load_persona, save_persona
from personal_restore.lib.storage.resume import SETTINGS, settle_folder
from personal_restore.lib.storage.tensors import Unreadable, read_pickled, read_tensors
from personal_restore.lib.vocabulary import Library, Person, Persona, Reference, UserError
from personal_restore.tests.fuzzing import VALUES, changed, damaged, fuzzed, refused_with_words


def a_library() -> Library:
    reference = Reference("a.jpg", torch.rand(3, 8, 8), np.arange(10.0).reshape(5, 2), np.ones(4, np.float32))
    return Library((Person("Anna", (reference,)), Person("Bert", (reference, reference), "man")), "test")


def a_persona() -> Persona:
    tensors = {
        "a.lora_A.weight": torch.ones(2, 3),
        "a.lora_B.weight": torch.ones(3, 2),
        "reference": torch.zeros(1, 3, 4, 4),
    }
    return Persona(
        "album", "tiny", tensors, {"person": "Anna", "losses": {"all": 1.0}, "settings": {"rank": 2}}, "a photo", "sks"
    )


@lru_cache
def written(kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = (
            save_library(a_library(), Path(folder), "a")
            if kind == "library"
            else save_persona(a_persona(), Path(folder), "a")
        )
        return path.read_bytes()


def parts(content: bytes) -> tuple[dict, bytes]:
    """The header of a .safetensors file, and what follows."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@st.composite
def forged(draw: st.DrawFn, kind: str) -> bytes:
    """A file with something odd in its header, in the JSON within the header, or anywhere."""
    header, tensors = parts(written(kind))
    if draw(st.booleans()):
        inner = "people" if kind == "library" else "provenance"
        header["__metadata__"][inner] = json.dumps(
            draw(st.one_of(changed(st.just(json.loads(header["__metadata__"][inner]))), VALUES))
        )
    if draw(st.booleans()):
        header = draw(changed(st.just(header)))
    text = json.dumps(header).encode()
    return draw(damaged(st.just(struct.pack("<Q", len(text)) + text + tensors)))


@fuzzed("libraries", 100, content=forged("library"))
def test_a_library_is_loaded_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.safetensors").write_bytes(content)
    with refused_with_words():
        library = load_library_file(folder, "fuzzed")
        for person in library.people:
            assert person.name and all(one.crop.shape[0] == 3 for one in person.references)
        save_library(library, folder, "fuzzed")
        if library.people:
            delete_person(folder, "fuzzed", library.people[0].name)


@fuzzed("personas", 100, content=forged("persona"))
def test_a_persona_is_loaded_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.safetensors").write_bytes(content)
    with refused_with_words():
        persona = load_persona(folder, "fuzzed")
        assert describe_persona(persona)
        save_persona(persona, folder, "fuzzed")


@fuzzed("headers of safetensors", 100, content=st.one_of(forged("library"), forged("persona"), st.binary(max_size=64)))
def test_tensors_are_read_or_unreadable(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    path.write_bytes(content)
    try:
        assert all(isinstance(value, torch.Tensor) for value in read_tensors(path).values())
    except Unreadable as error:
        assert str(error)


@lru_cache
def pickled(zipped: bool) -> bytes:
    with io.BytesIO() as file:
        torch.save({"a": torch.ones(2, 3), "b": [1, "x", None]}, file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()


@fuzzed(
    "files of torch.save", 100, content=damaged(st.sampled_from([pickled(True), pickled(False)])), mapped=st.booleans()
)
@example(content=b"", mapped=False)
@example(content=pickled(False)[:93], mapped=False)  # in the middle of a text's length
@pytest.mark.filterwarnings("ignore")
def test_a_pickle_is_read_or_unreadable(tmp_path_factory, content, mapped):
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(content)
    try:
        read_pickled(path, mapped=mapped)
    except (Unreadable, UserError) as error:
        assert str(error)


@fuzzed("settings of runs", 60, content=st.one_of(VALUES.map(json.dumps).map(str.encode), st.binary(max_size=20)))
@example(content=b"[[null, null]]")
def test_a_folder_of_a_run_is_resumed_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    (folder / SETTINGS).write_bytes(content)
    with refused_with_words():
        settle_folder(folder, {"a": 1, "b": {"c": 2}}, "--out", "Choose another folder.")

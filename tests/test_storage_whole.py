"""What is written is there whole or not at all, whoever else writes, and whatever kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from personal_restore.lib.storage import whole as storage
from personal_restore.lib.storage.tensors import read_tensors, write_tensors
from personal_restore.lib.storage.whole import (
    check_room,
    exclusive,
    put,
    remains,
    remove_whole,
    whole,
    whole_folder,
    write_whole,
)
from personal_restore.lib.vocabulary import UserError

ROOT = Path(__file__).resolve().parent.parent
needs_modes = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


def test_many_savers_of_one_name_never_mix(tmp_path):
    path, seen, stop = tmp_path / "a.safetensors", set(), threading.Event()
    write_tensors(path, {"x": torch.zeros(200_000)})

    def save(number: int) -> None:
        for _ in range(15):
            write_tensors(path, {"x": torch.full((200_000,), float(number))})

    def read() -> None:
        while not stop.is_set():
            value = read_tensors(path)["x"]
            seen.add(tuple(value.unique().tolist()))

    reader = threading.Thread(target=read)
    savers = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in (reader, *savers):
        thread.start()
    for thread in savers:
        thread.join()
    stop.set()
    reader.join()
    assert all(len(one) == 1 for one in seen) and list(tmp_path.iterdir()) == [path]


def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.json", "old")
    with pytest.raises(RuntimeError), whole(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_writer_leaves_the_old_file(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    code = f"""
import run, sys, pathlib, time
run.load_package()
from personal_restore.lib.storage.whole import whole
with whole(pathlib.Path({str(tmp_path / "a.txt")!r})) as partial:
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / "a.txt").read_text() == "old" and len(remains(tmp_path / "a.txt")) == 1
    (left,) = remains(tmp_path / "a.txt")
    os.utime(left, (0, time.time() - 2 * storage.LEFT_BEHIND))
    write_whole(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_written_reaches_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("sync"), sync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("name"), replace(self, target))[1])
    write_whole(tmp_path / "a.txt", "text")
    assert done[:2] == ["sync", "name"]


def test_a_folder_reaches_the_disk_with_all_its_files_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    flush, replace = storage._flush, Path.replace
    monkeypatch.setattr(storage, "_flush", lambda path: (done.append(path.name), flush(path)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("name"), replace(self, target))[1])
    (tmp_path / "state.part" / "below").mkdir(parents=True)
    (tmp_path / "state.part" / "below" / "a.bin").write_bytes(b"a")
    put(tmp_path / "state.part", tmp_path / "state-1")
    assert done == ["below", "a.bin", "state.part", "name", tmp_path.name]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with whole_folder(tmp_path / "a") as partial:
        (partial / "old").touch()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "a") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a", "a/old"]
    killed = whole_folder(tmp_path / "a")
    (killed.__enter__() / "half").touch()
    with whole_folder(tmp_path / "a") as partial:
        assert not list(partial.iterdir())
        (partial / "new").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a", "a/new"]


def test_a_new_file_never_takes_the_place_of_another(tmp_path):
    write_whole(tmp_path / "a.txt", "first")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a.txt", "second", new=True)
    assert (tmp_path / "a.txt").read_text() == "first" and len(list(tmp_path.iterdir())) == 1


@needs_modes
def test_private_files_are_the_owners_alone_from_the_first_byte(tmp_path):
    with whole(tmp_path / "a.bin", private=True) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
        partial.unlink()  # as a library does that writes a file of its own and renames it
        partial.touch(0o644)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o600


@needs_modes
def test_other_files_have_the_usual_mode(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    (tmp_path / "usual").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 127 + "a")
    write_whole(path, "text")
    write_whole(path, "more")
    remove_whole(path)
    assert list(tmp_path.iterdir()) == []


def test_only_one_is_inside_and_the_other_is_told(tmp_path):
    with (
        exclusive(tmp_path / "x"),
        pytest.raises(UserError, match="somebody trains"),
        exclusive(tmp_path / "x", "somebody trains"),
    ):
        pass
    with exclusive(tmp_path / "x", "somebody trains"), exclusive(tmp_path / "y", "somebody trains"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_or_full_is_noticed_at_once(tmp_path, monkeypatch):
    check_room(tmp_path / "new", 1000, "--out")
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match="--out: nothing can be written there"):
        check_room(tmp_path / "file", 0, "--out")
    with pytest.raises(UserError, match=r"--out: \d+ MB are needed, and \d+ MB are free"):
        check_room(tmp_path, 10**18, "--out")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        check_room(tmp_path, 0, "--out")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "file"}

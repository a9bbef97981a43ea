"""Everything that writes is killed, and meets a full or read-only disk, at every step: old or new is there, never half, never lost.

A step is a call of the system: open, write, rename, link, remove, make a folder, flush. A kill is simulated by letting no later call
reach the disk either, cleaning up included, so that what stands there is what a kill would leave.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from personal_restore.cli import restore as results
from personal_restore.cli.photograph import Photograph
from personal_restore.lib.storage import tensors as stored
from personal_restore.lib.storage.libraries import delete_person, load_library_file, save_library
from personal_restore.lib.storage.personas import delete_persona, load_persona, save_persona
from personal_restore.lib.storage.tensors import read_tensors, write_tensors
from personal_restore.lib.storage.whole import whole_folder, write_whole
from personal_restore.lib.vocabulary import Library, Person, Persona, Reference, UserError
from personal_restore.training.loop import _checkpoint
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CALLS = "open", "fsync", "chmod", "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir"


class Killed(BaseException):
    """Nothing may catch it by its class, as nothing catches a kill."""


@dataclass
class Disk:
    """Counts the calls that change a folder, and fails at one of them. at: its number; after: it is done before it fails; once: later
    calls work again, as they do not after a kill; torn: of a file that is written at that step, half is written."""

    folder: Path
    error: Callable[[], BaseException] = Killed
    at: int = -1
    after: bool = False
    once: bool = False
    torn: bool = False
    steps: int = 0

    def call(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        number, self.steps = self.steps, self.steps + 1
        fails = number == self.at or (number > self.at >= 0 and not self.once)
        if not fails or (number == self.at and self.after):
            done = function(*given, **named)
        if not fails:
            return done
        if number == self.at and self.after:
            for file in (done,) if isinstance(done, io.IOBase) else ():
                file.close()
            if self.torn and function.__name__ == "save_file":
                os.truncate(given[1], given[1].stat().st_size // 2)
        raise self.error()

    def concerns(self, given: tuple[Any, ...]) -> bool:
        return any(isinstance(one, str | Path) and str(one).startswith(str(self.folder)) for one in given)


@contextmanager
def failing(disk: Disk) -> Iterator[Disk]:
    """Inside, what changes the disk's folder goes through ``disk.call``."""

    def through(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            writes = len(given) > 1 and isinstance(given[1], str) and any(mode in given[1] for mode in "wax+")
            concerned = (
                name == "fsync" or "dir_fd" in named or (disk.concerns(given) and (name != "open file" or writes))
            )
            return disk.call(function, *given, **named) if concerned else function(*given, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, through(name, getattr(os, name)))
        for module in (builtins, io):
            patch.setattr(module, "open", through("open file", module.open))
        patch.setattr(stored, "save_file", through("save", stored.save_file))
        yield disk


@dataclass(frozen=True)
class Writer:
    """write(folder, number): writes the version with that number; read(folder): which version is there, None for none. Raises where
    it is half of one. removes: afterwards there is none; user: what fails is a UserError, else OSError is what is documented."""

    write: Callable[[Path, int], Any]
    read: Callable[[Path], int | None]
    user: bool = True
    removes: Callable[[Path], Any] | None = None


def a_library(number: int) -> Library:
    reference = Reference("a", torch.full((3, 16, 16), number / 255), np.full((5, 2), float(number)))
    return Library(tuple(Person(name, (reference,)) for name in ("Anna", "Bert")), "test")


def library_number(folder: Path) -> int | None:
    if not (folder / "a.safetensors").exists():
        return None
    numbers = {
        round(float(one) * 255)
        for person in load_library_file(folder, "a").people
        for one in person.references[0].crop.unique()
    }
    (number,) = numbers
    return number


def persona_number(folder: Path) -> int | None:
    if not (folder / "a.safetensors").exists():
        return None
    (number,) = load_persona(folder, "a").tensors["x"].unique().tolist()
    return int(number)


def model_number(folder: Path) -> int | None:
    if not (folder / "a.safetensors").exists():
        return None
    (number,) = read_tensors(folder / "a.safetensors")["x"].unique().tolist()
    return int(number)


def text_number(folder: Path) -> int | None:
    return int((folder / "a.txt").read_text().split()[-1]) if (folder / "a.txt").exists() else None


def write_checkpoint(folder: Path, number: int) -> None:
    def save_state(partial: str) -> None:
        Path(partial).mkdir(exist_ok=True)
        for name in ("model", "optimizer"):
            with open(f"{partial}/{name}", "w") as file:
                file.write(f"{number}")

    _checkpoint(
        SimpleNamespace(save_state=save_state, wait_for_everyone=lambda: None, is_main_process=True), folder, number
    )


def checkpoint_number(folder: Path) -> int | None:
    """Of what a resumed training takes up."""
    number = max((int(state.name.split("-")[1]) for state in folder.glob("state-*[0-9]")), default=None)
    for name in ("model", "optimizer") if number is not None else ():
        assert (folder / f"state-{number}" / name).read_text() == f"{number}"
    return number


def write_folder(folder: Path, number: int) -> None:
    with whole_folder(folder / "a") as partial:
        for name in ("clean", "damaged"):
            (partial / name).write_text(f"{number}")


def folder_number(folder: Path) -> int | None:
    """Of what the next run finds, which first puts right what a kill has left."""
    with suppress(InterruptedError), whole_folder(folder / "a"):
        raise InterruptedError
    if not (folder / "a").exists():
        return None
    clean, damaged = ((folder / "a" / name).read_text() for name in ("clean", "damaged"))
    assert clean == damaged
    return int(clean)


def write_result(folder: Path, number: int) -> None:
    picture = Image.new("RGB", (8, 8), (number, 0, 0))
    photograph = Photograph(Path("a.png"), (8, 8), b"", None, None, ())
    done = results.Restored(picture, picture, {"faces": [], "number": number})
    results._saved(Path(f"{number}.png"), photograph, done, folder, None)


def result_number(folder: Path) -> int | None:
    """Results never replace one another: each picture under its final name is whole."""
    found = []
    for path in folder.glob("*_restored.png"):
        with Image.open(path) as picture:
            assert f"{picture.getpixel((0, 0))[0]}" == path.name.split("_")[0]
            found.append(picture.getpixel((7, 7))[0])
    for path in folder.glob("*_comparison.png"):
        with Image.open(path) as picture:
            picture.load()
    return max(found, default=None)


WRITERS = {
    "library": Writer(
        lambda folder, number: save_library(a_library(number), folder, "a"),
        library_number,
        removes=lambda folder: (delete_person(folder, "a", "Anna"), delete_person(folder, "a", "Bert")),
    ),
    "persona": Writer(
        lambda folder, number: save_persona(
            Persona("album", "tiny", {"x": torch.full((500,), float(number))}), folder, "a"
        ),
        persona_number,
        removes=lambda folder: delete_persona(folder, "a"),
    ),
    "trained model": Writer(
        lambda folder, number: write_tensors(folder / "a.safetensors", {"x": torch.full((500,), float(number))}),
        model_number,
        user=False,
    ),
    "text": Writer(
        lambda folder, number: write_whole(folder / "a.txt", f"{'x' * 300} {number}"), text_number, user=False
    ),
    "checkpoint": Writer(write_checkpoint, checkpoint_number, user=False),
    "folder": Writer(write_folder, folder_number, user=False),
    "result": Writer(write_result, result_number, user=False),
}
EVERY = pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)


def steps(writer: Writer, folder: Path, old: int | None) -> int:
    """How many calls a write makes."""
    folder.mkdir()
    if old is not None:
        writer.write(folder, old)
    with failing(Disk(folder)) as disk:
        writer.write(folder, 2)
    assert writer.read(folder) == 2
    return disk.steps


@EVERY
@pytest.mark.parametrize("old", [None, 1], ids=["first", "second"])
def test_killed_at_any_step_old_or_new_is_there_and_the_next_write_works(tmp_path, writer, old):
    count = steps(writer, tmp_path / "counted", old)
    assert count > 3
    for at in range(count):
        for after, torn in ((False, False), (True, False), (True, True)):
            folder = tmp_path / f"{at} {after} {torn}"
            folder.mkdir()
            if old is not None:
                writer.write(folder, old)
            with failing(Disk(folder, at=at, after=after, torn=torn)), pytest.raises(Killed):
                writer.write(folder, 2)
            assert writer.read(folder) in (old, 2), f"step {at} of {count}"
            writer.write(folder, 3)
            assert writer.read(folder) == 3, f"after step {at} of {count}"


@EVERY
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO], ids=["full", "forbidden", "broken"])
def test_an_error_at_any_step_is_said_and_leaves_old_or_new(tmp_path, writer, code):
    count = steps(writer, tmp_path / "counted", 1)
    for at in range(count):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        writer.write(folder, 1)
        before = sorted(folder.rglob("*"))
        done = None
        with (
            failing(Disk(folder, lambda: OSError(code, os.strerror(code)), at=at, once=True)),
            suppress(UserError if writer.user else OSError),
        ):
            writer.write(folder, 2)
            done = 2
        found = writer.read(folder)
        assert found == done if done else found in (1, 2), f"step {at} of {count}"
        if found == 1 and writer.read not in (
            checkpoint_number,
        ):  # which keeps what it has, to be replaced by the next one
            assert sorted(folder.rglob("*")) == before, f"step {at} of {count} leaves something behind"


@EVERY
def test_in_a_read_only_folder_the_old_one_stays(tmp_path, writer):
    writer.write(tmp_path, 1)
    with (
        failing(Disk(tmp_path, lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)), at=0)),
        pytest.raises(UserError if writer.user else OSError),
    ):
        writer.write(tmp_path, 2)
    assert writer.read(tmp_path) == 1


@pytest.mark.parametrize("name", [name for name, writer in WRITERS.items() if writer.removes])
def test_a_removal_that_was_killed_is_finished_by_the_next_one(tmp_path, name):
    writer = WRITERS[name]
    at = 0
    while True:
        folder = tmp_path / f"{at}"
        folder.mkdir()
        writer.write(folder, 1)
        with failing(Disk(folder, at=at)) as disk, suppress(Killed):
            writer.removes(folder)
        assert writer.read(folder) in (1, None)
        with suppress(UserError):  # of the person who is gone already
            writer.removes(folder)
        with suppress(UserError):
            delete_person(folder, "a", "Bert")
        assert not list(folder.iterdir()), f"step {at}"
        if disk.steps <= at:
            break
        at += 1
    assert at >= 1


@EVERY
@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of this kind")
def test_a_disk_that_is_really_full_leaves_the_old_one(tmp_path, writer):
    resource = pytest.importorskip("resource")
    writer.write(tmp_path, 1)
    before, soft = sorted(tmp_path.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    for size in (0, largest // 2, largest - 1):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, soft[1]))
            with pytest.raises(UserError if writer.user else OSError):
                writer.write(tmp_path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        assert writer.read(tmp_path) in (1, *([2] if writer.read is result_number and size else [])), f"{size} bytes"
        if writer.read not in (checkpoint_number, result_number):
            assert sorted(tmp_path.rglob("*")) == before, f"{size} bytes"


# Reads the name of a writer, a folder and a number from each line, and writes versions from that number on until it is killed.
ENDLESS = """
import itertools, os, pathlib, sys
sys.path.insert(0, sys.argv[1])
import run
run.load_package()
from personal_restore.tests.test_storage_faults import WRITERS
print("ready", flush=True)
for line in sys.stdin:
    name, folder, first = line.rstrip("\\n").split("|")
    child = os.fork()
    if not child:
        for number in itertools.count(int(first)):
            WRITERS[name].write(pathlib.Path(folder), number % 200)
    print(child, flush=True)
"""


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., int]]:
    """start(name, folder, first) is the id of a process that writes without end."""
    command = [sys.executable, "-c", ENDLESS, str(ROOT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "ready\n"

        def begin(name: str, folder: Path, first: int) -> int:
            parent.stdin.write(f"{name}|{folder}|{first}\n")
            parent.stdin.flush()
            return int(parent.stdout.readline())

        yield begin
        parent.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("name", ["library", "persona", "trained model", "text", "folder"])
def test_killed_for_good_at_any_moment_something_whole_is_there(tmp_path, start, name):
    rng = random.Random(0)
    WRITERS[name].write(tmp_path, 1)
    for number in range(40):
        child = start(name, tmp_path, number)
        time.sleep(rng.uniform(0.001, 0.1))
        os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
        assert WRITERS[name].read(tmp_path) is not None
    WRITERS[name].write(tmp_path, 199)
    assert WRITERS[name].read(tmp_path) == 199


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("name", ["library", "persona", "trained model", "text"])
def test_two_processes_that_write_one_name_never_mix(tmp_path, start, name):
    WRITERS[name].write(tmp_path, 1)
    children = [start(name, tmp_path, first) for first in (0, 100)]
    seen: set[int | None] = set()
    try:
        end = time.monotonic() + 30
        while len(seen) <= 10 and time.monotonic() < end:
            seen |= {WRITERS[name].read(tmp_path) for _ in range(100)}
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    assert None not in seen and len(seen) > 10

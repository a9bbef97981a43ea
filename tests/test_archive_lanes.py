"""Photographs spread over places, some of which are lost; and how many processes a machine holds."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from personal_restore.cli.archive import workers
from personal_restore.cli.archive.lanes import spread
from personal_restore.cli.archive.manifest import Entry
from personal_restore.cli.archive.photograph import Lost, Unstarted
from personal_restore.lib.vocabulary import UserError

from .conftest import ROOT
from .test_archive import entry


class Place:
    """A lane that notes what it restores, and is lost with some photographs. ``next``: what takes its place."""

    def __init__(self, deadly=(), next: Place | None = None) -> None:
        self.deadly, self.next, self.done, self.closed = deadly, next, [], False

    def restore(self, photograph: str) -> Entry:
        time.sleep(0.001)
        if photograph in self.deadly:
            raise Lost("It is gone.")
        self.done.append(photograph)
        return entry(photograph)

    def again(self) -> Place | None:
        return self.next

    def lost(self, photograph: str, reason: str) -> Entry:
        return entry(photograph, reason=reason)

    def close(self) -> None:
        self.closed = True


def test_what_a_lost_place_had_goes_to_another():
    first, second = Place(deadly=["b"]), Place()
    found = list(spread([first, second], iter("abcdefgh")))
    assert sorted(one.photograph for one in found) == list("abcdefgh") and not any(one.reason for one in found)
    assert "b" in second.done and first.closed and second.closed


def test_no_photograph_is_blamed_for_places_that_die_at_their_start():
    class Stillborn(Place):
        def restore(self, photograph: str) -> Entry:
            raise Unstarted("It died.")

    third, other = Stillborn(), Place()
    found = list(spread([Stillborn(next=Stillborn(next=third)), other], iter("abcd")))
    assert sorted(other.done) == list("abcd") and not any(one.reason for one in found) and third.closed
    with pytest.raises(UserError, match="It died. Nothing is left"):
        list(spread([Stillborn(next=Stillborn())], iter("abcd")))


STILLBORN = """
import os, sys
sys.path.insert(0, {root!r})
import run
run.load_package()
from pathlib import Path
from personal_restore.cli.archive.manifest import Origin
from personal_restore.cli.archive.photograph import Job
from personal_restore.cli.archive.workers import workers

class Deadly:
    def __reduce__(self):
        return os._exit, (7,)  # ends the process that unpickles it

if __name__ == "__main__":
    nowhere = Path("nowhere")
    list(workers(Job(nowhere, nowhere, {{"x": Deadly()}}, nowhere, Origin("g", "w", "a")), 2, iter("abcd")))
"""


@pytest.mark.slow
def test_processes_that_die_at_their_start_end_the_run_with_words(tmp_path):
    (tmp_path / "stillborn.py").write_text(STILLBORN.format(root=str(ROOT)))
    ran = subprocess.run([sys.executable, str(tmp_path / "stillborn.py")], capture_output=True, text=True)
    assert "UserError: A process ended with code 7 while it started" in ran.stderr and "Nothing is left" in ran.stderr


def test_a_photograph_that_places_die_of_is_given_up():
    place = Place(deadly=["b"], next=Place(deadly=["b"], next=Place()))
    found = {one.photograph: one.reason for one in spread([place], iter("abcd"))}
    assert found == {"a": "", "b": "It is gone.", "c": "", "d": ""}


def test_without_any_place_left_the_run_ends_with_words():
    with pytest.raises(UserError, match="It is gone. Nothing is left"):
        list(spread([Place(deadly="b"), Place(deadly="b")], iter("abcd")))


def test_places_are_closed_when_nobody_wants_more():
    first, later = Place(), [Place(), Place()]
    entries = spread([first], iter("abcdefgh"), lambda: later)
    next(entries)
    next(entries)
    entries.close()
    assert first.closed and all(place.closed for place in later)


def test_processes_divide_cores_and_cards(monkeypatch):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: {0, 1, 2, 3, 4}, raising=False)
    monkeypatch.setattr(workers, "_cards", lambda: ["0", "1"])
    assert [(seat.cores, seat.threads, seat.card) for seat in workers.seats(3)] == [
        ((0,), 1, "0"), ((1, 2), 2, "1"), ((3, 4), 2, "0"),
    ]  # fmt: skip
    assert [seat.threads for seat in workers.seats(3, 7)] == [7, 7, 7]
    assert all(seat.cores for seat in workers.seats(9))


def test_no_more_processes_start_than_memory_holds(monkeypatch):
    free = type("", (), {"available": 10_000_000_000})
    monkeypatch.setattr(workers.psutil, "virtual_memory", lambda: free)
    one = workers.Worker(None, workers.Seat((), 1, "0"))
    one.peak, one.on_card, one.free_on_card = 2_000_000_000, 5_000_000_000, 7_000_000_000
    assert [one.fits(others, 0) for others in (3, 4)] == [True, False]
    assert [one.fits(1, on_card) for on_card in (1, 2)] == [True, False]

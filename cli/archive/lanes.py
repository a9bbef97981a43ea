"""Several places that restore at once: each gets the next photograph when it has finished one, and what a lost one had goes to another."""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from ...lib.vocabulary import UserError
from .manifest import Entry
from .photograph import Lost, Unstarted

LOSSES = 2  # after which a photograph is no longer tried: it may be what the places die of


class Lane(Protocol):
    """One place. A thread of its own calls `restore`; the others are called by the thread that reads the entries."""

    def restore(self, photograph: str) -> Entry:
        """Raises Lost, or whatever ends the whole run."""
        ...

    def again(self) -> Lane | None:
        """After Lost: what takes its place, if anything does."""
        ...

    def lost(self, photograph: str, reason: str) -> Entry:
        """The entry of a photograph with which places were lost."""
        ...

    def close(self) -> None:
        """Ends what it is doing, also while `restore` runs."""
        ...


Report = tuple[Lane, str, Entry | BaseException]


def spread(
    lanes: Sequence[Lane], photographs: Iterator[str], more: Callable[[], Sequence[Lane]] = tuple
) -> Generator[Entry]:
    """The photographs' entries as they are finished. more: called once, after the first, for lanes beside the first ones.

    Memory does not grow with the photographs: no more are taken than there are lanes. Raises UserError when no lane is left.
    """
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    idle, busy, again, losses = deque(lanes), set[Lane](), deque[str](), Counter[str]()
    finished = False
    try:
        while True:
            while idle and (photograph := again.popleft() if again else next(photographs, None)) is not None:
                lane = idle.popleft()
                busy.add(lane)
                threading.Thread(target=_work, args=(lane, photograph, reports), daemon=True).start()
            if not busy:
                break
            lane, photograph, found = reports.get()
            busy.remove(lane)
            if isinstance(found, Entry):
                idle.append(lane)
                yield found
                if not finished:
                    finished = True
                    idle.extend(more())
                continue
            if not isinstance(found, Lost):
                raise found
            losses[photograph] += not isinstance(found, Unstarted)
            if losses[photograph] < LOSSES:
                again.append(photograph)
            else:
                yield lane.lost(photograph, str(found))
            lane.close()
            if (new := lane.again()) is not None:
                idle.append(new)
            elif not busy and not idle:
                raise UserError(f"{found} Nothing is left that could restore.")
    finally:
        for lane in (*idle, *busy):
            lane.close()


def _work(lane: Lane, photograph: str, reports: queue.SimpleQueue[Report]) -> None:
    try:
        reports.put((lane, photograph, lane.restore(photograph)))
    except BaseException as error:  # it is the reader's to judge
        reports.put((lane, photograph, error))

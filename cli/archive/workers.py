"""Processes on this machine that restore, each on its own cores or graphics card, as many as memory holds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cv2
import psutil
import torch

from .lanes import spread
from .manifest import Entry
from .photograph import Here, Job, Lost, OutputError, Unstarted, failed

STARTS = 3  # in a row of which none succeeds, after which nothing is started in a place any more
SLACK = 1.3  # times what the first process needed at most: other photographs are larger


@dataclass(frozen=True)
class Seat:
    """Where a process runs. cores: by number, empty where the system cannot bind a process; threads: of its own; card: the graphics
    card's name for CUDA, or None."""

    cores: tuple[int, ...]
    threads: int
    card: str | None


def seats(count: int, threads: int | None = None) -> list[Seat]:
    """Cores and cards divided among ``count`` processes. threads: of each process, instead of as many as it has cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    total = len(cores) or os.cpu_count() or 1
    cards = _cards()
    made = []
    for number in range(count):
        own = tuple(cores[number * total // count : (number + 1) * total // count] or cores[number % total :][:1])
        share = threads or len(own) or max(total // count, 1)
        made.append(Seat(own, share, cards[number % len(cards)] if cards else None))
    return made


def _cards() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in named.split(",") if name] if named is not None else []
    return names or [str(number) for number in range(torch.cuda.device_count())]


def workers(job: Job, count: int, photographs: Iterator[str], threads: int | None = None) -> Generator[Entry]:
    """Restores with ``count`` processes. The first one's first photograph shows what a process needs; of the others, as many
    start as fit into the memory that is then free, and it is said if these are fewer."""
    first, *others = (Worker(job, seat) for seat in seats(count, threads))
    first.start()

    def more() -> list[Worker]:
        room = [other for number, other in enumerate(others, 1) if first.fits(number, first.sharing(others[:number]))]
        if len(room) < len(others):
            print(
                f"\nMemory holds {len(room) + 1} of {count} workers, {first.peak / 1e9:.1f} GB each.", file=sys.stderr
            )
        for other in room:
            other.start()
        return room

    yield from spread([first], photographs, more)


class Worker:
    """A process, started when it is needed first, and what this one knows of it."""

    def __init__(self, job: Job, seat: Seat, failed_starts: int = 0) -> None:
        self._job, self._seat, self._failed_starts = job, seat, failed_starts
        self._ready = False
        self.peak = self.on_card = self.free_on_card = 0

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._job, self._seat, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def restore(self, photograph: str) -> Entry:
        try:
            self._ready = self._ready or self._pipe.recv()
            self._pipe.send(photograph)
            found, self.peak, self.on_card, self.free_on_card = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode
            how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
            kind, when = (Lost, "during its work") if self._ready else (Unstarted, "while it started")
            raise kind(f"A process {how} {when}, perhaps because memory was short.") from error
        if isinstance(found, BaseException):
            raise found
        return found

    def fits(self, others: int, on_same_card: int) -> bool:
        """Whether that many more, of which some share this one's card, have room beside this one."""
        beside = self.free_on_card >= on_same_card * SLACK * self.on_card
        return beside and psutil.virtual_memory().available >= others * SLACK * self.peak

    def sharing(self, others: list[Worker]) -> int:
        """How many of these are on this one's card."""
        return sum(other._seat.card == self._seat.card for other in others) if self._seat.card else 0

    def again(self) -> Worker | None:
        failed_starts = 0 if self._ready else self._failed_starts + 1
        if failed_starts == STARTS:
            return None
        new = Worker(self._job, self._seat, failed_starts)
        new.start()
        return new

    def lost(self, photograph: str, reason: str) -> Entry:
        return failed(self._job, photograph, reason)

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(job: Job, seat: Seat, pipe: Connection) -> None:
    """The process: restores what comes through the pipe until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that gives out the photographs
    if seat.cores:
        os.sched_setaffinity(0, seat.cores)
    if seat.card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = seat.card
    set_threads(seat.threads)
    here = Here(job)
    pipe.send(True)
    while True:
        try:
            photograph = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            found: Entry | BaseException = here(photograph)
        except OutputError as error:
            found = error
        pipe.send((found, *used()))


def set_threads(count: int) -> None:
    """Of everything that computes in this process. On the CPU, results depend on it in the last digit."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def used() -> tuple[int, int, int]:
    """Bytes: of memory at most so far, of the graphics card's at most so far, and of it free now."""
    if sys.platform == "win32":
        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if not torch.cuda.is_available():
        return peak, 0, 0
    return peak, torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[0]

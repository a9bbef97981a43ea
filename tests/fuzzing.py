"""What all fuzz tests share: how many inputs are drawn, from which seed, what may come out, and how many there were.

In the ordinary run the inputs are the same every time, so that a red test means a change. ``python run.py fuzz`` draws others,
thousands of them, by the seed that it prints; with the same seed it draws the same. A failing input is kept with the output, and becomes
an ``@example`` of its test, so that the ordinary run tries it from then on.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from personal_restore.lib.vocabulary import UserError

SEED = int(os.environ.get("PR_FUZZ_SEED", "0"))
TIMES = int(os.environ.get("PR_FUZZ_TIMES", "1"))  # the inputs of an ordinary run, so many times over
COUNTS = os.environ.get("PR_FUZZ_COUNTS")  # a file that gets a line of JSON: the inputs of every kind
LONGEST_MESSAGE = 20_000

_drawn: Counter[str] = Counter()

# What JSON can hold, with numbers and texts that somebody could think of.
ODD_NUMBERS = st.sampled_from(
    [0, -1, 1, 2**31, 2**64, 10**400, 1e308, 1e-308, 0.5, float("nan"), float("inf"), -float("inf")]
)
NUMBERS = st.one_of(ODD_NUMBERS, st.integers(-10, 300), st.floats(-10, 300))
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\udce9", "a" * 10_000, "../x", "x\0y", "0=", "1", "true", "{}", "\n" * 999]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)


def fuzzed(
    kind: str, ordinary: int, **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of one input a test of many. ordinary: how many there are in the ordinary run."""

    def many(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*given: Any, **named: Any) -> None:
            _drawn[kind] += 1
            test(*given, **named)

        settings = hypothesis.settings(
            max_examples=ordinary * TIMES,
            deadline=None,
            print_blob=True,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            database=None,  # hypothesis uses none beside a seed
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        )
        return hypothesis.seed(SEED)(settings(hypothesis.given(**strategies)(counted)))

    return many


@contextmanager
def refused_with_words() -> Iterator[None]:
    """What is inside may raise a `UserError` that somebody can read, and nothing else."""
    try:
        yield
    except UserError as error:
        said = str(error)
        assert said.strip() and len(said) < LONGEST_MESSAGE, f"a message of {len(said)} characters"


@st.composite
def changed(draw: st.DrawFn, values: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = VALUES) -> Any:
    """A copy of a JSON value with one to three places that are odd, empty, missing or exchanged."""
    value = json.loads(json.dumps(draw(values)))
    for _ in range(draw(st.integers(1, 3))):
        here: Any = value
        while isinstance(here, dict | list) and here:
            place = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
            if not (isinstance(here[place], dict | list) and here[place]) or draw(st.integers(0, 4)) == 0:
                if draw(st.integers(0, 4)) == 0:
                    del here[place]
                else:
                    here[place] = draw(odd)
                break
            here = here[place]
    return value


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """The bytes of a file that are cut off, overwritten, exchanged or longer than they should be; sometimes as they were."""
    data = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 3))):
        # Headers, where most can go wrong, are short.
        place = draw(st.one_of(st.integers(0, min(len(data), 200)), st.integers(0, len(data))))
        kind = draw(st.sampled_from(["cut", "byte", "piece", "gap", "double"]))
        if kind == "cut":
            del data[place:]
        elif kind == "byte":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "piece":
            piece = draw(
                st.one_of(
                    st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 8, b"\x7f" + b"\xff" * 7])
                )
            )
            data[place : place + len(piece)] = piece
        elif kind == "gap":
            del data[place : place + draw(st.integers(1, 64))]
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
    return bytes(data)


@atexit.register
def _write_counts() -> None:
    if COUNTS and _drawn:
        with Path(COUNTS).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(_drawn) + "\n")

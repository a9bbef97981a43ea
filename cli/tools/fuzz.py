"""Tries inputs that nobody would write, for as long as there is time: ``python run.py fuzz [--minutes N] [--seed S]``.

The tests ``tests/test_fuzz_*.py`` run round after round, each with a seed of its own and many times the inputs of an ordinary run. The
round that is under way at the end is finished. What fails is printed with its input and kept in ``output/fuzz/SEED.txt``; its seed
draws it again.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "output" / "fuzz"
TIMES = 4  # the inputs of an ordinary run, so many times over, in a round


def rounds(minutes: float, seed: int, counts: Path) -> int:
    """Runs rounds until the time is over. Returns how many of them failed."""
    failed, end = 0, time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        told = {"PR_FUZZ_SEED": str(seed), "PR_FUZZ_TIMES": str(TIMES), "PR_FUZZ_COUNTS": str(counts)}
        files = sorted(str(path) for path in (ROOT / "tests").glob("test_fuzz_*.py"))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--tb=short", *files],
            cwd=ROOT, env=os.environ | told, capture_output=True, text=True,
        )  # fmt: skip
        failed += done.returncode != 0
        print(
            f"seed {seed}: {done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr}", flush=True
        )
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", flush=True)
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"{seed}.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode > 1:
            sys.exit("The tests could not run.")
        seed += 1
    return failed


def main() -> int:
    parser = argparse.ArgumentParser("run.py fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count up (default: a random one)")
    options = parser.parse_args()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    print(f"The first seed is {seed}.", flush=True)
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder:
        counts = Path(folder) / "counts.jsonl"
        failed = rounds(options.minutes, seed, counts)
        drawn = sum((Counter(json.loads(line)) for line in counts.read_text("utf-8").splitlines()), Counter())
    print(*(f"{count:9,} {kind}" for kind, count in drawn.most_common()), f"{drawn.total():9,} inputs", sep="\n")
    print(f"{failed} round(s) failed." if failed else "Every input was taken or refused with words.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A Ray cluster that restores: Ray Data hands the photographs to actors that hold the models, and replaces actors that die."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.data import ActorPoolStrategy, DataContext

from ...lib.vocabulary import UserError
from .manifest import Entry, parsed
from .photograph import Job, OutputError, failed

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 10_000  # photographs of one dataset: the driver holds no more
TRIES = 2  # of a photograph whose actor dies


def cluster(
    job: Job, address: str, photographs: Iterator[str], actors: int | None = None, threads: int | None = None
) -> Generator[Entry]:
    """Restores in the cluster at an address, or in one that is started on this machine ("local") and ends with the run.

    actors: at most so many, else as many as the cluster has graphics cards or, without, room for; Ray starts more of them while
    photographs wait. threads: CPU cores of each. Every machine must see the pack and all folders under the same paths.
    """
    try:
        ray.init(
            address, include_dashboard=False if address == "local" else None, log_to_driver=False, logging_level="ERROR"
        )
    except Exception as error:  # Ray raises any
        raise UserError(f"--ray {address}: the cluster cannot be reached or started ({error}).") from error
    try:
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # what is lost with its actors becomes an entry here
        # Ray's machines know the pack by no name, so that the class goes there itself.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        while chunk := list(islice(photographs, CHUNK)):
            yield from _restored(job, chunk, actors, threads)
    finally:
        ray.shutdown()


def _restored(job: Job, photographs: list[str], actors: int | None, threads: int | None) -> Generator[Entry]:
    total = ray.cluster_resources()
    cards, cores = int(total.get("GPU", 0)), threads or 1
    most = actors or cards or max(int(total["CPU"]) // cores, 1)
    rows = ray.data.from_items([{"photograph": one} for one in photographs], override_num_blocks=len(photographs)).map(
        Restoring,
        fn_constructor_args=(str(ROOT), _packed(job), cores),
        compute=ActorPoolStrategy(min_size=1, max_size=min(most, len(photographs))),
        num_cpus=cores,
        num_gpus=1 if cards else 0,
        max_restarts=-1,
        max_task_retries=TRIES - 1,
    )
    missing = set(photographs)
    for row in rows.iter_rows():
        if row["stop"]:
            raise OutputError(row["stop"])
        entry = parsed(row["line"])
        if entry is not None and entry.photograph in missing:  # a row that was tried again may come twice
            missing.remove(entry.photograph)
            yield entry
    for photograph in sorted(missing):
        yield failed(job, photograph, "The process that restored it died, perhaps because memory was short.")


def _packed(job: Job) -> str:
    """JSON, which needs no class of the pack where it is read."""
    return json.dumps(vars(job) | {"origin": vars(job.origin)}, default=str)


class Restoring:
    """The actor. It refers to nothing of its module, and imports the pack where it runs, by the pack's folder."""

    def __init__(self, root: str, job: str, threads: int) -> None:
        import importlib.util
        import json
        from pathlib import Path

        spec = importlib.util.spec_from_file_location("personal_restore_run", Path(root) / "run.py")
        assert spec is not None and spec.loader is not None
        run = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(run)
        run.load_package()
        from personal_restore.cli.archive.manifest import Origin
        from personal_restore.cli.archive.photograph import Here, Job, OutputError
        from personal_restore.cli.archive.workers import set_threads

        set_threads(threads)
        given = json.loads(job)
        found = Origin(**given.pop("origin"))
        paths = {name: Path(given.pop(name)) for name in ("folder", "out", "album")}
        self._here, self._stops = Here(Job(**given, **paths, origin=found)), OutputError

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"line": self._here(row["photograph"]).line, "stop": ""}
        except self._stops as error:
            return {"line": b"", "stop": str(error)}

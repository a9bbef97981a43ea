"""The training loop for all our networks, based on Accelerate: a step budget, checkpoints, resuming, and a loss curve."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from ..lib.storage.whole import exclusive, put, write_whole
from ..lib.vocabulary import Place
from .randomness import seeded

log = logging.getLogger(__name__)

LOG = "log.jsonl"


@dataclass(frozen=True)
class Schedule:
    """steps and batch set the amount of work; the learning rate warms up over ``warmup`` steps and then follows a
    cosine to zero, unless it does not decay."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    save_every: int = 250
    workers: int = 1
    seed: int = 0
    decays: bool = True


class _From(Sampler):
    """The indices from ``start`` on, so that resuming continues with new data."""

    def __init__(self, start: int, stop: int):
        self.start, self.stop = start, stop

    def __iter__(self):
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop - self.start


def train_loop(
    folder: Path,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Callable[[int], Dataset],
    loss: Callable[[nn.Module, dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    schedule: Schedule,
    place: Place,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> nn.Module:
    """Runs or resumes the schedule in ``folder`` and returns the trained module, unwrapped.

    dataset(length) gives items by index; loss(module, batch) gives named terms, of which "loss" is minimized; place:
    the device, and the precision of autocast, as the bridge says; report is called after every step and may raise to
    stop. After an interruption, it resumes from the last checkpoint with the same data and random numbers; those of the rest
    of the process are left alone.
    """
    precision = "bf16" if place.dtype == torch.bfloat16 else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=place.device.type == "cpu")
    busy = f"Another process is training in {folder.name}. Wait for it, or choose another name or folder."
    with exclusive(folder, busy) if accelerator.is_main_process else nullcontext(), seeded(schedule.seed):
        return _run(accelerator, folder, trained, optimizer, dataset, loss, schedule, report)


def _run(accelerator, folder, trained, optimizer, dataset, loss, schedule, report) -> nn.Module:
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warm_cosine(step, schedule))
    trained, optimizer, scheduler = accelerator.prepare(trained, optimizer, scheduler)
    done = max((int(state.name.split("-")[1]) for state in folder.glob("state-*[0-9]")), default=0)
    if done:
        accelerator.load_state(str(folder / f"state-{done}"))
        log.info("resuming %s at step %d", folder, done)
    data = dataset(schedule.steps * schedule.batch)
    loader = DataLoader(
        data,
        schedule.batch,
        sampler=_From(done * schedule.batch, len(data)),
        num_workers=schedule.workers,
        # Otherwise it would consume random numbers that a resumed run has just restored.
        generator=torch.Generator().manual_seed(schedule.seed),
        persistent_workers=schedule.workers > 0,
    )
    loader = accelerator.prepare(loader)
    journal = Journal(folder, schedule.steps, done) if accelerator.is_main_process else None
    for step, batch in enumerate(loader, done + 1):
        with accelerator.autocast():
            terms = loss(trained, batch)
        accelerator.backward(terms["loss"])
        for (
            group
        ) in optimizer.param_groups:  # separately: the discriminator must not scale down the generator's gradients
            accelerator.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if journal:
            journal.note(step, {name: value.item() for name, value in terms.items()})
        if step % schedule.save_every == 0 or step == schedule.steps:
            _checkpoint(accelerator, folder, step)
        report(step, schedule.steps)
    if journal:
        journal.close()
    return accelerator.unwrap_model(trained)


def _checkpoint(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Writes ``folder/state-<step>``, which gets its name when it is complete; only then are older ones removed."""
    partial = folder / "state.part"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        older = list(folder.glob("state-*"))
        put(partial, folder / f"state-{step}")
        for state in older:
            shutil.rmtree(state)


class Journal:
    """The log of a training run: a progress bar, running means of its terms in ``log.jsonl``, and finally
    ``curve.png``.

    done: steps of an earlier run, whose log is continued; every: steps between lines.
    """

    def __init__(self, folder: Path, steps: int, done: int, every: int = 50):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.every = folder, every
        self.log = folder / LOG
        text = self.log.read_text() if self.log.is_file() else ""
        # Steps after the last checkpoint of an interrupted run are repeated and logged again; its last line may be incomplete.
        kept = [entry for entry in map(json.loads, text[: text.rfind("\n") + 1].splitlines()) if entry["step"] <= done]
        write_whole(self.log, "".join(f"{json.dumps(entry)}\n" for entry in kept))
        self.running: dict[str, float] = {name: kept[-1][name] for name in kept[-1].keys() - {"step"}} if kept else {}
        self.bar = tqdm(desc=folder.name, total=steps, initial=done, mininterval=5)

    def note(self, step: int, terms: Mapping[str, float]) -> None:
        """Adds the terms of the next step."""
        for name, value in terms.items():
            self.running[name] = 0.98 * self.running.get(name, value) + 0.02 * value
        self.bar.set_postfix({name: f"{value:.4f}" for name, value in self.running.items()}, refresh=False)
        self.bar.update()
        if step % self.every == 0:
            with self.log.open("a") as lines:
                lines.write(json.dumps({"step": step, **self.running}) + "\n")

    def close(self) -> None:
        self.bar.close()
        draw_curve(self.folder)


def draw_curve(folder: Path) -> None:
    """``curve.png`` beside ``log.jsonl``: every logged term over the steps, each scaled by its first value."""
    lines = (folder / LOG).read_text().splitlines()
    if not lines:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [json.loads(line) for line in lines]
    plot, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in entries[-1].keys() - {"step"}:
        points = [(e["step"], e[name] / (entries[0].get(name) or 1)) for e in entries if name in e]
        axes.plot(*zip(*points, strict=True), label=f"{name} (ends at {entries[-1][name]:.4f})")
    axes.set(title=folder.name, xlabel="step", ylabel="share of the first value")
    axes.legend()
    plot.savefig(folder / "curve.png", dpi=120)
    pyplot.close(plot)


def _warm_cosine(step: int, schedule: Schedule) -> float:
    warm = min(1.0, (step + 1) / max(schedule.warmup, 1))
    if not schedule.decays:
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * min(step / schedule.steps, 1.0)))

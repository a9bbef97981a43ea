"""The trainer shared by all persona methods: parameter groups, a batch function and a list of losses; cancel and
resume."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...lib.storage.tensors import opened_tensors, write_tensors

if TYPE_CHECKING:
    from accelerate import PartialState

log = logging.getLogger(__name__)

SAVE_EVERY = 50  # steps: at most this many are lost if the process is killed

# report(step, steps, losses by name) is called after every step and may raise to stop.
Report = Callable[[int, int, Mapping[str, float]], None]
Loss = Callable[[Any], torch.Tensor]


def silent(step: int, steps: int, losses: Mapping[str, float]) -> None:
    """A report that does nothing."""


@dataclass(frozen=True)
class Task:
    """One training task for the trainer.

    groups: as an optimizer of torch takes them, each with its own "lr"; batch: maps a step number to its batch, always
    the same; losses: name to weight and function, the sum is minimized; learnt: the tensors so far, detached;
    anneal: the learning rates fall linearly to 0.
    """

    groups: list[dict[str, Any]]
    batch: Callable[[int], Any]
    losses: Mapping[str, tuple[float, Loss]]
    learnt: Callable[[], dict[str, torch.Tensor]]
    anneal: bool = False

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.groups for parameter in group["params"]]

    def step(self, number: int) -> dict[str, float]:
        """Backpropagates the weighted sum of a step's losses, and returns the losses by name."""
        batch = self.batch(number)
        terms = {name: (weight, loss(batch)) for name, (weight, loss) in self.losses.items()}
        sum(weight * value for weight, value in terms.values()).backward()
        return {name: value.item() for name, (_, value) in terms.items()}


def train_task(
    task: Task,
    steps: int,
    report: Report = silent,
    checkpoint: Path | None = None,
    signature: str = "",
    small_optimizer: bool = False,
    processes: PartialState | None = None,
) -> dict[str, float]:
    """Trains to ``steps`` and returns the mean losses of the last tenth. Works inside inference mode.

    checkpoint: file for the state, written every 50 steps, at the end, and when an exception stops the run. Training
    resumes from a checkpoint with the same signature, with the result of an uninterrupted run. small_optimizer: uses 8
    bits, if bitsandbytes is installed. processes: those that train together, from equal weights: each draws its own
    batches, the gradients are averaged, and the main process saves the state. None is the same as a single process.
    """
    count, own = (processes.num_processes, processes.process_index) if processes else (1, 0)
    keeps = checkpoint is not None and own == 0
    with torch.inference_mode(False), torch.enable_grad():
        optimizer = _optimizer(task, small_optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        done, tail = _resume(task, optimizer, checkpoint, signature)
        started, first, whole = None, done + 1, True
        try:
            while done < steps:
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * (1 - done / steps) if task.anneal else rate
                values = task.step(done * count + own)
                if count > 1:
                    values = _averaged(task, values, processes.device)
                whole = False
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if done + 1 > 0.9 * steps:
                    tail.append(values)
                done += 1
                whole = True
                if started is None:
                    started = time.monotonic()
                elif done % max(steps // 10, 1) == 0:
                    left = (time.monotonic() - started) / (done - first) * (steps - done)
                    log.info("step %d of %d, about %.0f s left", done, steps, left)
                if keeps and done % SAVE_EVERY == 0:
                    _save(task, optimizer, checkpoint, signature, done, tail)
                report(done, steps, values)
        finally:
            # Not in the middle of an update, which Ctrl-C may interrupt; the previously saved state then remains valid.
            if keeps and whole:
                _save(task, optimizer, checkpoint, signature, done, tail)
        return {name: sum(values[name] for values in tail) / len(tail) for name in task.losses}


def _averaged(task: Task, values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The mean losses of all processes; their gradients become the mean in place."""
    from accelerate.utils import reduce

    given = [parameter for parameter in task.parameters if parameter.grad is not None]
    for parameter, mean in zip(given, reduce([one.grad for one in given], "mean"), strict=True):
        parameter.grad = mean
    losses = reduce(torch.tensor(list(values.values()), device=device), "mean")
    return dict(zip(values, losses.tolist(), strict=True))


def _optimizer(task: Task, small: bool) -> torch.optim.Optimizer:
    groups = [dict(group) for group in task.groups]
    if small and task.parameters[0].device.type == "cuda" and importlib.util.find_spec("bitsandbytes"):
        import bitsandbytes

        return bitsandbytes.optim.AdamW8bit(groups, weight_decay=0.0)
    return torch.optim.AdamW(groups, weight_decay=0.0)


def _save(
    task: Task, optimizer: torch.optim.Optimizer, path: Path, signature: str, done: int, tail: list[dict[str, float]]
) -> None:
    tensors = {f"weight.{index}": parameter.detach() for index, parameter in enumerate(task.parameters)}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"state.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    # Cloned, because safetensors refuses tensors that share memory.
    whole = {name: value.detach().clone() for name, value in tensors.items()}
    write_tensors(
        path, whole, {"step": json.dumps(done), "tail": json.dumps(tail), "signature": signature}, private=True
    )


def _resume(
    task: Task, optimizer: torch.optim.Optimizer, path: Path | None, signature: str
) -> tuple[int, list[dict[str, float]]]:
    """Steps already done, and the losses of those in the last tenth; none if there is no matching checkpoint."""
    if path is None or not path.is_file():
        return 0, []
    try:
        with opened_tensors(path) as file:
            metadata = file.metadata
            if metadata.get("signature") != signature:
                log.info("%s belongs to another training run; starting over", path.name)
                return 0, []
            done, tail = json.loads(metadata["step"]), json.loads(metadata["tail"])
            tensors = file.tensors()
    except (ValueError, KeyError):
        log.warning("%s is damaged; starting over", path.name)
        return 0, []
    state: dict[int, dict[str, torch.Tensor]] = {}
    with torch.no_grad():
        for name, value in tensors.items():
            kind, index, *rest = name.split(".")
            if kind == "weight":
                task.parameters[int(index)].copy_(value)
            else:
                state.setdefault(int(index), {})[rest[0]] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    log.info("resuming at step %d", done)
    return done, tail

"""Estimates the time and memory of a training run beforehand, by running two of its steps on a copy of the base."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from ...lib.diffusion.base import Diffusion
from .make import begun, prepared_training
from .methods import Material, Settings
from .presets import settings_of_stages


@dataclass(frozen=True)
class Estimate:
    """seconds: of all stages; memory: peak bytes for weights, gradients, optimizer moments and activations."""

    seconds: float
    memory: int

    def __str__(self) -> str:
        time = f"{self.seconds / 60:.0f} min" if self.seconds >= 100 else f"{self.seconds:.0f} s"
        return f"about {time} and {self.memory / 1e6:,.0f} MB of memory"


def estimate_cost(net: Diffusion, material: Material, settings: Settings) -> Estimate:
    """The cost of `make_persona` with the same arguments; raises the same errors. net is unchanged."""
    seconds, memory = 0.0, 0
    with torch.inference_mode(False), torch.enable_grad():
        tuned, material, stages = prepared_training(net, material, settings)
        for build, own in zip(stages, settings_of_stages(settings), strict=True):
            task = begun(build, tuned, material, own)
            weights = {one.untyped_storage().data_ptr(): one.nbytes for one in (*tuned.parameters(), *task.parameters)}
            kept: dict[int, int] = {}

            def note(tensor: torch.Tensor, kept=kept, weights=weights) -> torch.Tensor:
                place = tensor.untyped_storage().data_ptr()
                if place not in weights:
                    kept[place] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                task.step(0)  # the first one is slower than the others
            learning = sum(parameter.nbytes for parameter in task.parameters)
            memory = max(memory, sum(weights.values()) + 3 * learning + sum(kept.values()))
            started = time.monotonic()
            task.step(1)
            seconds += (time.monotonic() - started) * own.steps
            tuned.requires_grad_(False)
    return Estimate(seconds, memory)

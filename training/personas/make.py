"""Trains a persona from an album with one method, stage by stage, on a copy of the base model."""

from __future__ import annotations

import copy
import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...lib.diffusion.base import Diffusion
from ...lib.vocabulary import Persona, UserError
from .methods import METHODS, PLACEHOLDER, Material, Settings, check_parts, person_prompt
from .presets import settings_of_stages
from .trainer import Report, Task, silent, train_task

if TYPE_CHECKING:
    from accelerate import PartialState


def make_persona(
    net: Diffusion,
    base: str,
    material: Material,
    settings: Settings,
    person: str = "",
    report: Report = silent,
    folder: Path | None = None,
    keep: Callable[[Persona], None] = lambda persona: None,
    show: Callable[[Persona], None] = lambda persona: None,
    show_every: int = 0,
    finished: Callable[[Persona], None] = lambda persona: None,
    processes: PartialState | None = None,
) -> Persona:
    """Trains a persona; net is unchanged. base: the net's name, stored in the persona.

    folder: for checkpoints, from which training resumes with the result of an uninterrupted run; removed at the end. keep: receives the
    persona so far if the report (or anything else) stops training; show: called every so many steps, 0 for never. finished: receives
    the persona before the checkpoints are removed. processes: those that train together; each calls this with the same material and
    gets the same persona. Works inside inference mode. Raises UserError for an unknown method, for a method that needs a part that the
    base lacks, and for an album without pictures.
    """
    with torch.inference_mode(False), torch.enable_grad():
        tuned, material, stages = prepared_training(net, material, settings)
        learnt, losses, done = {}, {}, 0
        each = settings_of_stages(settings)
        total = sum(own.steps for own in each)
        count = processes.num_processes if processes else 1
        states = [folder / f"{build.__name__}.safetensors" if folder else None for build in stages]
        signature = _signature(base, material, settings, count)

        def persona(steps: int, unfinished: Task | None = None) -> Persona:
            tensors = learnt | (unfinished.learnt() if unfinished else {})
            facts = {"person": person, "pictures": len(material.pictures), "steps": f"{steps} of {total}"}
            return _persona(base, settings, tensors, facts, losses, count)

        for stage, (build, state, own) in enumerate(zip(stages, states, each, strict=True)):
            task, before = begun(build, tuned, material, own), sum(one.steps for one in each[:stage])

            def tell(step: int, _steps: int, values: Mapping[str, float], before: int = before, task=task) -> None:
                nonlocal done
                done = before + step
                report(done, total, values)
                if show_every and done % show_every == 0:
                    show(persona(done, task))

            try:
                ended = train_task(task, own.steps, tell, state, signature, saving(tuned, own), processes)
            except BaseException:
                keep(persona(done, task))
                raise
            learnt |= task.learnt()
            losses |= {f"{build.__name__}.{name}": value for name, value in ended.items()}
            tuned.requires_grad_(False)
        whole = persona(total)
        finished(whole)
        if folder and (processes is None or processes.is_main_process):
            for state in states:
                state.unlink(missing_ok=True)
        return whole


def _persona(
    base: str,
    settings: Settings,
    tensors: dict[str, torch.Tensor],
    facts: dict,
    losses: Mapping[str, float],
    processes: int,
) -> Persona:
    """The persona of these tensors; facts: the provenance so far."""
    provenance = facts | {
        "losses": {name: round(value, 5) for name, value in losses.items()},
        "settings": asdict(settings),
        "stages": [asdict(own) for own in settings_of_stages(settings)],
        "processes": processes,
        "made": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers")},
    }
    token = PLACEHOLDER if "token" in tensors else ""
    return Persona(settings.method, base, tensors, provenance, person_prompt(settings), token)


def prepared_training(net: Diffusion, material: Material, settings: Settings):
    """A copy of net to train, a copy of the material, and the stages of the method; raises like `make_persona`."""
    if settings.method not in METHODS:
        raise UserError(f"Train Persona: there is no method {settings.method!r}. Choose one of {', '.join(METHODS)}.")
    check_parts(net, settings.method)
    tuned = outside_inference(net)
    if not len(material.pictures):
        raise UserError("Train Persona: the album has no picture. Connect a library that contains the person.")
    # Outside inference mode, like the copy.
    material = Material(
        *(pictures.clone() if pictures is not None and len(pictures) else None for pictures in vars(material).values())
    )
    return tuned, material, METHODS[settings.method]


def begun(
    build: Callable[[Diffusion, Material, Settings], Task], tuned: Diffusion, material: Material, settings: Settings
) -> Task:
    """The task of a stage, with gradient checkpointing if memory should be saved."""
    task = build(tuned, material, settings)
    if saving(tuned, settings):
        tuned.enable_gradient_checkpointing()
    return task


def saving(tuned: Diffusion, settings: Settings) -> bool:
    return settings.low_memory or tuned.large


def outside_inference(net: nn.Module) -> nn.Module:
    """A frozen copy in which gradients may flow, also of a network that was made under inference mode.

    It shares the tensors of the original, but for those made under inference mode: adapters go beside them, and what is to be
    tuned itself is cloned first.
    """
    shared = {}
    with torch.inference_mode(False):
        for weight in net.parameters():
            shared[id(weight)] = nn.Parameter(weight.clone(), False) if weight.is_inference() else weight
        for value in net.buffers():
            shared[id(value)] = value.clone() if value.is_inference() else value
        return copy.deepcopy(net, shared).eval().requires_grad_(False)


def _signature(base: str, material: Material, settings: Settings, processes: int) -> str:
    """The properties that a checkpoint must share with this run to be resumed."""
    digest = hashlib.sha256(json.dumps([base, asdict(settings), processes]).encode())
    for pictures in vars(material).values():
        digest.update(b"-" if pictures is None else pictures.cpu().numpy().tobytes())
    return digest.hexdigest()

"""PFStorer's base model: the control of a diffusion restorer, tuned on many people's faces before it is taught a person.

PFStorer (Varanka et al. 2024), section 3.3 and supplement, "Non-Personalized Base Model": StableSR, fine-tuned on FFHQ for 12 epochs,
half of the faces as random crops, under the heavy degradation, 3 % of them undamaged. The optimizer's settings, which the paper does not
name, are StableSR's: AdamW at 5e-5, batch 6 with four accumulated gradients.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ...lib.diffusion.base import Diffusion
from ...lib.vocabulary import Persona, UserError
from ...models.shared.precision import check_trainable
from ..faces_folder import FaceFiles
from .batches import Batch, draw_batch
from .make import outside_inference, saving
from .methods import Settings, noise_loss, tuned_whole
from .trainer import Report, Task, silent, train_task

KIND = "base_model"
EPOCHS, CROPS = 12, 0.5
PUBLISHED = {"batch": 24, "learning_rate": 5e-5, "damage": "pfstorer_heavy", "intact": 0.03}


def published_settings(settings: Settings, count: int) -> Settings:
    """The paper's, for so many pictures."""
    return replace(settings, **PUBLISHED, steps=math.ceil(EPOCHS * count / PUBLISHED["batch"]))


def base_model_task(net: Diffusion, files: list[Path], settings: Settings) -> Task:
    """The whole control learns to steer the frozen UNet on faces of a folder, without a prompt."""
    groups, learnt = tuned_whole(net.control, [name for name, _ in net.control.named_parameters()], "control", settings)
    faces = FaceFiles(files, net.native_size, settings.steps * settings.batch, CROPS, settings.seed)
    nothing = net.prompt("", settings.batch)

    def draw(step: int) -> Batch:
        first = step * settings.batch
        pictures = torch.stack([faces[index]["picture"] for index in range(first, first + settings.batch)])
        return draw_batch(net, pictures, settings.batch, settings.damage, settings.seed, step, settings.intact)

    losses = {"noise": (1.0, lambda batch: noise_loss(net, batch, nothing, batch.hint))}
    return Task(groups, draw, losses, learnt)


def train_base_model(
    net: Diffusion, base: str, files: list[Path], settings: Settings, folder: Path, report: Report = silent
) -> Persona:
    """Trains or resumes, with its checkpoint in ``folder``; net is unchanged. base: its name.

    The result is a persona of nobody: the control's weights, which Apply Persona makes part of the base. Raises UserError for a base
    without a control, or with weights in 8 bits. Works inside inference mode.
    """
    check_trainable(net, "Train Base Model")
    if net.control is None:
        raise UserError(
            "Train Base Model: this base has no control to train. Connect StableSR Restorer or DiffBIR Restorer."
        )
    with torch.inference_mode(False), torch.enable_grad():
        tuned = outside_inference(net)
        task = base_model_task(tuned, files, settings)
        if saving(tuned, settings):
            tuned.enable_gradient_checkpointing()
        names = [file.as_posix() for file in files]
        signature = hashlib.sha256(json.dumps([base, asdict(settings), names]).encode()).hexdigest()
        state = folder / f"{KIND}.safetensors"
        losses = train_task(task, settings.steps, report, state, signature, saving(tuned, settings))
        provenance = {
            "person": "everybody",
            "pictures": len(files),
            "steps": f"{settings.steps} of {settings.steps}",
            "losses": {name: round(value, 5) for name, value in losses.items()},
            "settings": asdict(settings),
            "made": datetime.date.today().isoformat(),
        }
        persona = Persona(KIND, base, task.learnt(), provenance)
    state.unlink(missing_ok=True)
    return persona

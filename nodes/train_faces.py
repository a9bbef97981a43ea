"""Trains what personas are built on: PFStorer's base model, and the prior of Restoration by Generation."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..lib.bridge import io, models_folder, place, progress
from ..lib.degradation.families import FAMILIES
from ..lib.extras import require
from ..lib.storage.names import stored_path
from ..lib.storage.personas import describe_persona
from ..lib.storage.whole import exclusive
from ..lib.vocabulary import UserError, abilities
from ..models.gen2res.build import FOLDER
from . import sockets
from .named_training import SAVE_EVERY, opened_folder, report_output, train_named
from .personas import folder
from .presets import OWN, PUBLISHED

PHOTOGRAPHS = (
    "A folder inside the input folder with good pictures of many people's faces, one in the middle of each picture."
)
SIZES = "small, 64 px", "published, 256 px", "published, 512 px"


def photographs_input() -> io.Input:
    return io.String.Input("photographs", default="photographs", tooltip=PHOTOGRAPHS)


class TrainBaseModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_TrainBaseModel",
            display_name="Train Base Model",
            category=sockets.PERSONAS,
            description="Tunes the control of a diffusion restorer on many people's faces, which PFStorer does to StableSR before it "
            "learns a person. Connect the result to Apply Persona, and that to Train Persona. If training is stopped, run it again with "
            "the same settings to resume.",
            search_aliases=["pfstorer", "stablesr", "base model", "finetune", "ffhq"],
            inputs=[
                sockets.Restorer.Input("restorer", tooltip="The base: StableSR Restorer or DiffBIR Restorer."),
                photographs_input(),
                io.Int.Input("steps", default=1000, min=1, max=10000000, tooltip="Training steps."),
                io.Int.Input("batch", default=2, min=1, max=256, tooltip="Pictures per step."),
                io.Float.Input(
                    "learning_rate",
                    default=0.00005,
                    min=0.000001,
                    max=0.1,
                    step=0.000001,
                    tooltip="Value of StableSR: 0.00005. The small base needs 0.001.",
                ),
                io.Combo.Input(
                    "damage",
                    options=list(FAMILIES),
                    default="pfstorer_heavy",
                    tooltip="The damage to learn from. Published value: pfstorer_heavy.",
                ),
                sockets.share_input(
                    "intact",
                    default=0.03,
                    tooltip="How often the control is shown the undamaged picture (PFStorer's p_HQ). Published value: 0.03.",
                ),
                sockets.seed("The same seed gives the same model on the same machine.", most=2**31 - 1),
                io.Combo.Input(
                    "preset",
                    options=[OWN, PUBLISHED],
                    default=OWN,
                    tooltip="own: the settings of this node. published: 12 epochs of the folder in batches of 24, with PFStorer's damage. "
                    "The paper trains on the 70,000 pictures of FFHQ.",
                ),
            ],
            outputs=[
                sockets.Persona.Output(
                    display_name="persona", tooltip="The tuned control, for Apply Persona and Save Persona."
                ),
                io.String.Output(display_name="report", tooltip="The settings, the number of pictures and the losses."),
            ],
        )

    @classmethod
    def execute(cls, restorer: Any, photographs: str, preset: str, **settings: Any) -> io.NodeOutput:
        require("Train Base Model", "training")
        # Imported here because diffusers takes seconds to import.
        from ..training.faces_folder import pictures_in
        from ..training.personas.base_model import KIND, published_settings, train_base_model
        from ..training.personas.methods import Settings

        if not abilities(restorer).teachable:
            raise UserError(
                f"Train Base Model: {restorer.name!r} cannot be trained. Connect StableSR Restorer or DiffBIR Restorer."
            )
        files = pictures_in(opened_folder(photographs), "Train Base Model")
        chosen = Settings(KIND, rank=0, **settings)
        if preset == PUBLISHED:
            chosen = published_settings(chosen, len(files))
        state, update = folder() / "training", progress(chosen.steps)
        with exclusive(state, "Train Base Model: another training is running in this models folder. Wait for it."):
            persona = train_base_model(
                restorer.load(), restorer.base, files, chosen, state, lambda done, total, losses: update(done, total)
            )
        return io.NodeOutput(persona, describe_persona(persona))


class TrainGenerator(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_TrainGenerator",
            display_name="Train Generator",
            category=sockets.PERSONAS,
            description="Trains the face model of Restoration by Generation from nothing, on faces without any damage. The authors "
            "published theirs at 256x256; the one at 512x512, which they use for people, can be made here. If training is stopped, run "
            "it again with the same settings to resume.",
            search_aliases=["gen2res", "unconditional", "diffusion prior", "guided-diffusion", "adm", "512"],
            inputs=[
                photographs_input(),
                io.String.Input("name", default="generator", tooltip="Name of the trained model, without folders."),
                io.Combo.Input(
                    "model",
                    options=list(SIZES),
                    tooltip="The network. small is for a trial; the published ones are those of the paper's table 1 and need large "
                    "graphics cards for days.",
                ),
                io.Int.Input("steps", default=20000, min=1, max=10000000, tooltip="Training steps."),
                io.Int.Input("batch", default=16, min=1, max=1024, tooltip="Pictures per step."),
                io.Float.Input(
                    "learning_rate",
                    default=0.0001,
                    min=0.000001,
                    max=0.01,
                    step=0.000001,
                    tooltip="Published value: 0.0001.",
                ),
                sockets.seed("The same seed gives the same model on the same machine.", most=2**31 - 1),
                io.Combo.Input(
                    "preset",
                    options=[OWN, PUBLISHED],
                    default=OWN,
                    tooltip="own: the settings of this node. published: 200,000 steps of 256 pictures at 256x256, or 2,320,000 steps of "
                    "32 at 512x512, at a rate of 0.0001.",
                ),
            ],
            outputs=[report_output()],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls,
        photographs: str,
        name: str,
        model: str,
        steps: int,
        batch: int,
        learning_rate: float,
        seed: int,
        preset: str,
    ) -> io.NodeOutput:
        require("Train Generator", "training")
        # Imported here because accelerate and diffusers take seconds to import.
        from ..training import generator
        from ..training.faces_folder import pictures_in

        flags, published_steps, published_batch = generator.MODELS[model]
        if preset == PUBLISHED:
            steps, batch, learning_rate = published_steps, published_batch, 1e-4
        target = stored_path(models_folder() / FOLDER, name, "trained model")
        source = opened_folder(photographs)
        files = pictures_in(source, "Train Generator")
        usual = generator.Config(flags)
        chosen: dict[str, Any] = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": seed}
        config = replace(usual, schedule=replace(usual.schedule, **chosen, save_every=SAVE_EVERY, workers=0))

        def make(unfinished: Path) -> Path:
            where, update = place("training", torch.bfloat16), progress(steps)
            return generator.train_generator(unfinished, config, files, where, update)

        train_named("Train Generator", target, {"photographs": str(source), **asdict(config)}, make)
        return io.NodeOutput(
            f"{target.name}, {steps} steps on {len(files)} pictures. Choose it in Restoration by Generation."
        )

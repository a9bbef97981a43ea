"""Trains Face2Scene at its published size: its second stage."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..lib.bridge import io, models_folder, place, progress, weight_folders
from ..lib.extras import require
from ..lib.storage.names import stored_path
from ..models.face2scene.network import FOLDER
from ..models.shared.weight_files import checkpoint_and
from . import sockets
from .named_training import SAVE_EVERY, opened_folder, report_output, train_named
from .stage_one import opened_dataset, reader_named


class TrainFace2Scene(sockets.FromCheckpoint):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_TrainFace2Scene",
            display_name="Train Face2Scene",
            category=sockets.SCENE,
            description="Trains SD-Turbo to restore scenes guided by what a restored face reveals (Face2Scene, stage "
            "II). The defaults are the paper's and are meant for a large graphics card. If training is stopped, run it again "
            "with the same settings to resume from the last checkpoint.",
            search_aliases=["face2scene", "train", "lora", "finetune"],
            inputs=[
                io.String.Input(
                    "photographs",
                    default="photographs",
                    tooltip="A folder inside the input folder, with undamaged photographs or a dataset built from "
                    "them. Without use if dataset is given.",
                ),
                sockets.sd_turbo(),
                io.String.Input("name", default="face2scene", tooltip="Name of the trained model, without folders."),
                io.Int.Input(
                    "steps", default=20000, min=1, max=1000000, tooltip="Training steps. Published value: 20000."
                ),
                io.Int.Input(
                    "batch",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="Pairs of crops per step. Each of the paper's graphics cards processes 4. A smaller batch "
                    "needs less memory.",
                ),
                io.Int.Input(
                    "crop",
                    default=512,
                    min=64,
                    max=1024,
                    step=64,
                    tooltip="Side length of the crops in pixels. Published value: 512.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.00002,
                    min=0.000001,
                    max=0.01,
                    step=0.000001,
                    tooltip="Published value: 0.00002. Use a higher rate with fewer steps.",
                ),
                sockets.seed("The same seed gives the same model on the same machine.", most=2**31 - 1),
                io.String.Input(
                    "dataset",
                    default="",
                    optional=True,
                    tooltip="Name of a dataset from Build Dataset, as published. It takes the place of photographs.",
                ),
                io.String.Input(
                    "fadex",
                    default="",
                    optional=True,
                    tooltip="Name of a FaDeX from Train FaDeX, at its published size, say. Empty: the small one that ships with the pack.",
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
        checkpoint: str,
        name: str,
        steps: int,
        batch: int,
        crop: int,
        learning_rate: float,
        seed: int,
        dataset: str = "",
        fadex: str = "",
    ) -> io.NodeOutput:
        require("Train Face2Scene", "training")
        # Imported here because accelerate and diffusers take seconds to import.
        from ..training import face2scene
        from ..training.dataset import MANIFEST

        target = stored_path(models_folder() / FOLDER, name, "trained model")
        source, prepared = opened_dataset(dataset) if dataset else opened_folder(photographs), bool(dataset)
        prepared = prepared or (source / MANIFEST).is_file()
        reader = reader_named(fadex)
        (turbo,) = checkpoint_and("Train Face2Scene", checkpoint, "sd-turbo")
        usual = face2scene.Config()
        chosen: dict[str, Any] = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": seed}
        schedule = replace(usual.schedule, **chosen, save_every=SAVE_EVERY, workers=0)
        config = replace(usual, data=replace(usual.data, crop=crop), schedule=schedule)
        settings = {"photographs": str(source), "checkpoint": turbo.name, **asdict(config)}
        if fadex:
            settings["fadex"] = fadex

        def make(folder: Path) -> Path:
            photos, built = (None, source) if prepared else (source, None)
            where, update = place("training", torch.bfloat16), progress(steps)
            folders = weight_folders("personal_restore")
            return face2scene.run_from_files(folder, config, turbo, photos, built, folders, where, update, reader)

        train_named("Train Face2Scene", target, settings, make)
        return io.NodeOutput(f"{target.name}, {steps} steps. Choose it in Face2Scene Restorer and in FaDeX.")

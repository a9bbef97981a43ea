"""Trains Face2Scene at its published size."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..lib.bridge import io, models_folder, place, progress, resolve_input, weight_folders
from ..lib.extras import require
from ..lib.storage.names import stored_path
from ..lib.storage.whole import exclusive, put
from ..models.face2scene.network import FOLDER
from ..models.shared.weight_files import checkpoint_and
from . import sockets

if TYPE_CHECKING:
    from ..training import face2scene

SAVE_EVERY = 100  # steps: at most this many are lost when training stops


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
                    "them with `python run.py dataset` in a copy of the repository.",
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
            ],
            outputs=[
                io.String.Output(
                    display_name="report", tooltip="The location of the trained model, and what it was trained on."
                )
            ],
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
    ) -> io.NodeOutput:
        require("Train Face2Scene", "training")
        # Imported here because accelerate and diffusers take seconds to import.
        from ..training import face2scene

        target = stored_path(models_folder() / FOLDER, name, "trained model")
        source = resolve_input(photographs)
        for path in source.rglob("*"):
            if path.is_symlink():
                resolve_input(path)
        (turbo,) = checkpoint_and("Train Face2Scene", checkpoint, "sd-turbo")
        usual = face2scene.Config()
        schedule = replace(
            usual.schedule,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
            save_every=SAVE_EVERY,
            workers=0,
        )
        config = replace(usual, data=replace(usual.data, crop=crop), schedule=schedule)
        busy = f"Train Face2Scene: another process is training {target.stem!r}. Wait for it, or choose another name."
        with exclusive(target, busy):
            _train(config, source, turbo, target)
        return io.NodeOutput(f"{target.name}, {steps} steps. Choose it in Face2Scene Restorer and in FaDeX.")


def _train(config: face2scene.Config, source: Path, turbo: Path, target: Path) -> None:
    """Trains or resumes, and puts the model into its place."""
    from ..lib.storage.resume import SETTINGS, settle_folder
    from ..training import face2scene
    from ..training.dataset import MANIFEST

    prepared, folder = (source / MANIFEST).is_file(), target.parent / "training" / target.stem
    if not ((folder / SETTINGS).is_file() and any(folder.rglob("state-*"))):
        shutil.rmtree(folder, ignore_errors=True)  # there is no checkpoint to resume from
    settings = {"photographs": str(source), "checkpoint": turbo.name, **asdict(config)}
    settle_folder(
        folder,
        settings,
        f"Train Face2Scene: the unfinished training {target.stem!r}",
        f"Restore the old settings, choose another name, or delete the folder training/{target.stem} next to your "
        "trained models.",
    )
    with torch.inference_mode(False), torch.enable_grad():  # ComfyUI executes under inference mode
        made = face2scene.run_from_files(
            folder,
            config,
            turbo,
            None if prepared else source,
            source if prepared else None,
            weight_folders("personal_restore"),
            place("training", torch.bfloat16),
            progress(config.schedule.steps),
        )
    put(made, target)
    shutil.rmtree(folder)  # the next training run with this name starts from scratch

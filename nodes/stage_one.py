"""What Face2Scene is trained on, and its first stage: the dataset of face pairs, and FaDeX on it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..lib.bridge import io, models_folder, place, progress, weight_folders
from ..lib.extras import require
from ..lib.storage.names import shown_folder, stored_path
from ..lib.vocabulary import UserError
from ..models.embedded import weights as embedded
from ..models.shared.weight_files import NONE
from . import sockets
from .dataset_tools import dataset_tools
from .named_training import SAVE_EVERY, opened_folder, report_output, train_named
from .presets import OWN, PUBLISHED

DATASETS, READERS = "datasets", "fadex"  # folders below models/personal_restore
OURS, EPOCHS = "ours", 200


def dataset_folder(name: str) -> Path:
    """Where the dataset of this name is, or will be. Raises UserError for an invalid name."""
    return stored_path(models_folder() / DATASETS, name, "dataset").with_suffix("")


def opened_dataset(name: str) -> Path:
    """A dataset by its name. Raises UserError with the known names."""
    parent = models_folder() / DATASETS
    known = sorted(path.parent.name for path in parent.glob("*/manifest.jsonl"))
    if name not in known:
        raise UserError(
            f"There is no dataset {name!r} in {shown_folder(parent)}. Known: {', '.join(known) or NONE}. Build one with Build Dataset."
        )
    return parent / name


def reader_named(name: str) -> Path:
    """The extractor of a FaDeX by its name; empty: the one that ships. Raises UserError with the known names."""
    if not name:
        return embedded.EXTRACTOR
    folders = [folder / READERS for folder in weight_folders("personal_restore")]
    known = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.safetensors"))}
    if name not in known:
        raise UserError(
            f"There is no trained FaDeX {name!r} in {shown_folder(folders[0])}. Known: {', '.join(known) or NONE}. Train one with Train "
            "FaDeX."
        )
    return known[name]


class BuildDataset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_BuildDataset",
            display_name="Build Dataset",
            category=sockets.SCENE,
            description="Builds what Face2Scene is trained on from good photographs: it leaves out those that fail the paper's filters, "
            "damages the others several times, and restores a face in each. If it is stopped, run it again to resume. The dataset "
            "contains faces and names; delete its folder to delete them.",
            search_aliases=["face2scene", "inscene", "training data", "degradation", "face pairs"],
            inputs=[
                io.String.Input(
                    "photographs",
                    default="photographs",
                    tooltip="A folder inside the input folder with undamaged photographs, in folders of any depth.",
                ),
                io.String.Input(
                    "name", default="faces", tooltip="Name of the dataset, in models/personal_restore/datasets."
                ),
                io.String.Input(
                    "albums",
                    default="",
                    optional=True,
                    tooltip="A folder inside the input folder with one subfolder of good pictures per person. Faces of these people are "
                    "restored with their album; all others fade into the true face, as published.",
                ),
                io.Combo.Input(
                    "faces",
                    options=["auto", "faceme", "embedded"],
                    default="auto",
                    optional=True,
                    tooltip="The restorer for faces with an album: FaceMe, as published, or those that ship with the pack. auto: FaceMe if "
                    "its files are there.",
                ),
                io.Int.Input(
                    "versions",
                    default=5,
                    min=1,
                    max=50,
                    optional=True,
                    tooltip="Damaged versions of each photograph. Published value: 5.",
                ),
                io.Int.Input(
                    "operators",
                    default=0,
                    min=0,
                    max=1000000,
                    optional=True,
                    tooltip="How many different degradations there are in all. FaDeX learns from photographs that share one: use about a "
                    "quarter of photographs x versions. 0: every version has one of its own, which is enough for Train Face2Scene.",
                ),
                io.Int.Input(
                    "short_side",
                    default=1000,
                    min=64,
                    max=10000,
                    optional=True,
                    advanced=True,
                    tooltip="Photographs with a shorter side, in pixels, are left out. Published value: 1000.",
                ),
                io.Int.Input(
                    "side",
                    default=1024,
                    min=64,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Side of the square around the face that is kept, in pixels. Published value: 1024.",
                ),
                io.Boolean.Input(
                    "quality",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Also filters by MUSIQ, CLIP-IQA and MANIQA, as published. Needs the package pyiqa, which downloads their "
                    "weights itself.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="dataset", tooltip="Its name, for Train FaDeX and Train Face2Scene."),
                io.String.Output(
                    display_name="report",
                    tooltip="How many photographs are in it, and how many each filter left out.",
                ),
            ],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls,
        photographs: str,
        name: str,
        albums: str = "",
        faces: str = "auto",
        versions: int = 5,
        operators: int = 0,
        short_side: int = 1000,
        side: int = 1024,
        quality: bool = False,
    ) -> io.NodeOutput:
        from ..training.dataset import Config, build_dataset
        from ..training.gates import Gates

        gates = Gates(short_side=short_side, side=side)
        tools, notes = dataset_tools(opened_folder(albums) if albums.strip() else None, faces, quality)
        config, source, update = Config(gates, versions, operators=operators), opened_folder(photographs), progress()
        called = "Build Dataset: photographs", "Build Dataset: the dataset"
        summary = build_dataset(source, dataset_folder(name), config, tools, update, called)
        return io.NodeOutput(name, "\n".join([*notes, json.dumps(summary, indent=2)]))


class TrainFaDeX(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_TrainFaDeX",
            display_name="Train FaDeX",
            category=sockets.SCENE,
            description="Trains what reads the damage off a pair of faces (Face2Scene, stage I), on a dataset from Build Dataset: pairs "
            "under the same degradation come together, all others apart. Train Face2Scene then uses it. If training is stopped, run it "
            "again with the same settings to resume.",
            search_aliases=["face2scene", "contrastive", "moco", "degradation extractor", "stage 1"],
            inputs=[
                io.String.Input("dataset", default="faces", tooltip="Name of a dataset that was built with operators."),
                io.String.Input("name", default="fadex", tooltip="Name of the trained FaDeX, without folders."),
                io.Combo.Input(
                    "recipe",
                    options=[PUBLISHED, OURS],
                    tooltip="published: the paper's loss (a sum over all positives), 256 channels, momentum encoder and queue, SGD. "
                    "ours: how the small one that ships was trained, which learns faster: it is also taught to read four numbers.",
                ),
                io.Int.Input("epochs", default=200, min=1, max=100000, tooltip="Published value: 200."),
                io.Int.Input(
                    "batch", default=20, min=2, max=1024, step=2, tooltip="Pairs per step. Published value: 20."
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.03,
                    min=0.000001,
                    max=1.0,
                    step=0.000001,
                    tooltip="Published value: 0.03. For ours: 0.001.",
                ),
                io.Int.Input(
                    "window",
                    default=64,
                    min=32,
                    max=384,
                    step=16,
                    tooltip="Side of the part of a face that is seen, in pixels. Smaller faces are left out.",
                ),
                sockets.seed("The same seed gives the same model on the same machine.", most=2**31 - 1),
                io.Combo.Input(
                    "preset",
                    options=[OWN, PUBLISHED, OURS],
                    default=OWN,
                    tooltip="own: the settings of this node. published: 200 epochs of 20 pairs at 0.03. ours: batches of 32 at 0.001. Both "
                    "choose the recipe, too.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="fadex", tooltip="Its name, for Train Face2Scene."),
                report_output(),
            ],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(
        cls,
        dataset: str,
        name: str,
        recipe: str,
        epochs: int,
        batch: int,
        learning_rate: float,
        window: int,
        seed: int,
        preset: str,
    ) -> io.NodeOutput:
        require("Train FaDeX", "training")
        from ..training import fadex_on_faces as stage  # imported here because accelerate takes seconds to import

        source, target = opened_dataset(dataset), stored_path(models_folder() / READERS, name, "trained FaDeX")
        usual = stage.OWN_RECIPE if OURS in (recipe, preset) else stage.Config()
        chosen: dict[str, Any] = {"seed": seed, "save_every": SAVE_EVERY, "workers": 0}
        if preset == OWN:
            chosen |= {"batch": batch, "learning_rate": learning_rate}
        elif preset == PUBLISHED:
            usual, epochs = stage.Config(), EPOCHS
        config = replace(usual, window=window, schedule=replace(usual.schedule, **chosen))
        config = stage.with_epochs(config, source, epochs)

        def make(folder: Path) -> Path:
            where, update = place("training", torch.bfloat16), progress(config.schedule.steps)
            return stage.train_fadex(folder, config, source, where, update)

        train_named("Train FaDeX", target, {"dataset": dataset, **asdict(config)}, make)
        steps = config.schedule.steps
        return io.NodeOutput(target.stem, f"{target.name}, {steps} steps. Enter its name in Train Face2Scene.")

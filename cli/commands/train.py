"""``run.py train``: the weights that ship, or Face2Scene."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...lib.extras import require
from ...lib.vocabulary import UserError
from . import train_album, train_old

FACE2SCENE, FADEX = "face2scene", "fadex-faces"  # the full-size model's stages, not of the embedded weights
TRAINING = ("blind", "reading", "fadex", "projector", "guided", "export", "samples", "bound", "tiny")


def add(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser("train", help="retrain the embedded weights, or train Face2Scene; see docs/training.md")
    train.add_argument("stage", choices=("all", *TRAINING, *train_album.STAGES, *train_old.STAGES, FADEX, FACE2SCENE))
    train.add_argument(
        "--out",
        type=Path,
        default=Path("runs/embedded"),
        help="folder for checkpoints and curves; training resumes from it",
    )
    train.add_argument("--config", type=Path, help="a JSON file that overrides the default sizes, data or steps")
    train.add_argument(
        "--photos", type=Path, help="undamaged photographs, for measuring the bound or training face2scene"
    )
    train.add_argument(
        "--dataset",
        type=Path,
        help="for fadex-faces and face2scene: a dataset built with `run.py dataset`; face2scene also learns from --photos",
    )
    train.add_argument(
        "--fadex",
        type=Path,
        help="for face2scene: fadex.safetensors from fadex-faces, instead of the small one that ships",
    )
    train.add_argument(
        "--base", type=Path, help="for face2scene: sd_turbo.safetensors, or a folder in diffusers format"
    )
    train.add_argument(
        "--tested",
        type=Path,
        help="for album-portraits and old-pictures: the JSON list of test pairs, whose people are left out",
    )
    train.add_argument("--scenes", type=Path, help="for old-pictures: larger photographs in the public domain")
    train.add_argument("--people", type=Path, help="for old-pictures: the made-up people that album-people has made")
    train.add_argument(
        "--shards", type=int, default=120, help="for album-samples, old-pictures and old-samples: how many files of 64"
    )
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    require(f"run.py train {options.stage}", "training")
    import torch

    from ...lib.bridge import place
    from ...models.embedded import weights as embedded
    from ...training import bound, procedural, stages

    if options.stage == FACE2SCENE:
        return _train_face2scene(options)
    if options.stage == FADEX:
        return _train_fadex(options)
    if options.stage in train_album.STAGES:
        return train_album.run_album_stage(options)
    if options.stage in train_old.STAGES:
        return train_old.run_old_stage(options)
    config = stages.read_config(options.config) if options.config else stages.Config()
    where = place("training", torch.bfloat16)
    match options.stage:
        case "samples":
            from PIL import Image

            options.out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(procedural.contact_sheet(range(12))).save(options.out / "samples.png")
            print(f"Sample training pictures: {options.out / 'samples.png'}")
        case "tiny":
            from ...training import tiny_diffusion

            tiny_diffusion.export_tiny_diffusion(
                tiny_diffusion.train_tiny_diffusion(options.out, config.data, where), config.data, embedded.FOLDER
            )
        case "bound":
            print(json.dumps(bound.train_bound(options.out, config, options.photos, 512, where), indent=2))
        case "export":
            stages.export_weights(options.out, config, embedded.FOLDER)
        case "all":
            for stage in stages.STAGES:
                stages.run_stage(stage, options.out, config, where)
            stages.export_weights(options.out, config, embedded.FOLDER)
        case stage:
            stages.run_stage(stage, options.out, config, where)
    return 0


def _train_face2scene(options: argparse.Namespace) -> int:
    import torch

    from ...lib.bridge import place, weight_folders
    from ...training import face2scene

    if options.base is None:
        raise UserError(
            "train face2scene: provide SD-Turbo with --base, as sd_turbo.safetensors or a folder in diffusers format."
        )
    config = face2scene.read_config(options.config) if options.config else face2scene.Config()
    folders = weight_folders("personal_restore")
    where = place("training", torch.bfloat16)
    read = {"reader": options.fadex} if options.fadex else {}
    made = face2scene.run_from_files(
        options.out, config, options.base, options.photos, options.dataset, folders, where, **read
    )
    print(f"-> {made}; put it into {folders[0] / 'face2scene'} under any name.")
    return 0


def _train_fadex(options: argparse.Namespace) -> int:
    import torch

    from ...lib.bridge import place
    from ...training import fadex_on_faces as stage

    if options.dataset is None:
        raise UserError("train fadex-faces: name a dataset with --dataset, built by `run.py dataset` with operators.")
    config = stage.read_config(options.config) if options.config else stage.Config()
    if not config.schedule.steps:
        config = stage.with_epochs(config, options.dataset, stage.EPOCHS)
    made = stage.train_fadex(options.out, config, options.dataset, place("training", torch.bfloat16))
    print(f"-> {made}; give it to train face2scene with --fadex.")
    return 0

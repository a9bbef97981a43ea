"""``run.py train old-...``: the pictures, samples and weights of the finder and the filler of old photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ...lib.vocabulary import UserError
from .train_album import tested_people

if TYPE_CHECKING:
    from ...training.old_photo.pictures import Sources

STAGES = ("old-pictures", "old-samples", "old-finder", "old-hard-samples", "old-filler", "old-colors")


def run_old_stage(options: argparse.Namespace) -> int:
    """One stage; each finds what the ones before it left in ``--out``."""
    import torch

    from ...lib.bridge import keep, place
    from ...models.old_photo import ready

    out: Path = options.out
    pictures, drawn = out / "pictures", out / "samples"
    match options.stage:
        case "old-pictures":
            from ...training.old_photo.pictures import write_pictures

            write_pictures(_sources(options), pictures, range(options.shards))
        case "old-samples":
            from ...training.old_photo.samples import write_samples

            write_samples(pictures, drawn, range(options.shards))
        case "old-finder":
            from ...training.old_photo.finder import train_finder

            finder, figures = train_finder(drawn, out / "finder", place("training", torch.bfloat16))
            ready.save_network(finder, figures, ready.FINDER)
        case "old-hard-samples":
            from ...training.old_photo.samples import write_hard_samples

            write_hard_samples(pictures, drawn, ready.finder(keep)())
        case "old-filler":
            from ...training.old_photo.filler import train_filler

            filler, figures = train_filler(drawn, out / "filler", place("training", torch.bfloat16))
            ready.save_network(filler, figures, ready.FILLER)
        case "old-colors":
            from ...models.old_photo.colors import WEIGHTS
            from ...training.old_photo.colors import train_colors

            print(train_colors(_portraits(options), WEIGHTS))
    return 0


def _portraits(options: argparse.Namespace) -> list[Path]:
    if options.photos is None:
        raise UserError("train old-colors: provide the folder of small portraits with --photos.")
    tested = tested_people(options)
    found = [path for path in sorted(options.photos.glob("*.jpg")) if path.stem not in tested]
    if not found:
        raise UserError(f"train old-colors: {options.photos} holds no .jpg pictures that may be used.")
    return found


def _sources(options: argparse.Namespace) -> Sources:
    from ...training.old_photo.pictures import Sources

    wanted = {"--people": options.people, "--photos": options.photos, "--scenes": options.scenes}
    lacking = [name for name, folder in wanted.items() if folder is None]
    if lacking:
        raise UserError(
            f"train old-pictures: {', '.join(lacking)} is missing. The made-up people of album-people come with --people, small "
            "portraits with --photos, and larger photographs with --scenes; docs/old_photographs.md says where they are from."
        )
    tested = tested_people(options)
    people, portraits, scenes = (
        [path for path in sorted(folder.glob("*.jpg")) if path.stem not in tested] for folder in wanted.values()
    )
    for (name, folder), found in zip(wanted.items(), (people, portraits, scenes), strict=True):
        if not found:
            raise UserError(f"train old-pictures: {name} {folder} holds no .jpg pictures that may be used.")
    return Sources(people, portraits, tuple(scenes))

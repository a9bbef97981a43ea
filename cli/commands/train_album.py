"""``run.py train album-...``: the people, samples and weights of the album restorer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...lib.vocabulary import UserError

STAGES = ("album-people", "album-portraits", "album-mesh", "album-samples", "album-likeness", "album-gate")


def run_album_stage(options: argparse.Namespace) -> int:
    """One stage; each finds what the ones before it left in ``--out``."""
    import torch

    from ...lib.bridge import place
    from ...training.album import made_up_people, portraits

    out: Path = options.out
    match options.stage:
        case "album-people":
            count = made_up_people.make_people(_source(options), out / "people", 1500, 0, _mesh)
            print(f"{count} people: {out / 'people'}")
        case "album-portraits":
            ids = portraits.prepare(_source(options), out / "portraits", tested_people(options))
            print(f"{len(ids)} portraits: {out / 'portraits'}")
        case "album-mesh":
            from ...training.album.face_mesh import train_face_mesh

            train_face_mesh(_source(options), out / "mesh", place("training", torch.bfloat16))
        case "album-samples":
            _make_samples(out, options.shards)
        case "album-likeness":
            from ...training.album import samples
            from ...training.album.likeness import train_likeness, views_of

            groups = samples.made_up(out / "people"), samples.portraits(out / "portraits")
            train_likeness([views_of(one) for one in groups], out / "likeness", place("training", torch.bfloat16))
        case "album-gate":
            from ...training.album.gate import train_gate
            from ...training.album.likeness import WEIGHTS, load_likeness

            likeness = load_likeness(out / "likeness" / WEIGHTS)
            train_gate(out / "samples", out / "gate", place("training", torch.bfloat16), likeness)
    return 0


def _source(options: argparse.Namespace) -> Path:
    if options.photos is None:
        raise UserError(
            f"train {options.stage}: provide the folder of source pictures with --photos; docs/training.md says where they are from."
        )
    return options.photos


def tested_people(options: argparse.Namespace) -> set[str]:
    """The ids of the people that serve the test across years and must not be trained on."""
    if options.tested is None:
        raise UserError(
            f"train {options.stage}: provide with --tested the JSON list of test pairs, whose people are left out; [] leaves out nobody."
        )
    return {pair["id"] for pair in json.loads(options.tested.read_text(encoding="utf-8"))}


def _mesh(picture):
    """uint8 ``[H, W, 3]`` RGB to the face mesh in its pixels, ``[468, 2]``."""
    from ...lib.faces.align import crop_face, moved
    from ...models.album.face_mesh import mesh_points
    from ...training.album import photographs

    found = photographs.clear_face(picture)
    if found is None:
        raise UserError("A picture of the London set shows no clear face. Download the set again.")
    crop, _, similarity = crop_face(photographs.to_tensor(picture), found.landmarks)
    return moved(mesh_points(crop[None])[0, :, :2].double().numpy(), similarity.inverse)


def _make_samples(out: Path, shards: int) -> None:
    from ...lib.bridge import keep
    from ...models.embedded import ready
    from ...training.album import samples

    tools = samples.Tools(ready.restorer(keep), ready.extractor(keep)())
    samples.make_samples(out / "people", out / "portraits", tools, out / "samples", shards)

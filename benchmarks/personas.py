"""Whether a persona carries an identity: ``python run.py bench personas --photos DIR``, with one sub-folder per person.

Of every person all photographs but the last one are learnt; that one is damaged and restored with the persona, without any, and
with the persona of the next person. The damage and the network are those of the embedded diffusion base: faces of 128x128.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..degradation.families import FAMILIES
from ..faces.embed import DLIB_NORM, by_name
from ..faces.library import load_library
from ..faces.pictures import to_pil
from ..metrics import psnr, ssim
from ..personas.make import make_persona
from ..personas.methods import METHODS, Material, Settings
from ..restorers import embedded
from ..restorers.diffusion import PersonalRestorer
from ..vocabulary import Conditions, Restorer, UserError

log = logging.getLogger(__name__)

FAMILY, BATCH = "codeformer", 4
Score = dict[str, float]


def keep(module):
    return lambda: module


def bench(photos: Path, methods: Sequence[str], steps: int, draws: int, target: Path) -> dict:
    """Everything; writes ``personas.json`` and ``personas.png`` into target and returns the figures.

    Raises UserError where there are not two people with two usable photographs each, and without dlib's network.
    """
    if unknown := set(methods) - METHODS.keys():
        raise UserError(f"There is no method {', '.join(sorted(unknown))}. Choose of {', '.join(METHODS)}.")
    identity = by_name("dlib")
    library = load_library(photos, identity)
    people = [person for person in library.people if len(person.references) > 1]
    if len(people) < 2:
        raise UserError(
            f"{photos}: two people with at least two usable photographs each are needed.\n" + "\n".join(library.notes)
        )
    base = embedded.diffusion(keep)
    side = base.native_size
    faces = {
        one.name: F.interpolate(torch.stack([r.crop for r in one.references]), (side, side), mode="bicubic", antialias=True)
        .clamp(0, 1)
        for one in people
    }  # fmt: skip
    damaged = {
        name: [FAMILIES[FAMILY](draw).apply(crops[-1:]) for draw in range(draws)] for name, crops in faces.items()
    }

    def measure(restorer: Restorer | None, name: str, references: tuple = ()) -> tuple[Score, torch.Tensor]:
        truth, scores = faces[name][-1:], []
        for draw, picture in enumerate(damaged[name]):
            out = picture
            if restorer is not None:
                out = restorer.restore(picture, Conditions(seed=draw, references=references))
            if draw == 0:
                first = out
            scores.append((psnr(out, truth), ssim(out, truth), distance(out, truth)))
        means = np.mean(scores, 0)
        return dict(zip(("psnr", "ssim", "distance"), map(float, means), strict=True)), first

    def distance(image: torch.Tensor, truth: torch.Tensor) -> float:
        sides = (F.interpolate(one, (512, 512), mode="bicubic").clamp(0, 1)[0] for one in (image, truth))
        return DLIB_NORM * float(np.linalg.norm(np.subtract(*map(identity.embed, sides))))

    names = list(faces)
    figures: dict = {
        "people": {name: len(crops) - 1 for name, crops in faces.items()},
        "steps": steps, "batch": BATCH, "damage": FAMILY, "draws": draws, "rows": {}, "minutes": {},
    }  # fmt: skip
    rows: dict[str, list[torch.Tensor]] = {"truth": [faces[name][-1:] for name in names]}

    def add(
        row: str, restorer_of: Callable[[str], Restorer | None], album_of: Callable[[str], str] = lambda n: n
    ) -> None:
        known = {one.name: one.references[:-1] for one in people}
        measured = {name: measure(restorer_of(name), name, known[album_of(name)]) for name in names}
        figures["rows"][row] = {name: score for name, (score, _) in measured.items()}
        rows[row] = [picture for _, picture in measured.values()]

    def neighbour(name: str) -> str:
        return names[(names.index(name) + 1) % len(names)]

    add("damaged", lambda name: None)
    add("one step", lambda name: embedded.restorer(keep))
    add("no persona", lambda name: base)
    for method in methods:
        settings, started, personas = (
            Settings(method, steps, BATCH, damage=FAMILY, prior_weight=0.0),
            time.monotonic(),
            {},
        )
        for name in names:
            personas[name] = make_persona(base.load(), base.base, Material(faces[name][:-1]), settings, name)
            log.info("%s of %s learnt", method, name)
        figures["minutes"][method] = (time.monotonic() - started) / 60 / len(names)
        add(f"{method}, own", lambda name, worn=personas: PersonalRestorer(base, worn[name]))
        add(f"{method}, other's", lambda name, worn=personas: PersonalRestorer(base, worn[neighbour(name)]), neighbour)
        _write(figures, rows, target)
    _write(figures, rows, target)
    return figures


def _write(figures: dict, rows: dict[str, list[torch.Tensor]], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    (target / "personas.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    to_pil(torch.cat([torch.cat(row, -1) for row in rows.values()], -2)[0]).save(target / "personas.png")


def table(figures: dict) -> str:
    """Means over the people, and for how many of them the own persona beats none and the other's."""
    lines = [f"{'':26}{'PSNR':>8}{'SSIM':>8}{'distance':>10}"]
    rows = figures["rows"]
    for row, people in rows.items():
        means = [np.mean([score[key] for score in people.values()]) for key in ("psnr", "ssim", "distance")]
        lines.append(f"{row:26}{means[0]:8.2f}{means[1]:8.3f}{means[2]:10.3f}")
    for method, minutes in figures["minutes"].items():
        own, other, none = rows[f"{method}, own"], rows[f"{method}, other's"], rows["no persona"]
        for key, sign in (("psnr", 1), ("ssim", 1), ("distance", -1)):
            better = [sum(sign * own[n][key] > sign * against[n][key] for n in own) for against in (none, other)]
            lines.append(
                f"{method}: by {key} the own persona beats none for {better[0]} and the other's for {better[1]} of {len(own)} people"
            )
        lines.append(f"{method}: {minutes:.1f} minutes per person")
    return "\n".join(lines)

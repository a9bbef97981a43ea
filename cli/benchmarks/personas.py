"""Whether a persona carries an identity: ``python run.py bench personas --photos DIR``, with one subfolder per person.

The persona of each person is trained on all photographs but the last. That one is damaged and restored with the
persona, without any, and with the persona of the next person. The network is the embedded diffusion base: faces of 128x128.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ...lib.degradation.families import FAMILIES
from ...lib.diffusion.base import fitted
from ...lib.faces.embed import DLIB_NORM, Embedder, by_name
from ...lib.faces.library import load_library
from ...lib.pictures.files import to_pil
from ...lib.pictures.metrics import psnr, ssim
from ...lib.vocabulary import Conditions, Person, Reference, Restorer, UserError
from ...models.embedded import ready as embedded
from ...models.personas.restorer import PersonalRestorer
from ...models.shared.diffusion_restorer import DiffusionRestorer
from ...training.personas.make import make_persona
from ...training.personas.methods import METHODS, Material, Settings

log = logging.getLogger(__name__)

FAMILY, BATCH = "codeformer", 4
Score = dict[str, float]


def keep_in_memory(module):
    return lambda: module


@dataclass(frozen=True, eq=False)
class Subject:
    """name: of the person; album: ``[N, 3, 512, 512]`` to learn from; truth: the photograph that is held back, in the base's size
    ``[1, 3, S, S]``; damaged: the same, one per draw; references: what an adapter looks at.
    """

    name: str
    album: torch.Tensor
    truth: torch.Tensor
    damaged: tuple[torch.Tensor, ...]
    references: tuple[Reference, ...]


class Measure:
    """Scores of a restorer, None for none, on a subject, means over the draws: PSNR in dB, SSIM, error and dlib distance."""

    def __init__(self, identity: Embedder):
        self.identity = identity

    def __call__(self, restorer: Restorer | None, subject: Subject, album_of: Subject | None = None) -> Score:
        return self.pictures(restorer, subject, album_of)[0]

    def pictures(
        self, restorer: Restorer | None, subject: Subject, album_of: Subject | None = None
    ) -> tuple[Score, torch.Tensor]:
        """The scores and the first picture. album_of: whose references, if not the subject's."""
        outs = [
            picture
            if restorer is None
            else restorer.restore(picture, Conditions(seed=draw, references=(album_of or subject).references))
            for draw, picture in enumerate(subject.damaged)
        ]
        truth = subject.truth
        scores = [
            (psnr(out, truth), ssim(out, truth), float((out - truth).square().mean().sqrt()), self.distance(out, truth))
            for out in outs
        ]
        return dict(zip(("psnr", "ssim", "rmse", "distance"), map(float, np.mean(scores, 0)), strict=True)), outs[0]

    def distance(self, image: torch.Tensor, truth: torch.Tensor) -> float:
        sides = (F.interpolate(one, (512, 512), mode="bicubic").clamp(0, 1)[0] for one in (image, truth))
        return DLIB_NORM * float(np.linalg.norm(np.subtract(*map(self.identity.embed, sides))))


def people_of(photos: Path, draws: int = 1) -> tuple[DiffusionRestorer, list[Subject], Measure]:
    """The base, everybody with at least two usable photographs, and what measures them.

    The damage is made on the aligned face of 512x512, as the papers make theirs, and brought to the size of the base with it: made
    there, it would leave no face to restore (17.0 dB and a dlib distance of .68, against 23.8 dB and .53).
    Raises UserError if there are not two such people, and without dlib's network.
    """
    identity = by_name("dlib")
    library = load_library(photos, identity)
    people = [person for person in library.people if len(person.references) > 1]
    if len(people) < 2:
        raise UserError(
            f"{photos}: at least two people with two usable photographs each are needed.\n" + "\n".join(library.notes)
        )
    base = embedded.diffusion(keep_in_memory)

    def subject(person: Person) -> Subject:
        crops = torch.stack([reference.crop for reference in person.references])
        truth, damaged = (
            fitted(base.load(), one)
            for one in (crops[-1:], torch.cat([FAMILIES[FAMILY](draw).apply(crops[-1:]) for draw in range(draws)]))
        )
        return Subject(person.name, crops[:-1], truth, damaged.split(1), person.references[:-1])

    return base, [subject(person) for person in people], Measure(identity)


def bench(photos: Path, methods: Sequence[str], steps: int, draws: int, target: Path) -> dict:
    """Everything; writes ``personas.json`` and ``personas.png`` into target and returns the figures.

    Raises UserError for an unknown method and as `people_of` does.
    """
    if unknown := set(methods) - METHODS.keys():
        raise UserError(f"There is no method {', '.join(sorted(unknown))}. Choose from {', '.join(METHODS)}.")
    base, people, measure = people_of(photos, draws)
    figures: dict = {
        "people": {one.name: len(one.album) for one in people},
        "steps": steps, "batch": BATCH, "damage": FAMILY, "draws": draws, "rows": {}, "minutes": {},
    }  # fmt: skip
    rows: dict[str, list[torch.Tensor]] = {"truth": [one.truth for one in people]}

    def add(
        row: str,
        restorer_of: Callable[[Subject], Restorer | None],
        album_of: Callable[[Subject], Subject] = lambda s: s,
    ) -> None:
        measured = {one.name: measure.pictures(restorer_of(one), one, album_of(one)) for one in people}
        figures["rows"][row] = {name: score for name, (score, _) in measured.items()}
        rows[row] = [picture for _, picture in measured.values()]

    def neighbour(subject: Subject) -> Subject:
        return people[(people.index(subject) + 1) % len(people)]

    add("damaged", lambda subject: None)
    add("one step", lambda subject: embedded.restorer(keep_in_memory))
    add("no persona", lambda subject: base)
    for method in methods:
        settings, started, personas = (
            Settings(method, steps, BATCH, damage=FAMILY, prior_weight=0.0),
            time.monotonic(),
            {},
        )
        for one in people:
            personas[one.name] = make_persona(base.load(), base.base, Material(one.album), settings, one.name)
            log.info("%s of %s trained", method, one.name)
        figures["minutes"][method] = (time.monotonic() - started) / 60 / len(people)
        add(f"{method}, own", lambda subject, worn=personas: PersonalRestorer(base, worn[subject.name]))
        add(
            f"{method}, other's",
            lambda subject, worn=personas: PersonalRestorer(base, worn[neighbour(subject).name]),
            neighbour,
        )
        _write(figures, rows, target)
    _write(figures, rows, target)
    return figures


def _write(figures: dict, rows: dict[str, list[torch.Tensor]], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    (target / "personas.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    to_pil(torch.cat([torch.cat(row, -1) for row in rows.values()], -2)[0]).save(target / "personas.png")


def table(figures: dict) -> str:
    """Means over the people, and for how many of them the own persona beats none and the other's."""
    lines = [f"damage: {figures['damage']} on faces of 512x512, restored in the size of the base"]
    lines += [f"{'':26}{'PSNR':>8}{'SSIM':>8}{'distance':>10}"]
    rows = figures["rows"]
    for row, people in rows.items():
        means = [np.mean([score[key] for score in people.values()]) for key in ("psnr", "ssim", "distance")]
        lines.append(f"{row:26}{means[0]:8.2f}{means[1]:8.3f}{means[2]:10.3f}")
    for method, minutes in figures["minutes"].items():
        own, other, none = rows[f"{method}, own"], rows[f"{method}, other's"], rows["no persona"]
        for key, sign in (("psnr", 1), ("ssim", 1), ("distance", -1)):
            better = [sum(sign * own[n][key] > sign * against[n][key] for n in own) for against in (none, other)]
            lines.append(
                f"{method}: by {key} the own persona beats none for {better[0]} and the other's for {better[1]} of "
                f"{len(own)} people"
            )
        lines.append(f"{method}: {minutes:.1f} minutes per person")
    return "\n".join(lines)

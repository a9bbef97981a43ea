"""The papers' main effects at small scale: ``python run.py bench personas --plots --photos DIR``, one subfolder per
person.

Four questions about the small base, each answered for every person with the last photograph held back, damaged and restored:
does the album keep much noise from leading away from the person (Restoration by Generation, figure 8); what does skip guidance
do to a generative album (its figure 9); what are the two pivots worth alone and together (Dual-Pivot Tuning, figure 4); what do
learned gates and L_Gen add to ViCo's block (PFStorer, table 2). Every figure is saved as soon as it is measured, so
that an interrupted run, or one whose time is up, can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...lib.pictures.metrics import psnr
from ...lib.storage.personas import load_persona, save_persona
from ...lib.storage.whole import write_whole
from ...lib.vocabulary import Conditions, Persona, UserError
from ...models.gen2res.generation import SkipGuidance, generative_album
from ...models.personas.restorer import PersonalRestorer
from ...models.shared.diffusion_restorer import DiffusionRestorer
from ...training.personas.make import make_persona
from ...training.personas.methods import Material, Settings
from .personas import FAMILY, Measure, Subject, people_of

log = logging.getLogger(__name__)

NOISE = (0, 50, 100, 200, 300, 400, 600)
EVERY = (0, 300, 100, 50, 20, 10)
ALBUM, STRIDES, PULL = 2, 60, 3.0  # of the generative album: pictures, strides, and how strong each push is
PIVOTS = {"none": None, "A": "textual_pivot", "B": "model_pivot", "A and B": "dual_pivot"}
GATES = {
    "none": None, "ViCo (gamma 1)": {"gate": 1.0, "generation_weight": 0.0}, "ViCo, L_Gen": {"gate": 1.0},
    "learnt gamma": {"generation_weight": 0.0}, "learnt gamma, L_Gen": {},
}  # fmt: skip

Values = dict[str, float]


@dataclass(frozen=True)
class Shape:
    """One plot. values: of one person, by setting, each a function that measures it when it is asked for."""

    title: str
    axis: str
    measures: tuple[str, ...]
    values: Callable[[Subject], Iterator[tuple[str, Callable[[], Values]]]]


def bench(photos: Path, steps: int, minutes: float, target: Path) -> dict:
    """Writes ``shapes.json`` and one picture per shape into target, and returns the figures. Person by person, so that a run of a
    few minutes shows all shapes for somebody; stops to measure after so many minutes. Raises UserError as `people_of` does.
    """
    base, people, measure = people_of(photos)
    end = time.monotonic() + 60 * minutes
    about = {
        "base": base.base,
        "steps": steps,
        "damage": FAMILY,
        "people": {one.name: len(one.album) for one in people},
    }
    file, figures = target / "shapes.json", {"about": about, "shapes": {}, "complete": False}
    if file.is_file() and (known := json.loads(file.read_text(encoding="utf-8"))).get("about") == about:
        figures = known
    shapes = shapes_of(base, measure, steps, target / "learnt")
    for subject in people:
        for name, shape in shapes.items():
            mine = figures["shapes"].setdefault(name, {}).setdefault(subject.name, {})
            for setting, value in shape.values(subject):
                if setting in mine:
                    continue
                if time.monotonic() > end:
                    log.info("Time is up. Run the same command again to continue.")
                    return _write(figures, shapes, target)
                mine[setting] = value()
                log.info("%s, %s, %s: %s", name, subject.name, setting, mine[setting])
                _write(figures, {}, target)
    figures["complete"] = True
    return _write(figures, shapes, target)


def _learnt(base: DiffusionRestorer, steps: int, folder: Path, subject: Subject, **changes) -> Persona:
    """The subject's persona under these changes of the settings, kept in the folder once it is trained."""
    settings = replace(Settings(steps=steps, batch=4, damage=FAMILY, prior_weight=0.0), **changes)
    name = hashlib.sha256(repr((base.base, subject.name, settings)).encode()).hexdigest()[:16]
    try:
        return load_persona(folder, name)
    except UserError:  # not learned yet
        album = Material(subject.album)
        persona = make_persona(base.load(), base.base, album, settings, subject.name, folder=folder / name)
        save_persona(persona, folder, name)
        return persona


def shapes_of(base: DiffusionRestorer, measure: Measure, steps: int, folder: Path) -> Mapping[str, Shape]:
    """The four of them. folder: where personas are kept, and a training that is stopped is taken up again."""
    free = replace(base, control=0.0)

    learnt = partial(_learnt, base, steps, folder)

    def against_noise(subject: Subject):
        for steps in NOISE:
            plain = replace(free, denoise=steps / 1000)
            yield f"base {steps}", lambda plain=plain: measure(plain, subject)
            yield (
                f"album {steps}",
                lambda plain=plain: measure(PersonalRestorer(plain, learnt(subject, method="album")), subject),
            )

    def against_guidance(subject: Subject):
        for every in EVERY:
            guidance = SkipGuidance(PULL, every) if every else None
            yield str(every), lambda guidance=guidance: sampled(subject, guidance)

    def sampled(subject: Subject, guidance: SkipGuidance | None) -> Values:
        # Guidance that never acts, because without guidance the paper's default would be used.
        maker = replace(free, steps=STRIDES, skip_guidance=guidance or SkipGuidance(every=0))
        pictures = generative_album(maker, subject.damaged[0], Conditions(), ALBUM)
        away = np.mean([psnr(one[None], subject.damaged[0]) for one in pictures])
        return {"psnr_to_input": float(away), "spread": float(pictures.std(0).mean())}

    def of_pivots(subject: Subject):
        for setting, method in PIVOTS.items():
            yield setting, lambda method=method: pivoted(subject, method)

    def pivoted(subject: Subject, method: str | None) -> Values:
        return measure(base if method is None else PersonalRestorer(base, learnt(subject, method=method)), subject)

    def of_gates(subject: Subject):
        for setting, changes in GATES.items():
            yield setting, lambda changes=changes: gated(subject, changes)

    def gated(subject: Subject, changes: dict | None) -> Values:
        if changes is None:
            return measure(base, subject)
        persona = learnt(subject, method="adapter", **changes)
        gates = [value.abs().mean() for name, value in persona.tensors.items() if name.endswith("gamma")]
        return measure(PersonalRestorer(base, persona), subject) | {"gamma": float(torch.stack(gates).mean())}

    return {
        "noise": Shape("Restoration by Generation: error against noise", "steps of noise K", ("rmse", "distance"), against_noise),
        "guidance": Shape(
            "Skip guidance: a push every n steps", "n (0 is never)", ("psnr_to_input", "spread"), against_guidance
        ),
        "pivots": Shape("Dual-Pivot Tuning: which pivot", "tuned", ("psnr", "distance"), of_pivots),
        "gates": Shape("PFStorer: gates and L_Gen", "adapter", ("psnr", "distance"), of_gates),
    }  # fmt: skip


def _write(figures: dict, shapes: Mapping[str, Shape], target: Path) -> dict:
    write_whole(target / "shapes.json", json.dumps(figures, indent=2) + "\n")
    for name, shape in shapes.items():
        if any(figures["shapes"].get(name, {}).values()):
            _plot(shape, figures["shapes"][name], target / f"shape_{name}.png")
    return figures


def _plot(shape: Shape, people: dict[str, dict[str, Values]], path: Path) -> None:
    """One panel per measure: every person thin, the mean thick. Settings of two words are two lines over the second word."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(shape.measures), figsize=(11, 4.2), layout="constrained")
    settings = list(dict.fromkeys(setting for values in people.values() for setting in values))
    lines = {line: dict(series) for line, series in _series(settings).items()}
    for panel, measure in zip(panels, shape.measures, strict=True):
        for number, (line, places) in enumerate(lines.items()):
            rows = np.array(
                [[values.get(one, {}).get(measure, np.nan) for one in places.values()] for values in people.values()]
            )
            across = range(len(places))
            for row in rows:
                panel.plot(across, row, color=f"C{number}", alpha=0.25, linewidth=1)
            whole = rows[~np.isnan(rows).any(1)]
            if len(whole):
                panel.plot(across, whole.mean(0), color=f"C{number}", marker="o", linewidth=2.5, label=line or "mean")
            panel.set_xticks(across, list(places), rotation=20 if max(map(len, places)) > 6 else 0)
        panel.set(xlabel=shape.axis, ylabel=LABELS[measure])
        panel.legend()
    figure.suptitle(f"{shape.title} ({len(people)} people)")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


LABELS = {
    "rmse": "error of the face, RMSE of 0..1", "distance": "dlib distance to the truth", "psnr": "PSNR of the face, dB",
    "psnr_to_input": "PSNR to the damaged face, dB", "spread": "spread of the album, 0..1",
}  # fmt: skip


def _series(settings: list[str]) -> dict[str, dict[str, str]]:
    """Line to place on the axis to setting: "album 200" is 200 on the line "album"; others are all on one line."""
    lines: dict[str, dict[str, str]] = {}
    for setting in settings:
        line, _, place = setting.rpartition(" ")
        if line and place.isdigit():
            lines.setdefault(line, {})[place] = setting
        else:
            lines.setdefault("", {})[setting] = setting
    return lines


def table(figures: dict) -> str:
    """Means over the people for whom a shape is complete."""
    about = figures["about"]
    lines = [f"damage: {about['damage']} on faces of 512x512, restored at 128x128; {about['steps']} steps a stage"]
    for name, people in figures["shapes"].items():
        most = max(map(len, people.values()), default=0)
        whole = [values for values in people.values() if len(values) == most and most]
        if not whole:
            continue
        lines.append(f"{name}, {len(whole)} people:")
        for setting in whole[0]:
            means = {key: np.mean([one[setting][key] for one in whole]) for key in whole[0][setting]}
            lines.append(f"  {setting:24}" + "".join(f"{key} {value:8.3f}  " for key, value in means.items()))
    if not figures["complete"]:
        lines.append("Not complete. Run the same command again to continue.")
    return "\n".join(lines)

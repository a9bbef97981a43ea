"""Trains the album gate on the samples of ``samples.py``, in the loop that all networks share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ...lib.vocabulary import Place, UserError
from ...models.album.fusion import taken_unasked
from ...models.album.gate import LEVELS, Candidates, Choice, Gate, band_passes
from ...models.album.ready import WEIGHTS, save_gate
from ...models.album.registration import Registered
from ...models.album.restorer import AlbumRestorer
from ..loop import Schedule, train_loop
from ..randomness import seeded
from .likeness import Likeness
from .samples import ALBUM, BYTES, NUMBERS, PICTURES, REFERENCES

SCHEDULE = Schedule(steps=5000, batch=8, learning_rate=6e-4, workers=0)
FURTHER = Schedule(steps=2200, batch=8, learning_rate=4e-4, workers=0, seed=1)
# Weights of the bands' errors, each relative to its mean size, and of the structural dissimilarity.
DETAIL, STRUCTURE = 0.05, 0.1
# Weight of the bands' strength: errors alone are smallest where detail is faint.
STRENGTH = 0.06
AROUND = 8  # pixels
# Weights of the likeness: of its features wherever there is a face, and of its vectors where the whole face is seen.
LOOKS, IDENTITY = 0.06, 0.2
# The share of the first training in the result.
CAREFUL = 0.7
# Outside the face the gate changes nothing; a little weight there keeps empty windows defined.
BACKGROUND = 0.02
HELD_BACK = 4  # shards that are never trained on


class Samples(Dataset):
    """The samples of all shards in a folder, in a fixed random order, half of them mirrored."""

    def __init__(self, shards: list[Path], length: int, seed: int):
        self.length, self.seed = length, seed
        arrays = [np.load(path) for path in shards]
        self.data = {name: np.concatenate([one[name] for one in arrays]) for name in (*BYTES, *NUMBERS)}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, index))
        number = rng.integers(len(self.data["survives"]))
        row = {name: values[number] for name, values in self.data.items()}
        order = rng.permutation(REFERENCES)
        row |= {name: row[name][order] for name in ALBUM}
        if rng.random() < 0.5:
            row |= {name: row[name][..., ::-1].copy() for name in BYTES}
            # Row 0 is frequency 0, the others follow in both directions from it.
            row["response"] = np.roll(row["response"][::-1], 1, 0)
        return row


def train_gate(
    samples: Path,
    work: Path,
    place: Place,
    likeness: Likeness,
    schedules: tuple[Schedule, Schedule] = (SCHEDULE, FURTHER),
    weights: Path = WEIGHTS,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Gate:
    """Trains or resumes in ``work`` and writes the weights. Raises UserError where there are too few samples.

    First by errors alone, then by the detail's strength and the likeness, too. The result is a mean of both (Wortsman et al. 2022):
    the first is careful with a wrong album and with what only one picture shows, the second is more like the person.
    """
    shards = sorted(samples.glob("shard_*.npz"))
    if len(shards) <= HELD_BACK:
        raise UserError(
            f"{samples} holds {len(shards)} shards of samples; the gate needs more than {HELD_BACK}. Make them first."
        )
    with seeded(schedules[0].seed):
        gate = Gate().to(memory_format=torch.channels_last)
    likeness = likeness.to(place.device)
    states = []
    for schedule, judge in zip(schedules, (None, likeness), strict=True):
        optimizer = torch.optim.AdamW(gate.parameters(), schedule.learning_rate, weight_decay=1e-4)

        def dataset(length: int, seed: int = schedule.seed) -> Dataset:
            return Samples(shards[HELD_BACK:], length, seed)

        folder = work / ("errors" if judge is None else "likeness")
        gate = train_loop(folder, gate, optimizer, dataset, partial(loss, judge), schedule, place, report)
        states.append({name: value.clone() for name, value in gate.state_dict().items()})
    gate.load_state_dict({name: states[1][name].lerp(value, CAREFUL) for name, value in states[0].items()})
    figures = gate_quality(gate.cpu().eval(), Samples(shards[:HELD_BACK], 128, 1))
    (work / "held_back.json").write_text(json.dumps(figures, indent=2))
    provenance = {"samples": len(shards), "schedules": [asdict(one) for one in schedules], "held_back": figures}
    save_gate(gate, provenance, weights)
    return gate


def unpacked(batch: dict[str, Tensor], count: int = REFERENCES) -> tuple[Tensor, Candidates]:
    """Truth ``[B, 3, S, S]`` and candidates with ``count`` album photographs each, from a batch of bytes."""
    values = {name: value.float() / 255 if name in BYTES else value.float() for name, value in batch.items()}
    values |= {name: values[name][:, :count] for name in PICTURES}
    values["agreement"] = values["agreement"] * 2 - 1
    return values["truth"], Candidates(**{field.name: values[field.name] for field in fields(Candidates)})


def as_used(gate: Callable[[Candidates], Choice], seen: Candidates, batch: dict[str, Tensor]) -> Tensor:
    """The faces ``[B, 3, S, S]`` as the album restorer makes them at its default ``trust``, see `taken_unasked`."""
    result = gate(seen, AlbumRestorer.trust).result.float()
    taken = []
    for number, face in enumerate(seen.face):
        likeness = batch["likeness"][number, : seen.album.shape[1]].tolist()
        each = seen.album[number], seen.confidence[number], seen.agreement[number], likeness
        found = [Registered(*one) for one in zip(*each, strict=True)]
        response = batch["response"][number].float()
        taken.append(taken_unasked(face, found, response, seen.parts[number], AlbumRestorer.trust))
    detailed, unasked = (torch.stack([one[place] for one in taken]) for place in (0, 2))
    return result.lerp(detailed, unasked).clamp(0, 1)


def loss(
    likeness: Likeness | None, gate: Callable[[Candidates], Choice], batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The terms of one batch, whose albums have one to three photographs. likeness: None weighs errors alone."""
    truth, seen = unpacked(batch, int(torch.randint(1, REFERENCES + 1, ())))
    result = as_used(gate, seen, batch)
    weight = seen.parts + BACKGROUND
    terms = {
        "pixels": (weight * ((result - truth).square() + 1e-6).sqrt()).sum() / weight.sum() / 3,
        "detail": band_errors(result, truth, weight),
        "structure": dissimilarity(result, truth, weight),
    }
    total = terms["pixels"] + DETAIL * terms["detail"] + STRUCTURE * terms["structure"]
    if likeness is not None:
        terms["strength"] = faintness(result, truth, seen.parts)
        terms["looks"], terms["identity"] = unlikeness(likeness, result, truth, seen.parts)
        total = total + STRENGTH * terms["strength"] + LOOKS * terms["looks"] + IDENTITY * terms["identity"]
    return {"loss": total, **{name: value.detach() for name, value in terms.items()}}


def unlikeness(likeness: Likeness, result: Tensor, truth: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """How differently the two look to ``likeness``: squared differences of the unit features of all its scales, averaged over
    the face, and 1 - cosine of the vectors of those crops that show the whole face."""
    looks = result.new_zeros(())
    with torch.no_grad():
        wanted = likeness.features(truth)
    for one, other in zip(likeness.features(result), wanted, strict=True):
        difference = (F.normalize(one.float(), dim=1) - F.normalize(other.float(), dim=1)).square().sum(1, keepdim=True)
        inside = F.interpolate(parts, difference.shape[-2:], mode="area")
        looks = looks + (inside * difference).sum() / inside.sum().clamp(min=1)
    border = torch.cat([parts[..., [0, -1], :].flatten(1), parts[..., [0, -1]].flatten(1)], 1)
    whole = border.amax(1) < 0.05
    if not whole.any():
        return looks, result.new_zeros(())
    with torch.no_grad():
        person = likeness(truth[whole])
    return looks, (1 - (likeness(result[whole]) * person).sum(1)).mean()


def band_errors(result: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of each band, relative to the truth's own mean size there, summed over the bands."""
    total = result.new_zeros(())
    for one, other in list(zip(band_passes(result), band_passes(truth), strict=True))[:LEVELS]:
        inside = F.interpolate(weight, one.shape[-2:], mode="area")
        over = {"dim": (1, 2, 3), "keepdim": True}
        size = (inside * other.abs()).sum(**over) / inside.sum(**over) / 3 + 0.004
        error = ((one - other).square() + 1e-7).sqrt() / size
        total = total + (inside * error).sum() / inside.sum() / 3
    return total


def faintness(result: Tensor, truth: Tensor, parts: Tensor) -> Tensor:
    """Mean difference of the local strength (root mean square over ``AROUND`` px) of each band, relative to the truth's own, summed
    over the bands: detail in the right amount, wherever it lies."""
    total = result.new_zeros(())
    for one, other in list(zip(band_passes(result), band_passes(truth), strict=True))[:LEVELS]:
        has, wanted = (
            (F.avg_pool2d(x.square().mean(1, keepdim=True), min(AROUND, x.shape[-1])) + 1e-6).sqrt()
            for x in (one, other)
        )
        inside = F.interpolate(parts, has.shape[-2:], mode="area")
        total = total + (inside * (has - wanted).abs()).sum() / ((inside * wanted).sum() + 1e-3)
    return total


def dissimilarity(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """1 - SSIM of the mean of the channels (Wang et al. 2004; an even window of 7 px), weighted."""
    a, b = (x.mean(1, keepdim=True) for x in (a, b))

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, 1, 3, count_include_pad=False)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    ssim = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return 1 - (weight * ssim).sum() / weight.sum()


@torch.no_grad()
def gate_quality(gate: Gate, samples: Samples, batch: int = 16) -> dict[str, list[float]]:
    """PSNR in dB and 1 - SSIM inside the face, of the scene restoration and of the gate as it is used."""
    rows = []
    for start in range(0, len(samples), batch):
        items = [samples[index] for index in range(start, min(start + batch, len(samples)))]
        stacked = {name: torch.from_numpy(np.stack([one[name] for one in items])) for name in items[0]}
        truth, seen = unpacked(stacked)
        pictures = (seen.face, as_used(gate, seen, stacked))
        inside = seen.parts.sum((1, 2, 3)).clamp(min=1) * 3
        errors = [((seen.parts * (picture - truth).square()).sum((1, 2, 3)) / inside + 1e-6) for picture in pictures]
        rows.append(
            [*(float(-10 * error.log10().mean()) for error in errors)]
            + [float(dissimilarity(picture, truth, seen.parts)) for picture in pictures]
        )
    scene, chosen, before, after = np.mean(rows, 0).round(4).tolist()
    return {"psnr": [scene, chosen], "dissimilarity": [before, after]}

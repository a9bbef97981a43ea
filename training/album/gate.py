"""Teaches the album's gate on samples of ``album_samples``: bfloat16 autocast, channels last, a time budget, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.album.gate import LEVELS, Candidates, Gate, bands

BYTES = ("truth", "photo", "face", "album", "confidence", "agreement", "parts")


@dataclass(frozen=True)
class Settings:
    """batch: samples a step; rate: of AdamW at the start, falling to a fiftieth along a cosine over ``steps``; detail: weight of
    the bands' errors, each in units of its own mean size; structure: weight of 1 - SSIM; wander: of the bounded move, so that it is
    used where it pays."""

    steps: int = 6000
    batch: int = 8
    rate: float = 6e-4
    detail: float = 0.5
    structure: float = 0.1
    wander: float = 0.0
    seed: int = 0


class Samples:
    """Shards in memory as bytes; new shards of the folder join when ``refresh`` is called."""

    def __init__(self, folder: Path, held_back: int = 4):
        self.folder, self.held_back, self._shards = folder, held_back, {}
        self.refresh()

    def refresh(self) -> int:
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._shards and not path.name.endswith(".part.npz"):
                with np.load(path) as data:
                    self._shards[path.name] = {name: data[name] for name in data.files}
        return len(self._shards)

    def draw(self, rng: np.random.Generator, count: int, held_back: bool = False) -> tuple[Tensor, Candidates]:
        """Truth ``[B, 3, S, S]`` and candidates, half of them mirrored, with one to three of the album's photographs."""
        names = list(self._shards)
        names = names[: self.held_back] if held_back else names[self.held_back :]
        references = int(rng.integers(1, 4))
        order = rng.permutation(3)[:references]
        rows = []
        for _ in range(count):
            shard = self._shards[names[rng.integers(len(names))]]
            row = {name: shard[name][rng.integers(len(shard["truth"]))] for name in ()}
            index = int(rng.integers(len(shard["truth"])))
            row = {name: shard[name][index] for name in (*BYTES, "survives")}
            for name in ("album", "confidence", "agreement"):
                row[name] = row[name][order]
            if rng.random() < 0.5:
                row = {name: value if name == "survives" else value[..., ::-1] for name, value in row.items()}
            rows.append(row)
        whole = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        whole = {name: value.float() / 255 if name in BYTES else value.float() for name, value in whole.items()}
        whole["agreement"] = whole["agreement"] * 2 - 1
        return whole.pop("truth"), Candidates(**whole)


def loss_of(result: Tensor, truth: Tensor, parts: Tensor, settings: Settings) -> Tensor:
    """Charbonnier on the picture, on its bands, and structural dissimilarity, all inside the face's parts."""
    weight = parts + 0.02
    total = (weight * ((result - truth).square() + 1e-6).sqrt()).sum() / weight.sum() / 3
    for level, (one, other) in enumerate(zip(bands(result), bands(truth), strict=True)):
        if level == LEVELS:
            break
        inside = F.interpolate(weight, one.shape[-2:], mode="area")
        size = (inside * other.abs()).sum((1, 2, 3), keepdim=True) / inside.sum((1, 2, 3), keepdim=True) / 3 + 0.004
        error = ((one - other).square() + 1e-7).sqrt() / size
        total = total + settings.detail * 0.1 * (inside * error).sum() / inside.sum() / 3
    return total + settings.structure * dissimilarity(result, truth, weight)


def dissimilarity(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """1 - SSIM of the lumas (Wang et al. 2004; a window of 7 px), weighted."""
    a, b = (x.mean(1, keepdim=True) for x in (a, b))
    mean = lambda x: F.avg_pool2d(x, 7, 1, 3, count_include_pad=False)  # noqa: E731
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    ssim = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return 1 - (weight * ssim).sum() / weight.sum()


def train(
    folder: Path,
    out: Path,
    settings: Settings,
    minutes: float,
    start: Gate | None = None,
    say: Callable[[str], None] = print,
    extra_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Gate:
    """Trains until the steps or the minutes are over; a checkpoint every five minutes, from which the next call resumes."""
    torch.manual_seed(settings.seed)
    gate = (start or Gate()).to(memory_format=torch.channels_last)
    average = Gate()
    average.load_state_dict(gate.state_dict())
    optimizer = torch.optim.AdamW(gate.parameters(), settings.rate, weight_decay=1e-4)
    step, state = 0, out / "gate.ckpt"
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        gate.load_state_dict(kept["gate"])
        average.load_state_dict(kept["average"])
        optimizer.load_state_dict(kept["optimizer"])
        step = kept["step"]
    out.mkdir(parents=True, exist_ok=True)
    samples, began, saved = Samples(folder), time.monotonic(), time.monotonic()
    rng = np.random.default_rng((settings.seed, step))
    totals = []
    while step < settings.steps and time.monotonic() - began < minutes * 60:
        rate = (
            settings.rate
            * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / settings.steps)))
            * min(1, (step + 1) / 100)
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        truth, seen = samples.draw(rng, settings.batch)
        with torch.autocast("cpu", torch.bfloat16):
            choice = gate(seen)
        loss = loss_of(choice.result.float(), truth, seen.parts, settings)
        if extra_loss is not None:
            loss = loss + extra_loss(choice.result.float(), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gate.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(0.999, step / (step + 20))
            for a, b in zip(average.parameters(), gate.parameters(), strict=True):
                a.lerp_(b, 1 - decay)
        totals.append(float(loss.detach()))
        if step % 50 == 0:
            count = samples.refresh()
            say(f"{step} {np.mean(totals[-50:]):.4f} rate {rate:.2e} shards {count} {time.monotonic() - began:.0f} s")
        if time.monotonic() - saved > 300:
            _keep(state, gate, average, optimizer, step)
            saved = time.monotonic()
            say(f"{step} held back {held_back(average, samples)}")
    _keep(state, gate, average, optimizer, step)
    say(f"{step} held back {held_back(average, samples)}")
    return average


def _keep(path: Path, gate: Gate, average: Gate, optimizer: torch.optim.Optimizer, step: int) -> None:
    part = path.with_suffix(".part")
    torch.save(
        {"gate": gate.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
        part,
    )
    part.replace(path)


@torch.no_grad()
def held_back(gate: Gate, samples: Samples, batches: int = 8) -> str:
    """PSNR inside the parts, of the scene restoration and of the gate, on shards that are never trained on."""
    rng = np.random.default_rng(7)
    values = []
    for _ in range(batches):
        truth, seen = samples.draw(rng, 16, held_back=True)
        result = gate(seen).result
        value = lambda x: (
            -10
            * (
                (seen.parts * (x - truth).square()).sum((1, 2, 3)) / seen.parts.sum((1, 2, 3)).clamp(1) / 3 + 1e-6
            ).log10()
        )  # noqa: E731
        values.append(
            [
                float(value(seen.face).mean()),
                float(value(result).mean()),
                float(dissimilarity(seen.face, truth, seen.parts)),
                float(dissimilarity(result, truth, seen.parts)),
            ]
        )
    return "scene {:.2f} gate {:.2f} dB, dissimilarity {:.4f} {:.4f}".format(*np.mean(values, 0))

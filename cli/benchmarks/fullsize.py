"""Face2Scene at full size with random weights on the CPU: the benefit of fusing the adapters and batching the branches.

Every run is a process of its own, so that its peak memory is its own; the two ways take turns, so that a busy machine slows
both. Random weights show time, memory and that both ways give the same result, but nothing about quality.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from ...lib.vocabulary import Conditions, DegradationCode
from ...models.face2scene.network import ADAPTERS, Face2Scene, Face2SceneWeights, adapt, fill_adapters
from ...models.shared.sd_turbo import UNET, VAE, SDTurbo

log = logging.getLogger(__name__)

WAYS = "fused and batched", "per layer"
STAGES = "encode", "predict", "decode"
CFG = 1.1


def measure_full_size(side: int = 512, repeats: int = 3) -> dict[str, Any]:
    """Medians over ``repeats`` restorations of a side x side picture each way, and the largest difference of the pictures."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                runs[way].append(pool.apply(_run, (way, side, torch.get_num_threads())))
            log.info("%s", _line(way, runs[way][-1]))
    fast, slow = (runs[way] for way in WAYS)
    out: dict[str, Any] = {"side": side, "threads": torch.get_num_threads(), "repeats": repeats}
    for way, found in runs.items():
        out[way] = {name: round(median(run[name] for run in found), 2) for name in found[0] if name != "picture"}
    for name, what in (("times_as_fast", "seconds"), ("times_less_work", "cpu")):
        out[name] = round(median(b[what] / a[what] for a, b in zip(fast, slow, strict=True)), 3)
    out["largest_difference"] = float((fast[0]["picture"] - slow[0]["picture"]).abs().max())
    out["contrast"] = round(float(fast[0]["picture"].std()), 3)
    return out


def _run(way: str, side: int, threads: int) -> dict[str, Any]:
    """One restoration: seconds in all and by stage, peak memory in GB, the picture."""
    from ...models.shared.sd_turbo_restorer import SDTurboRestorer
    from .speed import _peak_memory

    torch.set_num_threads(threads)
    net = _network(way)
    draw = torch.Generator().manual_seed(1)
    text, tokens = torch.randn(2, 1, 77, 1024, generator=draw), torch.randn(1, 21, 1024, generator=draw)
    restorer = SDTurboRestorer(lambda: net, *text, cfg=CFG, color=None)
    conditions = Conditions(code=DegradationCode(tokens, tokens, net.token_space))
    picture = torch.rand(1, 3, side, side, generator=draw)
    spent = {stage: _timed(net.turbo, stage) for stage in STAGES}
    with torch.inference_mode():
        restorer.restore(picture[..., :64, :64], conditions)  # the first call of a kernel sets it up
        for times in spent.values():
            times.clear()
        start, work = time.perf_counter(), time.process_time()
        restored = restorer.restore(picture, conditions)
        seconds, work = time.perf_counter() - start, time.process_time() - work
    stages = {stage: sum(times) for stage, times in spent.items()}
    return {"seconds": seconds, "cpu": work, **stages, "peak_memory_gb": _peak_memory(), "picture": restored}


def _network(way: str) -> Face2Scene:
    """The published sizes around random weights, the same for both ways."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = adapt(_turbo(), ADAPTERS)
    # Adapters a tenth as strong as their layers.
    tensors = {name: torch.randn(one.shape) * (0.1 / one[0].numel() ** 0.5) for name, one in shapes.items()}
    weights = Face2SceneWeights({"adapters": ADAPTERS}, tensors, "random", {}, "random weights")
    return (Face2Scene if way == WAYS[0] else PerLayer)(_turbo(), weights)


def _turbo() -> SDTurbo:
    return SDTurbo(UNet2DConditionModel.from_config(UNET), AutoencoderKL.from_config(VAE)).eval()


class PerLayer(Face2Scene):
    """The plain way: every adapter beside its layer, one call of the UNet for each branch."""

    def __init__(self, turbo: SDTurbo, weights: Face2SceneWeights):
        nn.Module.__init__(self)
        self.turbo, self.token_space = turbo, weights.token_space
        fill_adapters(adapt(turbo, weights.config["adapters"]), weights)
        self.eval().requires_grad_(False)

    def predict(self, latent, tokens, positive, negative, cfg):
        away, towards = (super(PerLayer, self).predict(latent, tokens, one, one, 1) for one in (negative, positive))
        return away + cfg * (towards - away)


def _timed(owner: Any, name: str) -> list[float]:
    """Makes ``owner.name`` note the processor seconds that each of its calls takes in the list that is returned."""
    seconds: list[float] = []
    job = getattr(owner, name)

    def timed(*arguments):
        start = time.process_time()
        out = job(*arguments)
        seconds.append(time.process_time() - start)
        return out

    setattr(owner, name, timed)
    return seconds


def table(figures: dict[str, Any]) -> str:
    """The figures in lines."""
    lines = [f"{figures['side']} x {figures['side']} px, {figures['threads']} threads, median of {figures['repeats']}"]
    lines += [_line(way, figures[way]) for way in WAYS]
    lines.append(
        f"{figures['times_as_fast']:.2f} times as fast ({figures['times_less_work']:.2f} by processor time), "
        f"pictures within {figures['largest_difference']:.1e}"
    )
    return "\n".join(lines)


def _line(way: str, run: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {run[stage]:.1f} s" for stage in STAGES)
    return f"{way}: {run['seconds']:.1f} s, processor {run['cpu']:.1f} s ({stages}), peak memory {run['peak_memory_gb']:.2f} GB"

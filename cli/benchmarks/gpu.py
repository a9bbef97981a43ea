"""S3Diff at full size with random weights on a graphics card: ours in several ways beside the public code.

Random weights say nothing about quality; time, memory and whether two ways give the same picture do not depend on them. Every way
is measured in turn, the first run of each is left out, and what does not fit onto the card is noted. Runs on a CPU, too, in a small size.
"""

from __future__ import annotations

import gc
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ...lib.bridge import device
from ...lib.diffusion import lora
from ...lib.vocabulary import UserError
from ...models.s3diff.de_net import DegradationEstimator
from ...models.s3diff.network import ADAPTERS, BLOCKS, FREQUENCIES, RANKS, TARGETS, BlockModulation, S3Diff, read_s3diff
from ...models.shared.precision import storable
from ...models.shared.sd_turbo import UNET, VAE, SDTurbo
from .gpu_public import Restore, public_s3diff

log = logging.getLogger(__name__)

MODIFIED = {
    "vae": r"^encoder\..*(conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_k|to_q|to_v|to_out\.0)$",
    "unet": [
        *("to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out"),
        *("proj_in", "proj_out", "ff.net.2", "ff.net.0.proj"),
    ],
}  # the layers and ranks of the published weights
RANK = {"vae": 16, "unet": 32}


@dataclass(frozen=True)
class Size:
    """Configurations of the networks, and the side of the picture."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    side: int


FULL = Size(UNET, VAE, 512)
TINY = Size(
    UNET | {"block_out_channels": (8, 8, 16, 16), "attention_head_dim": (1, 1, 2, 2), "cross_attention_dim": 12, "norm_num_groups": 4},
    VAE | {"block_out_channels": (8, 8, 8, 16), "norm_num_groups": 4},
    64,
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """dtype: in which the UNet computes; vae: and the VAE, None for the same; eight_bits: the UNet's weights are stored in float8, as
    ComfyUI's ``--fp8_e4m3fn-unet`` does; public: the public code instead of ours."""

    dtype: torch.dtype
    vae: torch.dtype | None = None
    channels_last: bool = False
    compiled: bool = False
    eight_bits: bool = False
    public: bool = False


WAYS = {
    "public code, float32": Way(torch.float32, public=True),
    "ours, float32": Way(torch.float32),
    "ours, float32, VAE in bfloat16": Way(torch.float32, vae=torch.bfloat16),
    "public code, bfloat16": Way(torch.bfloat16, public=True),
    "ours, bfloat16": Way(torch.bfloat16),
    "ours, bfloat16, weights in 8 bits": Way(torch.bfloat16, eight_bits=True),
    "ours, bfloat16, channels last": Way(torch.bfloat16, channels_last=True),
    "ours, bfloat16, channels last, compiled": Way(torch.bfloat16, channels_last=True, compiled=True),
}


def bench(
    public: Path | None,
    size: Size = FULL,
    batches: tuple[int, ...] = (1, 4),
    ways: Sequence[str] = tuple(WAYS),
    repeats: int = 3,
    minutes: float = 7.0,
) -> dict[str, Any]:
    """Figures of every way and batch size, which are logged as they come. public: a checkout of S3Diff's code, or None.

    ways: names of ``WAYS``; minutes: nothing new is started after so many. Raises UserError for a way that does not exist.
    """
    if unknown := set(ways) - set(WAYS):
        raise UserError(f"--ways: there is no {sorted(unknown)[0]!r}. Choose from: {'; '.join(WAYS)}.")
    end = time.monotonic() + 60 * minutes
    where, rows = device(), []
    figures: dict[str, Any] = {"device": _name(where), "torch": torch.__version__, "side": size.side, "rows": rows}
    first: dict[int, torch.Tensor] = {}
    with temporary_weights(size) as weights:
        for name, way in ((name, WAYS[name]) for name in ways):
            if way.public and public is None:
                continue
            restore, net = None, None
            for batch in batches:
                row: dict[str, Any] = {"way": name, "batch": batch}
                rows.append(row)
                if time.monotonic() > end:
                    row["left_out"] = f"after {minutes:g} minutes nothing new is started"
                    continue
                try:
                    if restore is None:
                        restore, net = _built(way, public, weights, size, where)
                    picture = _measure(restore, batch, size, where, repeats, row)
                    row["largest_difference"] = float((picture - first.setdefault(batch, picture)).abs().max())
                    if net is not None and batch == batches[0]:
                        row |= _round_trips(net, where)
                except UserError:
                    raise
                except Exception as error:  # of the card's memory or of the compiler, which raise anything
                    row["left_out"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                log.info("%s", _line(row))
            restore = net = None
            _emptied(where)
    return figures


@contextmanager
def temporary_weights(size: Size) -> Iterator[Path]:
    """s3diff.pkl and de_net.pth with random weights, in a folder that goes away."""
    with torch.device("meta"):
        base = _turbo(size)
    draw = torch.Generator().manual_seed(0)

    def random(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: torch.randn(one.shape, generator=draw) * (0.1 / max(one[0].numel(), 1) ** 0.5)
            for name, one in tensors.items()
        }

    made: dict[str, Any] = {"w": torch.randn(FREQUENCIES, generator=draw), "state_embeddings": {}}
    for side, network in (("vae", base.vae), ("unet", base.unet)):
        adapters = lora.attach(network, MODIFIED[side], RANK[side])
        made |= {RANKS[side]: RANK[side], TARGETS[side]: MODIFIED[side]}
        made[f"state_dict_{side}"] = random(lora.weights(adapters, ADAPTERS[side]))
        modulation = BlockModulation(RANK[side], BLOCKS[side])
        for part in ("de_mlp", "block_mlp", "fuse_mlp"):
            made[f"state_dict_{side}_{part}"] = random(modulation.get_submodule(part).state_dict())
        made["state_embeddings"][f"state_dict_{side}_block"] = random(modulation.blocks.state_dict())
    replaced = random(dict(base.unet.conv_in.state_dict()))
    made["state_dict_unet"] |= {f"conv_in.{name}": one for name, one in replaced.items()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(made, Path(folder) / "s3diff.pkl")
        torch.save(DegradationEstimator().state_dict(), Path(folder) / "de_net.pth")
        yield Path(folder) / "s3diff.pkl"


def _turbo(size: Size) -> SDTurbo:
    torch.manual_seed(0)
    return SDTurbo(UNet2DConditionModel.from_config(size.unet), AutoencoderKL.from_config(size.vae)).eval()


def _built(
    way: Way, public: Path | None, weights: Path, size: Size, where: torch.device
) -> tuple[Restore, torch.nn.Module | None]:
    """The function that restores pictures ``[B, 3, H, W]`` in -1..1 of degrees ``[B, 2]``; and ours as a network."""
    text = torch.randn(1, 77, size.unet["cross_attention_dim"], generator=torch.Generator().manual_seed(1)).to(where)
    turbo = _turbo(size)
    if way.public:
        assert public is not None
        restore = public_s3diff(public, turbo, weights, text, where)
        return _in_autocast(restore, way.dtype, where), None
    net = S3Diff(turbo, read_s3diff(weights))
    torch.nn.Module.to(net.turbo.unet, way.dtype)
    torch.nn.Module.to(net.turbo.vae, way.vae or way.dtype)
    net.to(where)
    if way.eight_bits:
        _store_in_eight_bits(net.turbo.unet)
    if way.channels_last:
        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
    if way.compiled:
        for part in (net.turbo.unet, net.turbo.vae.encoder, net.turbo.vae.decoder):
            part.compile()

    def restore(picture: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
        latent = net.encode(picture, degrees)
        noise = net.predict(latent, degrees, text, text, 1)
        return net.turbo.decode(net.turbo.clean(latent, noise))

    return restore, net


def _store_in_eight_bits(unet: torch.nn.Module) -> None:
    """The layers cast their weights when they compute, as ComfyUI's do."""
    for layer in storable(unet):
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
        layer.forward = partial(_cast_forward, layer)


def _cast_forward(layer: torch.nn.Linear | torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    weight = layer.weight.to(x.dtype)
    if isinstance(layer, torch.nn.Conv2d):
        return layer._conv_forward(x, weight, layer.bias)
    return torch.nn.functional.linear(x, weight, layer.bias)


def _in_autocast(restore: Restore, dtype: torch.dtype, where: torch.device) -> Restore:
    def run(picture: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
            return restore(picture, degrees).float()

    return run


def _measure(
    restore: Restore, batch: int, size: Size, where: torch.device, repeats: int, row: dict[str, Any]
) -> torch.Tensor:
    """Notes seconds per picture and the most memory of the card in ``row``; returns the pictures, on the CPU."""
    draw = torch.Generator().manual_seed(2)
    picture = (torch.rand(batch, 3, size.side, size.side, generator=draw) * 2 - 1).to(where)
    degrees = torch.rand(batch, 2, generator=draw).to(where)
    seconds = []
    clock = _clock(where)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = clock()
            done = restore(picture, degrees).cpu()
            seconds.append(clock() - start)
    row["first_s"] = round(seconds[0], 3)
    row["picture_s"] = round(statistics.median(seconds[1:]) / batch, 4)
    if where.type == "cuda":
        row["memory_gb"] = round(torch.cuda.max_memory_allocated(where) / 1e9, 2)
    return done


def _round_trips(net: torch.nn.Module, where: torch.device, times: int = 3) -> dict[str, float]:
    """Seconds off the card and back, as ComfyUI's ``/free`` and the next run ask for."""
    off, back = [], []
    for _ in range(times):
        for place, seconds in ((torch.device("cpu"), off), (where, back)):
            start = time.perf_counter()
            net.to(place)
            if where.type == "cuda":
                torch.cuda.synchronize(where)
            seconds.append(time.perf_counter() - start)
    return {"free_s": round(statistics.median(off), 3), "load_s": round(statistics.median(back), 3)}


def _clock(where: torch.device) -> Callable[[], float]:
    """Of a CPU its own time, which other programs do not lengthen."""
    return time.process_time if where.type == "cpu" else time.perf_counter


def _emptied(where: torch.device) -> None:
    gc.collect()
    if where.type == "cuda":
        torch.cuda.empty_cache()


def _name(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else f"{where}, processor time"


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        f"{figures['device']}, torch {figures['torch']}, {figures['side']} x {figures['side']} px",
        "",
        "| | batch | s/picture | first run, s | GB | off the card, s | back, s | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_line, figures["rows"])])


def _line(row: dict[str, Any]) -> str:
    names = "picture_s", "first_s", "memory_gb", "free_s", "load_s", "largest_difference"
    cells = [row["left_out"]] if "left_out" in row else [f"{row[one]:.3g}" if one in row else "" for one in names]
    return f"| {row['way']} | {row['batch']} | {' | '.join(cells)} |"

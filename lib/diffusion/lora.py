"""Low-rank adapters on linear and convolutional layers (Hu et al. 2021), with S3Diff's modulation by the degradation.

A plain adapter adds ``scale * up(down(x))`` to its layer and can be fused into the weights. A modulated one adds
``scale * up(M down(x))``, where the matrix M differs from picture to picture (S3Diff, Zhang et al. 2024, section 3.3),
so it keeps a path of its own. Tensors are named as peft names them: ``<layer>.lora_A.<adapter>.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.func import functional_call

ALPHA = 8  # peft's default, which the public training code leaves alone


class LoraLayer(nn.Module):
    """A Linear or Conv2d with an adapter of the given rank beside it; the adapter starts as zero.

    scale: ALPHA / rank. modulation: None for the plain adapter, else ``[B, rank, rank]``, for a batch of B; of 1, for all.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        self.base = base
        self.scale = ALPHA / rank
        self.modulation: torch.Tensor | None = None
        place = {"bias": False, "device": base.weight.device, "dtype": base.weight.dtype}
        if isinstance(base, nn.Conv2d):
            self.down = nn.Conv2d(base.in_channels, rank, base.kernel_size, base.stride, base.padding, **place)
            self.up = nn.Conv2d(rank, base.out_channels, 1, **place)
        else:
            self.down = nn.Linear(base.in_features, rank, **place)
            self.up = nn.Linear(rank, base.out_features, **place)
        nn.init.normal_(self.down.weight, std=1 / rank)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the base layer gives for ``[B, C, H, W]`` or ``[B, N, C]``, and the adapter's share."""
        if self._joins(x):
            return functional_call(self.base, {"weight": self._joined(x.dtype)}, (x,))
        low = self.down(x)
        if self.modulation is not None:
            modulation = self.modulation.to(low)
            if low.ndim == 4:
                low = (modulation.mT @ low.flatten(2)).unflatten(2, low.shape[2:])
            else:
                low = low @ modulation
        return torch.add(self.base(x), self.up(low), alpha=self.scale)

    def _joins(self, x: torch.Tensor) -> bool:
        """Whether it costs less to add the modulated adapter to the weights than to run it beside them: on a CPU, where one matrix is
        for all, and places are more than channels. On other devices the weights may be elsewhere, see `bridge.keep`."""
        if self.modulation is None or len(self.modulation) > 1 or x.device.type != "cpu":
            return False
        return x.numel() // self.base.weight.shape[1] > len(self.base.weight)

    def _joined(self, dtype: torch.dtype) -> torch.Tensor:
        """The base layer's weight with the modulated adapter in it."""
        down = self.modulation[0].float().mT @ self.down.weight.float().flatten(1)
        return adapted(self.base.weight.to(dtype), down, self.up.weight)

    def fused(self) -> nn.Linear | nn.Conv2d:
        """The base layer with the plain adapter in its weights, which are changed in place; summed in float32."""
        with torch.no_grad():
            self.base.weight.copy_(adapted(self.base.weight, self.down.weight, self.up.weight))
        return self.base


def adapted(weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """A layer's weight with a plain adapter in it, summed in float32. down: ``[rank, in, ...]``; up: ``[out, rank, ...]``."""
    share = (up.float().flatten(1) @ down.float().flatten(1)).view_as(weight)
    return (weight.float() + strength * ALPHA / len(down) * share).to(weight)


def target_layers(root: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """Names of the layers that peft would adapt: a regular expression for whole names, or a list of last parts."""
    if isinstance(targets, str):
        wanted = re.compile(targets).fullmatch
    else:
        ends = tuple(f".{target}" for target in targets)

        def wanted(name):
            return f".{name}".endswith(ends)

    return [name for name, layer in root.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d) and wanted(name)]


def attach(root: nn.Module, targets: str | Sequence[str], rank: int) -> dict[str, LoraLayer]:
    """Puts a fresh adapter on every target layer. Returns them by the layer's name."""
    adapters = {name: LoraLayer(root.get_submodule(name), rank) for name in target_layers(root, targets)}
    for name, adapter in adapters.items():
        _replace(root, name, adapter)
    return adapters


def weights(adapters: Mapping[str, LoraLayer], adapter: str) -> dict[str, nn.Parameter]:
    """The adapters' own tensors, under peft's names."""
    named = {}
    for name, layer in adapters.items():
        named[f"{name}.lora_A.{adapter}.weight"] = layer.down.weight
        named[f"{name}.lora_B.{adapter}.weight"] = layer.up.weight
    return named


def fuse_adapters(root: nn.Module) -> None:
    """Replaces every adapted layer by its fused base: same result, no cost. Modulation does not survive this."""
    for name, layer in list(root.named_modules()):
        if isinstance(layer, LoraLayer):
            _replace(root, name, layer.fused())


@contextmanager
def modulated(adapters: Mapping[str, LoraLayer], modulations: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Within it, every adapter works under its own matrix ``[B, rank, rank]``; afterwards none keeps it alive."""
    try:
        for name, layer in adapters.items():
            layer.modulation = modulations[name]
        yield
    finally:
        for layer in adapters.values():
            layer.modulation = None


def _replace(root: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, layer)

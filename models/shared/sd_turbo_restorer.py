"""S3Diff and Face2Scene as a PR_RESTORER: one step of SD-Turbo, tiled in the latent, followed by color correction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

from ...lib.pictures.color import color_fix
from ...lib.pictures.tiles import VARIANCE, as_memory_allows, memory_for, tiled
from ...lib.vocabulary import Conditions, DegradationCode
from .batches import one_by_one

if TYPE_CHECKING:  # importing diffusers takes seconds, which would delay the start of ComfyUI
    from .sd_turbo import SDTurbo

MULTIPLE = 64  # pixels: stride 8 of the VAE times stride 8 of the UNet


class Network(Protocol):
    """SD-Turbo that knows about the damage, each in its own way: S3Diff by two degrees, Face2Scene by tokens, if it has any."""

    turbo: SDTurbo

    def damage(self, picture: torch.Tensor, code: DegradationCode | None) -> torch.Tensor | None:
        """The conditioning of `encode` and `predict` for a picture ``[1, 3, H, W]`` in 0..1 and its code."""
        ...

    def encode(self, picture: torch.Tensor, damage: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor: ...

    def predict(
        self,
        latent: torch.Tensor,
        damage: torch.Tensor | None,
        positive: torch.Tensor,
        negative: torch.Tensor,
        cfg: float,
    ) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class SDTurboRestorer:
    """load() returns the network on its device; positive, negative: the embedded prompts ``[1, N, C]``.

    cfg: 1 runs only the positive branch; above 1, the result moves away from the negative one.
    scale: the picture is enlarged first, S3Diff's own setting is 4. color: ``wavelet``, ``adain``, or None to leave
    the colors as they come out. tile, overlap: in latent pixels, 8 px of the picture each. public_tiles: tile exactly
    as the public code does, with a window that is off its center, to reproduce its pictures; ours has no seams.
    """

    load: Callable[[], Network]
    positive: torch.Tensor
    negative: torch.Tensor
    cfg: float = 1.07
    scale: int = 1
    color: str | None = "wavelet"
    tile: int = 96
    overlap: int = 32
    public_tiles: bool = False
    name: str = "S3Diff"
    native_size: int | None = None
    tileable: bool = False
    needs_references: bool = False

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """``[B, 3, H, W]`` in 0..1 to ``[B, 3, H * scale, W * scale]`` in 0..1, one picture after the other.

        Raises UserError for a degradation code of another token space than the network's, and NotEnoughMemory.
        """
        return one_by_one(partial(self._restore_one, self.load()), image, conditions)

    def noise_in(
        self,
        net: Network,
        latent: torch.Tensor,
        damage: torch.Tensor | None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> torch.Tensor:
        """The noise that the UNet sees in a latent ``[B, 4, h, w]``, tile by tile."""

        def apply(part):
            return net.predict(part.to(latent), damage, self.positive, self.negative, self.cfg)

        if self.public_tiles:
            return _publicly_tiled(apply, latent, self.tile, self.overlap, progress)

        def run(tile):
            return tiled(apply, latent, tile, self.overlap, progress=progress)

        return as_memory_allows(run, self.tile, self.overlap, stride=8).to(latent)

    def _restore_one(self, net: Network, picture: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        picture = picture.float().to(net.turbo.device)
        damage = net.damage(picture, conditions.code)
        if self.scale != 1:
            picture = F.interpolate(picture, scale_factor=self.scale, mode="bilinear")
        height, width = picture.shape[-2:]
        whole = _padded(picture)
        shape = 1, 4, whole.shape[-2] // 8, whole.shape[-1] // 8
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        draw = torch.randn(shape, generator=torch.Generator().manual_seed(conditions.seed))
        size = f"of a picture of {whole.shape[-1]}x{whole.shape[-2]}"
        with memory_for(f"the VAE's encoding {size}"):
            latent = net.encode(whole * 2 - 1, damage, draw)
        clean = net.turbo.clean(latent, self.noise_in(net, latent, damage, conditions.progress))
        with memory_for(f"the VAE's decoding {size}"):
            out = (net.turbo.decode(clean)[..., :height, :width] / 2 + 0.5).cpu()
        if self.color is not None:
            out = color_fix(out, picture.cpu(), self.color)
        return out.clamp(0, 1)


def _padded(picture: torch.Tensor) -> torch.Tensor:
    """Continued to the right and below up to the next multiple: mirrored, or repeated where the picture is too small."""
    height, width = picture.shape[-2:]
    below, right = -height % MULTIPLE, -width % MULTIPLE
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(picture, (0, right, 0, below), mode=mode)


def _publicly_tiled(
    apply: Callable[[torch.Tensor], torch.Tensor],
    latent: torch.Tensor,
    tile: int,
    overlap: int,
    progress: Callable[[int, int], None],
) -> torch.Tensor:
    """The tiling of S3Diff's code: square tiles, no border discarded, the window's middle half a pixel too low."""
    height, width = latent.shape[-2:]
    if height * width <= tile**2:
        out = apply(latent)
        progress(1, 1)
        return out
    tile = min(tile, height, width)
    step = max(tile - overlap, 1)
    rows, columns = ([*range(0, side - tile, step), side - tile] for side in (height, width))
    place = torch.arange(tile, dtype=torch.float64)  # in main memory, as not every device has float64
    down, across = (
        torch.exp(-((place - middle) / tile).square() / (2 * VARIANCE)) for middle in (tile / 2, (tile - 1) / 2)
    )
    weight = (down[:, None] * across).to(latent.device, torch.float32)
    out, weights = torch.zeros_like(latent), torch.zeros_like(latent)
    for index, (top, left) in enumerate((top, left) for top in rows for left in columns):
        inside = ..., slice(top, top + tile), slice(left, left + tile)
        out[inside] += apply(latent[inside]) * weight
        weights[inside] += weight
        progress(index + 1, len(rows) * len(columns))
    return out / weights

"""The learned gate: where, and in which frequencies, which picture of a face is believed.

It chooses among the damaged photograph, the scene restoration and the registered album photographs, band by band, and may
move the result by a bounded amount. It sees every album photograph by itself, and the mean of all of them, so that their
number and order do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 4
# What the network sees beside each album photograph: face and photograph (3 each), the album's picture (3), its
# confidence and agreement, the parts, and one number per band.
INPUTS = 3 + 3 + 3 + 1 + 1 + 1 + LEVELS
# Among them: what belongs to one album photograph, and what is the same for all.
EACH, COMMON = tuple(range(6, 11)), (*range(6), *range(11, INPUTS))
LARGEST_MOVE = 0.06
# Where ``trust`` shifts nothing; the default of ``trust`` lies above this, and so does what the gate is trained at.
NEUTRAL = 0.25
# Natural logarithms: how far a band of the album may be amplified or damped.
LARGEST_GAIN = 0.5


@dataclass(frozen=True)
class Candidates:
    """What a gate chooses from, ``[B, ...]`` each.

    face, photo: ``[B, 3, S, S]`` in 0..1, after the scene restoration and before; album: ``[B, K, 3, S, S]``;
    confidence: ``[B, K, 1, S, S]`` in 0..1; agreement: ``[B, K, 1, S, S]`` in -1..1, see ``Registered``; parts: ``[B, 1, S, S]``,
    where the album may speak; survives: ``[B, LEVELS]`` in 0..1, the share of each band that survived, finest first.
    """

    face: Tensor
    photo: Tensor
    album: Tensor
    confidence: Tensor
    agreement: Tensor
    parts: Tensor
    survives: Tensor

    def to(self, device: torch.device) -> Candidates:
        return Candidates(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Choice:
    """result: ``[B, 3, S, S]`` in 0..1; shares: ``[B, K, S, S]`` in 0..1, how much of the finest band came from each album photograph."""

    result: Tensor
    shares: Tensor


def band_passes(picture: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """``levels`` band-passes of ``[B, C, S, S]``, finest first, and the rest; their sum, enlarged, is the picture."""
    found = []
    for _ in range(levels):
        smaller = F.avg_pool2d(picture, 2)
        found.append(picture - _twice(smaller))
        picture = smaller
    return [*found, picture]


def joined_bands(parts: list[Tensor]) -> Tensor:
    """The inverse of `band_passes`."""
    *found, picture = parts
    for band in reversed(found):
        picture = band + _twice(picture)
    return picture


def _twice(picture: Tensor) -> Tensor:
    return F.interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)


class Block(nn.Module):
    """x + two convolutions, ``[B, C, h, w]`` to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        # In place: to get memory for another map of this size takes longer than to fill it.
        return self.second(F.silu(self.first(F.silu(x)), inplace=True)).add_(x)


class Shared(nn.Module):
    """Tells every album photograph the mean of all: ``[B * K, C, h, w]`` to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.own, self.mean = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor, count: int) -> Tensor:
        # Channels last, where they lie: a mean over another layout is slow.
        mean = x.permute(0, 2, 3, 1).unflatten(0, (-1, count)).mean(1).permute(0, 3, 1, 2)
        return added_to_each(self.own(x).add_(x), self.mean(mean))


def added_to_each(x: Tensor, told: Tensor) -> Tensor:
    """``[B * K, C, h, w]`` with ``[B, C, h, w]`` added to each of the K, in place."""
    x.unflatten(0, (len(told), -1)).add_(told[:, None])
    return x


class Gate(nn.Module):
    """A U-Net at half the resolution, over one album photograph at a time; widths: channels at each of its scales."""

    def __init__(self, widths: tuple[int, ...] = (48, 64, 96, 128), depth: int = 1):
        super().__init__()
        self.stem = nn.Conv2d(INPUTS * 4, widths[0], 3, padding=1)

        def chain(width: int) -> nn.ModuleList:
            return nn.ModuleList(Block(width) for _ in range(depth))

        self.down = nn.ModuleList(chain(width) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.share = nn.ModuleList(Shared(width) for width in widths)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(chain(width) for width in widths[:-1])
        # At each scale: the logit and the gain of the album photograph, and the logit of the damaged photograph.
        scales = [widths[0], *widths[: LEVELS - 1]]
        self.heads = nn.ModuleList(nn.Conv2d(width, 3, 3, padding=1) for width in scales)
        self.move = nn.Conv2d(widths[0], 12, 3, padding=1)
        for head in [*self.heads, self.move]:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        for head in self.heads:
            # Before training: a third of the album, nothing of the damaged photograph.
            head.bias.data = torch.tensor([-0.7, 0.0, -4.0])

    def forward(self, seen: Candidates, trust: float = NEUTRAL) -> Choice:
        """trust: 0 stays closest to the evidence, 1 is most like the album; at ``NEUTRAL`` as the network says."""
        count = seen.album.shape[1]
        features = self._features(seen, count)
        offset = 4 * (trust - NEUTRAL)
        face, photo, album = band_passes(seen.face), band_passes(seen.photo), band_passes(seen.album.flatten(0, 1))
        *heads, move = self._read(features)
        out, shares = [], None
        for level in range(LEVELS):
            head = heads[level]
            head = (_twice(head) if level == 0 else head).float().unflatten(0, (-1, count))
            gain = (LARGEST_GAIN * head[:, :, 1:2].tanh()).exp()
            logits = torch.cat(
                [head[:, :, 0] + offset, head[:, :, 2].mean(1, keepdim=True), torch.zeros_like(head[:, :1, 0])], 1
            )
            weights = logits.softmax(1)[:, :, None]
            chosen = (weights[:, :count] * gain * album[level].unflatten(0, (-1, count))).sum(1)
            out.append(chosen + weights[:, count] * photo[level] + weights[:, count + 1] * face[level])
            shares = weights[:, :count, 0] if level == 0 else shares
        fused = joined_bands([*out, face[-1]])
        moved = F.pixel_shuffle(move.float().unflatten(0, (-1, count)).mean(1), 2)
        # What the photograph still shows needs no move: it would only cost where the damage is light.
        largest = LARGEST_MOVE * (1 - seen.survives[:, 1, None, None, None])
        result = seen.face + seen.parts * (fused - seen.face + largest * moved.tanh())
        return Choice(result.clamp(0, 1), shares * seen.parts)

    def _read(self, features: list[Tensor]) -> list[Tensor]:
        """The heads of all levels, then the move. Those of the finest features are convolved together: each is narrow."""
        finest = [*self.heads[:2], self.move]
        weight, bias = (torch.cat([getattr(one, name) for one in finest]) for name in ("weight", "bias"))
        joined = F.conv2d(features[0], weight.to(memory_format=torch.channels_last), bias, padding=1)
        first, second, move = joined.split([one.out_channels for one in finest], 1)
        rest = [head(map) for head, map in zip(self.heads[2:], features[1:], strict=False)]
        return [first, second, *rest, move]

    def _stem(self, planes: Tensor, places: tuple[int, ...]) -> Tensor:
        """The share of some of the INPUTS, ``[B, C, S, S]``, in the first layer. places: theirs among the INPUTS."""
        weight = self.stem.weight.unflatten(1, (INPUTS, 4))[:, list(places)].flatten(1, 2)
        bias = self.stem.bias if places == COMMON else None
        inside = F.pixel_unshuffle(planes * 2 - 1, 2).to(weight, memory_format=torch.channels_last)
        return F.conv2d(inside, weight.to(memory_format=torch.channels_last), bias, padding=1)

    def _features(self, seen: Candidates, count: int) -> list[Tensor]:
        """Of each scale, finest (half the resolution) first, ``[B * K, C, h, w]``."""
        levels = seen.survives[:, :, None, None].expand(-1, -1, *seen.face.shape[-2:])
        common = torch.cat([seen.face, seen.photo, seen.parts, levels], 1)
        each = torch.cat([seen.album, seen.confidence, seen.agreement], 2).flatten(0, 1)
        # What is the same for all album photographs is convolved once.
        x = added_to_each(self._stem(each, EACH), self._stem(common, COMMON))
        kept = []
        for scale, blocks in enumerate(self.down):
            for block in blocks:
                x = block(x)
            x = self.share[scale](x, count)
            kept.append(x)
            if scale < len(self.shrink):
                x = self.shrink[scale](x)
        for scale in reversed(range(len(self.up))):
            x = kept[scale] + _twice(self.grow[scale](kept[scale + 1]))
            for block in self.up[scale]:
                x = block(x)
            kept[scale] = x
        return kept

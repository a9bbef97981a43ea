"""dlib's network for faces (dnn_face_recognition_ex.cpp: ResNet with 29 convolutions), computed by PyTorch.

The weights are read from dlib's own file. dlib's convolutions on the CPU take several times as long, and one picture at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Width and number of blocks of each level; the first block of every level but the first halves the picture.
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
# Of the colors; dlib's input_rgb_image.
MEAN = (122.782, 117.001, 104.298)
# In dlib's file a layer's name stands before its tensor, which has the format 2.
NAME, FORMAT, LARGEST = re.compile(rb"con_4|affine_|fc_2"), 2, 1 << 24


class Block(nn.Module):
    """Two convolutions added to the picture, which is averaged and continued with zeros where theirs is smaller or wider."""

    def __init__(self, inside: int, width: int, shrinks: bool):
        super().__init__()
        self.shrinks = shrinks
        self.first = nn.Conv2d(inside, width, 3, 2, 0) if shrinks else nn.Conv2d(inside, width, 3, 1, 1)
        self.second = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.second(self.first(x).relu_())
        skipped = F.avg_pool2d(x, 2, 2) if self.shrinks else x
        shape = [max(sides) for sides in zip(found.shape, skipped.shape, strict=True)]
        return _continued(found, shape).add(_continued(skipped, shape)).relu_()


class DlibNetwork(nn.Module):
    """``[B, 3, 150, 150]``, levels of 0..255, to ``[B, 128]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, LEVELS[0][0], 7, 2)
        blocks, inside = [], LEVELS[0][0]
        for number, (width, count) in enumerate(LEVELS):
            for place in range(count):
                blocks.append(Block(inside, width, number > 0 and place == 0))
                inside = width
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(inside, 128, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - x.new_tensor(MEAN).view(3, 1, 1)) / 256).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.stem(x).relu_(), 3, 2)
        return self.last(self.blocks(x).mean((2, 3)))


def load_dlib_network(path: Path) -> DlibNetwork:
    """From dlib_face_recognition_resnet_model_v1.dat. Raises ValueError for a file of anything else."""
    network = DlibNetwork()
    layers = list(_layers(path.read_bytes()))
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    names = ["con_4", "affine_"] * len(convolutions) + ["fc_2"]
    if [name for name, _ in layers] != names:
        raise ValueError("it does not hold the layers of dlib's network for faces")
    values = [torch.from_numpy(value) for _, value in layers]
    with torch.no_grad():
        for convolution, weights, affine in zip(convolutions, values[::2], values[1::2], strict=False):
            gain, shift = affine.view(2, -1)
            filters, bias = weights[: convolution.weight.numel()], weights[convolution.weight.numel() :]
            # What scales and shifts the convolution's result becomes a part of it.
            convolution.weight.copy_(filters.view_as(convolution.weight) * gain.view(-1, 1, 1, 1))
            assert convolution.bias is not None  # every one of them has one
            convolution.bias.copy_(bias * gain + shift)
        network.last.weight.copy_(values[-1].view(-1, 128).T)
    return network.eval().requires_grad_(False)


def _continued(x: Tensor, shape: list[int]) -> Tensor:
    """With zeros after the last channel, row and column."""
    more = [wanted - side for wanted, side in zip(shape[:0:-1], x.shape[:0:-1], strict=True)]
    return F.pad(x, [end for side in more for end in (0, side)]) if any(more) else x


def _layers(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Name and numbers of every layer that has any, in the order of computation."""
    end = 0
    while found := NAME.search(content, end):
        name, at = found[0].decode(), found.end()
        if name == "fc_2":
            for _ in range(2):  # outputs and inputs
                _, at = _integer(content, at)
        sides = []
        for _ in range(5):
            side, at = _integer(content, at)
            sides.append(side)
        size = int(np.prod(sides[1:], dtype=np.int64))
        if sides[0] != FORMAT or not 0 < size <= LARGEST or len(content) < at + 4 * size:
            raise ValueError(f"its layer {name} is damaged")
        yield name, np.frombuffer(content, "<f4", size, at).astype(np.float32)
        end = at + 4 * size


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """An integer, and where the next one begins: a byte with their number is before its bytes, the lowest first."""
    if at >= len(content):
        raise ValueError("it ends within a layer")
    end = at + 1 + (content[at] & 15)
    return int.from_bytes(content[at + 1 : end], "little"), end

"""MTCNN face detector: three small networks in a cascade, over an image pyramid.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (2016). PNet
proposes 12 px windows at every scale, RNet refuses most of them, ONet decides and places five landmarks. Thresholds,
pyramid factor and overlaps are the published ones. The weights are the three files that the facenet-pytorch wheel
carries; they are read by path, the package itself is never imported.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..storage.tensors import read_pickled

# Of the wheel's files, which may therefore be read by any version of torch.
SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
CELL, STRIDE = 12, 2
PYRAMID_FACTOR = 0.709
PROPOSE, REFINE, DECIDE = 0.6, 0.7, 0.7
LAYOUT = torch.channels_last  # in which pooling takes a fraction of the time
BATCH = 64  # crops at once, which stay in the cache with all that is computed of them
NESTING_BIAS = 0.025
# The five landmarks of a mirror image in the picture's left-right order.
MIRRORED = [1, 0, 2, 4, 3]


class PNet(nn.Module):
    """``[1, 3, H, W]`` to face probability ``[h, w]`` and box regression ``[4, h, w]``, one cell per 2 px."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x.contiguous(memory_format=LAYOUT))), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[0, 1], self.conv4_2(x)[0]


def _flatten(x: Tensor) -> Tensor:
    # The weights come from a framework that stores columns first.
    return x.permute(0, 3, 2, 1).flatten(1)


class RNet(nn.Module):
    """``[N, 3, 24, 24]`` to face probability ``[N]`` and box regression ``[N, 4]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x.contiguous(memory_format=LAYOUT))), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(_flatten(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class ONet(nn.Module):
    """``[N, 3, 48, 48]`` to probability ``[N]``, regression ``[N, 4]`` and landmarks ``[N, 10]`` (five x, five y)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x.contiguous(memory_format=LAYOUT))), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(_flatten(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


def weight_folder() -> Path | None:
    """Where the installed facenet-pytorch keeps its weights, found without importing it; None if it is absent."""
    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return folder if (folder / "onet.pt").is_file() else None


@lru_cache(maxsize=1)
def load_mtcnn(folder: Path) -> tuple[PNet, RNet, ONet]:
    """The three networks from ``pnet.pt``, ``rnet.pt`` and ``onet.pt``."""
    networks = PNet(), RNet(), ONet()
    for network in networks:
        name = type(network).__name__.lower()
        network.load_state_dict(read_pickled(folder / f"{name}.pt", known=SHA256[name]))
        network.requires_grad_(False).eval()
    return networks


@torch.no_grad()
def detect(
    photo: Tensor, networks: tuple[PNet, RNet, ONet], min_face: float, threshold: float, least: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[N, 4]``, landmarks ``[N, 5, 2]`` and scores ``[N]`` of the faces in ``[3, H, W]`` in 0..1.

    min_face: smallest face side to look for, pixels; it sets the sizes at which the picture is scanned. least: sizes for smaller
    faces are left out, and with them most of the time; larger faces come out as without.
    """
    pnet, rnet, onet = networks
    halvings = _halvings(photo.float().mul(255 / 128).sub_(127.5 / 128)[None])

    boxes = _propose(halvings, pnet, min_face, least)
    score, shift, _ = _judge(halvings, boxes, 24, rnet)
    boxes, score = _regress(boxes, shift)[score >= REFINE], score[score >= REFINE]
    boxes = _square(boxes[nms(boxes, score, 0.7)])

    score, shift, points = _judge(halvings, boxes, 48, onet)
    found = score >= min(DECIDE, threshold)
    boxes, score = _regress(boxes, shift)[found], score[found]
    boxes = boxes[suppress(boxes, score, 0.7)]

    score, landmarks = _confirm(halvings, boxes, onet)
    found = score >= threshold
    return boxes[found], landmarks[found], score[found]


def _confirm(halvings: list[Tensor], boxes: Tensor, onet: ONet) -> tuple[Tensor, Tensor]:
    """Final score ``[N]`` and landmarks ``[N, 5, 2]``: the mean of ONet's view of each box and of its mirror image.

    Not published. A face stays one in the mirror, most false alarms do not, and the mean landmarks are steadier.
    """
    square = _square(boxes)
    score, _, points = _judge(halvings, square, 48, onet)
    mirror_score, _, mirror_points = _judge(halvings, square, 48, onet, mirror=True)
    points, mirror_points = points.unflatten(1, (2, 5)), mirror_points.unflatten(1, (2, 5))[:, :, MIRRORED]
    points = torch.stack([points[:, 0] + 1 - mirror_points[:, 0], points[:, 1] + mirror_points[:, 1]], 2) / 2
    # Boxes count from the pixels' edges, landmarks from their centers.
    landmarks = square[:, None, :2] + (square[:, 2:] - square[:, :2])[:, None] * points - 0.5
    return (score + mirror_score) / 2, landmarks


def suppress(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Indices that survive, best first; a box goes that shares ``overlap`` of the *smaller* area with a better one.

    Of two nested boxes the larger has a small advantage: a face inside of a face is an ear or a collar.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    corner = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    end = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (end - corner).clamp(min=0).prod(2) / torch.minimum(area[:, None], area[None]).clamp(min=1e-6)
    rank = scores * area.pow(NESTING_BIAS)
    kept: list[int] = []
    for index in rank.argsort(descending=True, stable=True).tolist():
        if not kept or shared[index, kept].max() <= overlap:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def nms(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Indices that survive, best first; a box goes that shares more than ``overlap`` of the union with a better one."""
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = cv2.dnn.NMSBoxes(torch.cat([corner, sides], 1).double().tolist(), scores.tolist(), 0.0, overlap)
    return torch.as_tensor(kept, dtype=torch.long).flatten()


def _halvings(image: Tensor) -> list[Tensor]:
    """The picture and its halvings: every later resize starts from the nearest one, so large pictures stay cheap."""
    levels = [image]
    while min(levels[-1].shape[-2:]) >= 2 * CELL:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _propose(halvings: list[Tensor], pnet: PNet, min_face: float, least: float) -> Tensor:
    height, width = halvings[0].shape[-2:]
    scale = min(CELL / min_face, 1.0)
    while CELL / scale < least:
        scale *= PYRAMID_FACTOR
    boxes, scores = [torch.zeros(0, 4)], [torch.zeros(0)]
    while min(height, width) * scale >= CELL:
        level = min(int(math.log2(1 / scale)), len(halvings) - 1)
        size = round(height * scale), round(width * scale)
        probability, shift = pnet(F.interpolate(halvings[level], size=size, mode="area"))
        rows, columns = torch.nonzero(probability >= PROPOSE, as_tuple=True)
        corner = torch.stack([columns, rows], 1) * STRIDE
        cell = torch.cat([corner + 1, corner + CELL], 1) / scale
        score = probability[rows, columns]
        keep = nms(cell, score, 0.5)
        boxes.append(_regress(cell, shift[:, rows, columns].T)[keep])
        scores.append(score[keep])
        scale *= PYRAMID_FACTOR
    every, score = torch.cat(boxes), torch.cat(scores)
    return _square(every[nms(every, score, 0.7)])


def _judge(
    halvings: list[Tensor], boxes: Tensor, size: int, network: RNet | ONet, mirror: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, regression and landmarks of every box, each cut at ``size`` px from the halving just above that size."""
    score, shift, points = torch.zeros(len(boxes)), torch.zeros(len(boxes), 4), torch.zeros(len(boxes), 10)
    side = boxes[:, 2] - boxes[:, 0]
    levels = (side / size).clamp(min=1).log2().long().clamp(max=len(halvings) - 1)
    for level, image in enumerate(halvings):
        here = torch.nonzero(levels == level)[:, 0]
        for chosen in here.split(BATCH) if len(here) else ():
            crops = _cut(image, boxes[chosen] * 0.5**level, size)
            score[chosen], shift[chosen], *rest = network(crops.flip(3) if mirror else crops)
            if rest:
                points[chosen] = rest[0]
    return score, shift, points


def _cut(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """``[N, 3, size, size]``: each box of the picture ``[1, 3, H, W]``, every pixel the mean of four places in it.

    What torchvision's aligned ``roi_align`` computes: the border is continued for a pixel, beyond it is nothing.
    """
    steps = (torch.arange(2 * size) + 0.5) / (2 * size)
    # From the edge of the first pixel, [N, 1, 2 * size] and [N, 2 * size, 1].
    x, y = (torch.lerp(boxes[:, axis, None], boxes[:, axis + 2, None], steps).unsqueeze(1 + axis) for axis in (0, 1))
    height, width = image.shape[-2:]
    grid = torch.empty(len(boxes), 2 * size, 2 * size, 2)
    grid[..., 0], grid[..., 1] = x * (2 / width) - 1, y * (2 / height) - 1
    seen = F.grid_sample(image, grid.flatten(0, 1)[None], padding_mode="border", align_corners=False)[0]
    seen = seen.unflatten(1, (-1, 2 * size))
    for place, length in ((x, width), (y, height)):
        seen *= ((place >= -0.5) & (place <= length + 0.5)).float()
    return F.avg_pool2d(seen, 2).transpose(0, 1)


def _regress(boxes: Tensor, shift: Tensor) -> Tensor:
    return boxes + shift * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def _square(boxes: Tensor) -> Tensor:
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)

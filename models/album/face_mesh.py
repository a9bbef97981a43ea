"""The dense face mesh: 468 points in three dimensions on an aligned crop, also where hardly anything of the face is left.

The order of the points is MediaPipe's, whose model taught this network on undamaged pictures (training/album/face_mesh.py).
"Left" is the left of the picture.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...lib.faces.align import least_squares_similarity, template
from ...lib.vocabulary import UserError

WEIGHTS = Path(__file__).parents[1] / "embedded" / "face_mesh.safetensors"
POINTS = 468
SIDE = 128
# fmt: off
LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
LEFT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
RIGHT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 97, 98, 64, 48, 115, 220, 45, 275, 440, 344, 278, 294, 327, 326)
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
PARTS = {
    "left_eye": LEFT_EYE,
    "right_eye": RIGHT_EYE,
    "left_brow": LEFT_BROW,
    "right_brow": RIGHT_BROW,
    "lips_outer": LIPS_OUTER,
    "lips_inner": LIPS_INNER,
    "nose": NOSE,
    "face_oval": FACE_OVAL,
}
NOSE_TIP, MOUTH_CORNERS = 4, (61, 291)
# The points that the network looks for one by one; all others follow from them, and from what the whole face looks like.
ANCHORS = (
    *LEFT_EYE[::2],
    *RIGHT_EYE[::2],
    *LEFT_BROW[::2],
    *RIGHT_BROW[::2],
    *LIPS_OUTER[::2],
    *(LIPS_INNER[n] for n in (2, 5, 8, 12, 15, 18)),
    *(168, 195, 4, 2, 64, 294),
    *FACE_OVAL[::3],
    *(50, 280, 151),
)
WIDTHS, DEPTHS, COEFFICIENTS = (32, 64, 96, 96), (1, 2, 2, 1), 64
NARROW, HIDDEN, SEARCH = 64, 128, 48


class Block(nn.Module):
    """x + two convolutions. norm: batch statistics, in training only; ``FaceMesh.folded`` puts them into the weights."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.norm(self.first(x))))


class FaceMesh(nn.Module):
    """``[B, 3, 128, 128]`` in 0..1 to ``[B, 468, 3]``: the frame is -1..1 in x and y, and z is in the same unit.

    Going down, the face as a whole is understood (``head``); coming up again, each anchor is looked for on a map of 32 x 32,
    whose center of mass is where it is. Both give the coefficients of a linear model of faces: mean shape and principal
    components of the labels to begin with. mean: ``[468, 3]``, symmetric; mirror: ``[468]``, which point a point becomes in
    the mirror image.
    """

    def __init__(self, norm: bool = False):
        super().__init__()
        layers = [nn.PixelUnshuffle(4)]
        before = 48
        for number, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            layers.append(nn.Conv2d(before, width, 3, stride=2 if number else 1, padding=1))
            layers += [Block(width, norm) for _ in range(depth)]
            before = width
        self.trunk = nn.Sequential(*layers)
        cells = (SIDE // 4 // 2 ** (len(WIDTHS) - 1)) ** 2
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(before, NARROW, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(NARROW * cells, HIDDEN),
            nn.ReLU(),
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, SEARCH, 1) for width in WIDTHS)
        self.blend = nn.Conv2d(SEARCH, SEARCH, 3, padding=1)
        self.search = nn.Conv2d(SEARCH, len(ANCHORS), 1)
        self.direct = nn.Linear(2 * len(ANCHORS), COEFFICIENTS)
        self.judge = nn.Sequential(nn.Linear(HIDDEN + 3 * len(ANCHORS), HIDDEN), nn.ReLU())
        self.coefficients = nn.Linear(HIDDEN, COEFFICIENTS)
        self.shape = nn.Linear(COEFFICIENTS, POINTS * 3)
        self.register_buffer("mean", torch.zeros(POINTS, 3))
        self.register_buffer("mirror", torch.arange(POINTS))

    def forward(self, x: Tensor, detailed: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """detailed: the points, and where the maps alone see the anchors, ``[B, A, 2]``."""
        scales, x = [], x * 2 - 1
        for layer in self.trunk:
            if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
                scales.append(x)
            x = layer(x)
        y = self.lateral[-1](x)
        for number in (2, 1, 0):
            y = F.interpolate(y, scale_factor=2, mode="nearest") + self.lateral[number](scales[number])
            if number == 1:
                y = self.blend(F.relu(y))
        at, sure = center_of_mass(self.search(F.relu(y)))
        seen = torch.cat([at.flatten(1), sure], 1)
        found = self.direct(at.flatten(1)) + self.coefficients(self.judge(torch.cat([self.head(x), seen], 1)))
        points = self.shape(found).view(-1, POINTS, 3)
        return (points, at) if detailed else points

    def folded(self) -> FaceMesh:
        """The same network without batch statistics: they become part of the convolutions before them."""
        plain = FaceMesh()
        weights = {name: value for name, value in self.state_dict().items() if ".norm." not in name}
        plain.load_state_dict({name: value.clone() for name, value in weights.items()})
        for block, target in zip(self.trunk, plain.trunk, strict=True):
            if isinstance(block, Block) and isinstance(block.norm, nn.BatchNorm2d):
                gain = block.norm.weight / (block.norm.running_var + block.norm.eps).sqrt()
                target.first.weight.data = block.first.weight.data * gain.data[:, None, None, None]
                shifted = (block.first.bias - block.norm.running_mean) * gain + block.norm.bias
                target.first.bias.data = shifted.data
        return plain


def center_of_mass(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``[B, A, h, w]`` to ``[B, A, 2]`` in -1..1 and ``[B, A]`` in 0..1, how narrow the place is."""
    height, width = maps.shape[-2:]
    weight = maps.float().flatten(2).softmax(-1).view(maps.shape)
    x = torch.arange(width, device=maps.device) * (2 / width) + (1 / width - 1)
    y = torch.arange(height, device=maps.device) * (2 / height) + (1 / height - 1)
    at = torch.stack([(weight.sum(2) * x).sum(-1), (weight.sum(3) * y).sum(-1)], -1)
    return at, weight.flatten(2).square().sum(-1)


def save_face_mesh(network: FaceMesh, provenance: dict, path: Path = WEIGHTS) -> None:
    """Writes the folded network as float16 (the mean shape as float32) with its provenance."""
    tensors = {name: value.half().contiguous() for name, value in network.folded().state_dict().items()}
    tensors["mean"], tensors["mirror"] = network.mean.float().contiguous(), network.mirror.short()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"kind": "face_mesh", "provenance": json.dumps(provenance)})


@lru_cache(maxsize=2)
def load_face_mesh(path: Path = WEIGHTS) -> FaceMesh:
    """The shipped network, float32 on the CPU, in evaluation mode. Raises UserError with the path."""
    network = FaceMesh()
    try:
        with safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path.name}: not the face mesh of this pack ({error}). It belongs in {path.parent.name}/ of the pack; "
            "install the pack again if it is damaged."
        ) from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.no_grad()
def mesh_points(crops: Tensor, passes: int = 1, network: FaceMesh | None = None) -> Tensor:
    """``[B, 3, S, S]`` in 0..1, on the five-point template give or take a few pixels, to ``[B, 468, 3]``.

    x and y are pixels of the crop (the middle of the first one is 0), z is in the same unit, smaller is nearer.
    passes: every one after the first looks again, at the crop laid upright by the points of the one before. That helps where
    the crop is off by more than a detector errs (a tenth of its side, 15 degrees); on faces that can hardly be read it
    drifts. Each look is the mean of the crop's and of its mirror image's, so that the mesh of a mirrored crop is the
    mirrored mesh.
    """
    network = load_face_mesh() if network is None else network
    device = next(network.parameters()).device
    crops = crops.to(device, torch.float32)
    unit = torch.tensor([[1.0, 0, 0], [0, 1, 0]], device=device).expand(len(crops), 2, 3)
    # Such a view of the whole crop is the crop itself.
    whole = crops.shape[-1] % SIDE == 0
    points = _look(network, _reduced(crops) if whole else _view(crops, unit))
    for _ in range(passes - 1):
        found = torch.stack([_upright(face) for face in points.cpu().double()]).to(crops)
        seen = _look(network, _view(crops, found))
        flat = seen[..., :2] @ found[:, :, :2].mT + found[:, None, :, 2]
        scale = torch.linalg.det(found[:, :, :2]).sqrt()[:, None, None]
        points = torch.cat([flat, seen[..., 2:] * scale], -1)
    side = crops.shape[-1]
    return points * (side / 2) + torch.tensor([(side - 1) / 2, (side - 1) / 2, 0.0], device=device)


def five_of_mesh(points: np.ndarray) -> np.ndarray:
    """The mesh's ``[468, 2 or 3]`` reduced to the five of the template ``[5, 2]``: eyes, nose, corners of the mouth."""
    eyes = [points[list(eye)].mean(0) for eye in (LEFT_EYE, RIGHT_EYE)]
    return np.stack([*eyes, points[NOSE_TIP], *points[list(MOUTH_CORNERS)]])[:, :2]


def mesh_eye_distance(points: Tensor) -> Tensor:
    """``[..., 468, 3]`` to ``[...]``: between the middles of the eyes, in the picture's plane, in the points' unit."""
    left, right = (points[..., list(eye), :2].mean(-2) for eye in (LEFT_EYE, RIGHT_EYE))
    return (left - right).norm(dim=-1)


def mean_shape(size: int = 512) -> np.ndarray:
    """The mean face ``[468, 3]`` on the template of a ``size`` px crop, symmetric, frontal."""
    mean = load_face_mesh().mean.cpu().double().numpy()
    return mean * (size / 2) + [(size - 1) / 2, (size - 1) / 2, 0]


def mirror_index() -> np.ndarray:
    """``[468]``: point n of a face is point ``mirror_index()[n]`` of its mirror image."""
    return load_face_mesh().mirror.long().numpy()


@lru_cache(maxsize=1)
def mesh_triangles() -> np.ndarray:
    """int ``[T, 3]``: Delaunay triangulation of the mean shape, seen from the front."""
    from scipy.spatial import Delaunay  # takes a while to import

    return Delaunay(mean_shape()[:, :2]).simplices


def _look(network: FaceMesh, views: Tensor) -> Tensor:
    """``[B, 3, 128, 128]`` to ``[B, 468, 3]`` in the view's unit: the mean of both ways round."""
    straight, turned = network(torch.cat([views, views.flip(-1)])).chunk(2)
    turned = turned[:, network.mirror.long()] * turned.new_tensor([-1.0, 1, 1])
    return (straight + turned) / 2


def _view(crops: Tensor, matrices: Tensor) -> Tensor:
    """``[B, 3, 128, 128]``: what affine maps ``[B, 2, 3]`` from the view's unit to the crop's show, averaged where it shrinks."""
    side = max(SIDE, SIDE * round(crops.shape[-1] / SIDE))
    grid = F.affine_grid(matrices, [len(crops), 3, side, side], align_corners=False)
    return _reduced(F.grid_sample(crops, grid, "bilinear", padding_mode="border", align_corners=False))


def _reduced(views: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(views, SIDE).contiguous(memory_format=torch.channels_last)


def _upright(points: Tensor) -> Tensor:
    """``[2, 3]``: from the unit of an upright view to that in which the points ``[468, 3]`` are."""
    target = template(2) - 1
    # The published template leans a little; a mirrored face must be laid down as the face is.
    target = (target + target[[1, 0, 2, 4, 3]] * [-1, 1]) / 2
    return torch.from_numpy(least_squares_similarity(target, five_of_mesh(points.numpy())))

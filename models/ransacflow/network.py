"""RANSAC-Flow's networks (Shen et al. 2020, section 3): dense features, local correlation, flow and matchability.

Parameter names are those of the published checkpoint ``MegaDepth_Theta1_Eta001_Grad1_0.774.pth``, a dictionary of state
dicts, so that it loads as it is. The coarse stage's ResNet-50 is torchvision's, with its ImageNet weights or MoCo's.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...lib.faces.correlation import KERNEL, expected_offset, local_correlation
from ...lib.faces.detect import Folders, there
from ...lib.faces.fine_align import Networks
from ...lib.storage.tensors import Unreadable, read_pickled
from ...lib.vocabulary import UserError

STRIDE = 8
FLOW_FILE, COARSE_FILE = "MegaDepth_*.pth", "resnet50*.pth"
COARSE_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BlurPool(nn.Module):
    """Every second pixel of a picture low-passed with the binomial filter 1 2 1 (Zhang 2019), borders reflected."""

    def __init__(self, channels: int):
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", (row[:, None] * row).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])


class FeatureExtractor(nn.Module):
    """Pictures ``[B, 3, H, W]`` in 0..1 to features ``[B, 256, ceil((H - 1) / 8), ceil((W - 1) / 8)]``."""

    def __init__(self) -> None:
        from torchvision.models.resnet import BasicBlock  # takes a second to import

        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.Sequential(nn.MaxPool2d(2, stride=1), BlurPool(64))
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = _halved(64, 128)
        self.layer3 = _halved(128, 256)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(picture))))
        return self.layer3(self.layer2(self.layer1(x)))


def _halved(inside: int, outside: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    shortcut = nn.Sequential(BlurPool(inside), nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))
    return nn.Sequential(BasicBlock(inside, outside, 2, shortcut), BasicBlock(outside, outside))


def enlarge(maps: Tensor) -> Tensor:
    """Flow or matchability at the features' stride, eight times as large, corner on corner as published."""
    return F.interpolate(maps, scale_factor=STRIDE, mode="bilinear", align_corners=True)


class _Head(nn.Module):
    """Four 3x3 convolutions over the correlations ``[B, K * K, h, w]``."""

    def __init__(self, kernel: int, outputs: int):
        super().__init__()
        widths = (kernel * kernel, 512, 256, 128)
        for number, (inside, outside) in enumerate(zip(widths, widths[1:], strict=False), 1):
            self.add_module(f"conv{number}", nn.Conv2d(inside, outside, 3, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outside))
        self.conv4 = nn.Conv2d(widths[-1], outputs, 3, padding=1, bias=False)

    def scores(self, correlation: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(correlation)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.conv4(F.relu(self.bn3(self.conv3(x))))


class FlowHead(_Head):
    """Correlations to flow ``[B, 2, h, w]``: (x, y) toward the matching place of y, in units of the -1..1 grid."""

    def __init__(self, kernel: int = KERNEL):
        super().__init__(kernel, kernel * kernel)

    def forward(self, correlation: Tensor) -> Tensor:
        height, width = correlation.shape[-2:]
        return expected_offset(self.scores(correlation)) * (2 / correlation.new_tensor([width, height]))[:, None, None]


class MatchHead(_Head):
    """Correlations to matchability ``[B, 1, h, w]`` in 0..1."""

    def __init__(self, kernel: int = KERNEL):
        super().__init__(kernel, 1)

    def forward(self, correlation: Tensor) -> Tensor:
        return self.scores(correlation).sigmoid()


class RansacFlow(nn.Module):
    """The fine stage: two roughly aligned pictures ``[B, 3, H, W]`` in 0..1 to flow and matchability at stride 8.

    The flow ``[B, 2, h, w]``, in units of the -1..1 grid, leads from a place in ``target`` to its match in ``source``.
    """

    def __init__(self, kernel: int = KERNEL):
        super().__init__()
        self.kernel = kernel
        self.netFeatCoarse = FeatureExtractor()
        self.netFlowCoarse = FlowHead(kernel)
        self.netMatch = MatchHead(kernel)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        there, here = (F.normalize(self.netFeatCoarse(picture)) for picture in (source, target))
        correlation = local_correlation(here, there, self.kernel)
        return self.netFlowCoarse(correlation), self.netMatch(correlation)


class CoarseFeatures(nn.Module):
    """ResNet-50 up to its third stage: ``[B, 3, H, W]`` in 0..1 to ``[B, 1024, H / 16, W / 16]``, unit length."""

    def __init__(self) -> None:
        from torchvision.models.resnet import resnet50

        super().__init__()
        whole = resnet50()
        self.trunk = nn.Sequential(OrderedDict((name, getattr(whole, name)) for name in COARSE_LAYERS))

    def forward(self, picture: Tensor) -> Tensor:
        mean, std = (picture.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        return F.normalize(self.trunk((picture - mean) / std))


def load_flow(path: Path) -> RansacFlow:
    """The fine stage from the published checkpoint, for inference. Raises UserError for any other file."""
    parts = _read(path)
    try:
        network = RansacFlow(isqrt(parts["netFlowCoarse"]["conv1.weight"].shape[1]))
        network.load_state_dict({f"{part}.{key}": value for part in parts for key, value in parts[part].items()})
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _not_that(path, "RANSAC-Flow's fine stage", FLOW_FILE) from error
    return network.eval().requires_grad_(False)


def load_coarse(path: Path) -> CoarseFeatures:
    """ResNet-50 from torchvision's ImageNet file or MoCo's, for inference. Raises UserError for any other file."""
    weights = _read(path)
    try:
        weights = weights.get("model", weights)
        named = {key.removeprefix("module."): value for key, value in weights.items()}
        network = CoarseFeatures()
        network.trunk.load_state_dict({key: value for key, value in named.items() if key.startswith(COARSE_LAYERS)})
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _not_that(path, "a ResNet-50", COARSE_FILE) from error
    return network.eval().requires_grad_(False)


def _read(path: Path) -> dict:
    try:
        weights = read_pickled(path)
    except Unreadable as error:  # whose text names the whole path
        raise UserError(
            f"{path.name} is missing or is not a file of plain weights. Download it again from its publisher."
        ) from error
    return weights if isinstance(weights, dict) else {}


def _not_that(path: Path, what: str, pattern: str) -> UserError:
    return UserError(
        f"{path.name} does not contain the weights of {what}. Rename it, or replace it with the published {pattern}."
    )


def find_networks(folders: Folders) -> Networks | None:
    """RANSAC-Flow's networks if both of its published files are in the folders of models, otherwise None."""
    files = [
        next((path for folder in there(folders) for path in sorted(folder.rglob(pattern))), None)
        for pattern in (COARSE_FILE, FLOW_FILE)
    ]
    return None if None in files else _load(*files)


@lru_cache(maxsize=1)
def _load(coarse: Path, fine: Path) -> Networks:
    return Networks(load_coarse(coarse), load_flow(fine))

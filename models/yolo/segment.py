"""YOLOv8's instance segmentation, by the package ultralytics (AGPL-3.0), which only this module imports.

A published .pt is a pickle of a whole network. It is read with ``weights_only``, and of classes only torch's and
ultralytics' own layers are made; a file that refers to anything else is rejected, and nothing is downloaded or
installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import cv2
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ...lib.extras import command, require
from ...lib.storage.tensors import check_reader
from ...lib.vocabulary import UserError

SIDE, STRIDE = 640, 32
GREY = 114 / 255  # what the networks were trained to see beyond a picture's border
OVERLAP = 0.7
PERSON = 0


@contextmanager
def others_left_alone() -> Iterator[None]:
    """Importing ultralytics replaces functions of Pillow, OpenCV and torch for the whole process, and its ``Image.open`` installs
    packages for a picture it does not know. Afterwards they are what they were."""
    theirs = [(Image, "open"), (cv2, "imread"), (cv2, "imwrite"), (cv2, "imshow"), (torch, "save")]
    kept = [(module, name, getattr(module, name)) for module, name in theirs]
    try:
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


@lru_cache(maxsize=1)
def load_segmenter(path: Path) -> nn.Module:
    """The network of a published ``yolov8?-seg.pt``. Raises UserError if ultralytics is missing, broken or too old, and for a
    file that is no such network or asks for anything that is not part of one."""
    # ultralytics would install packages at run time.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    require("Segment People", "segmentation")
    check_reader(path)
    try:
        with others_left_alone():
            from ultralytics.nn.tasks import SegmentationModel, torch_safe_load
    except ImportError as error:
        raise UserError(
            "Segment People needs a version of ultralytics that reads weights without running code "
            f"({_said(error)}). Run: {command('segmentation')}"
        ) from error
    except Exception as error:  # of a broken installation: of its own, or of a library below it
        raise UserError(
            f"Segment People cannot use ultralytics: it is installed, but does not start ({_said(error)}). Install it "
            f"again: {command('segmentation')}"
        ) from error
    try:
        checkpoint, _ = torch_safe_load(str(path.resolve()), safe_only=True)
        network = checkpoint.get("ema") or checkpoint["model"]
    except Exception as error:  # the restricted reader raises whatever it stumbles over
        raise UserError(f"{path.name} is not a YOLOv8 segmentation model that can be read safely: {error}") from error
    if not isinstance(network, SegmentationModel):
        raise UserError(f"{path.name} contains another kind of model. Use one whose name ends in -seg.pt.")
    return network.float().eval()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


@torch.no_grad()
def segment_people(photo: Tensor, network: nn.Module, threshold: float) -> Tensor:
    """``[N, H, W]``, 1 where a person is, the most confident first, of ``[3, H, W]`` in 0..1 RGB."""
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import process_mask

    weight = next(network.parameters())
    picture, (top, left, height, width) = _letterbox(photo.to(weight))
    (predictions, protos), _ = network(picture)
    found = non_max_suppression(predictions, threshold, OVERLAP, classes=[PERSON], nc=len(network.names))[0]
    if not len(found):  # older versions of process_mask refuse it
        return torch.zeros(0, *photo.shape[-2:])
    masks = process_mask(protos[0], found[:, 6:], found[:, :4], picture.shape[-2:], upsample=True).float()
    masks = masks[:, top : top + height, left : left + width]
    return F.interpolate(masks[None], photo.shape[-2:], mode="bilinear")[0].cpu()


def _letterbox(photo: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """``[1, 3, h, w]`` with its longer side at most SIDE and both divisible by STRIDE, and where the photograph lies in it:
    top, left, height, width."""
    ratio = SIDE / max(photo.shape[-2:])
    height, width = (round(side * ratio) for side in photo.shape[-2:])
    small = F.interpolate(photo[None], (height, width), mode="bilinear", antialias=True)
    extra = -height % STRIDE, -width % STRIDE
    top, left = extra[0] // 2, extra[1] // 2
    return F.pad(small, (left, extra[1] - left, top, extra[0] - top), value=GREY), (top, left, height, width)

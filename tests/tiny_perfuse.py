"""What PerFuSe's supplement names, in its public architectures with random weights, in the published layouts of the files."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from personal_restore.models.ransacflow.network import CoarseFeatures, RansacFlow
from personal_restore.models.yolo import segment as yolo_segment


def write_public_files(own: Path, upscalers: Path, photo: torch.Tensor) -> list[Path]:
    """RANSAC-Flow and YOLOv8 in the folder of our models, an upscale model of 2x in that of upscalers.

    photo: ``[1, 3, H, W]``, which tells YOLO what a picture is like.
    """
    wide = F.interpolate(photo, (416, 640), mode="bilinear")[0]
    return [*write_aligner(own), write_segmenter(own, wide), write_upscaler(upscalers)]


def write_aligner(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    fine = RansacFlow()
    parts = {name: part.state_dict() for name, part in fine.named_children()}
    files = [folder / "MegaDepth_Theta1_Eta001_Grad1_0.774.pth", folder / "resnet50-0676ba61.pth"]
    for file, weights in zip(files, (parts, CoarseFeatures().trunk.state_dict()), strict=True):
        torch.save(weights, file)
    return files


def write_upscaler(folder: Path) -> Path:
    """Real-ESRGAN's small network, narrow."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2, act_type="prelu")
    path = folder / "RealESRGAN_x2plus.pth"
    torch.save({"params": network.state_dict()}, path)
    return path


def write_segmenter(folder: Path, photo: torch.Tensor) -> Path:
    """A yolov8n-seg that sees a person in one place of a hundred of a photo ``[3, 416, 640]``."""
    with yolo_segment.others_left_alone():
        from ultralytics.nn.tasks import SegmentationModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = SegmentationModel("yolov8n-seg.yaml", verbose=False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(photo[None])  # statistics with which a picture makes a difference
        head = network.eval().model[-1]
        for convolutions in (*head.cv3, *head.cv4):
            torch.nn.init.normal_(convolutions[-1].weight, std=0.1)
            torch.nn.init.zeros_(convolutions[-1].bias)
        logits = network(photo[None])[1]["scores"][0, 0]
        for convolutions in head.cv3:
            convolutions[-1].weight[1:], convolutions[-1].bias[1:] = 0.0, -20.0
            convolutions[-1].bias[0] = -logits.quantile(0.99)
    path = folder / "yolov8n-seg.pt"
    torch.save({"model": network, "ema": None, "train_args": {}, "date": "today"}, path)
    return path

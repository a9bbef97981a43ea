"""YOLOv8 segmentation: read without running anything, the same masks as ultralytics' own predictor."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
from personal_restore.models import yolo_segment
from personal_restore.nodes.masks import SegmentPeople
from personal_restore.vocabulary import UserError

needs_ultralytics = pytest.mark.skipif(
    importlib.util.find_spec("ultralytics") is None, reason="ultralytics is not installed"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A yolov8n-seg with random weights, biased towards people, in the published layout of a .pt."""
    pytest.importorskip("ultralytics")
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(0)
    network = SegmentationModel("yolov8n-seg.yaml", verbose=False)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    network.train()(torch.rand(2, 3, 128, 128))  # statistics with which a picture makes a difference
    for convolutions in network.model[-1].cv3:
        torch.nn.init.normal_(convolutions[-1].weight, std=0.1)
        convolutions[-1].bias.data[0] = 0.0
    for convolutions in network.model[-1].cv4:
        torch.nn.init.normal_(convolutions[-1].weight, std=0.1)
    network.names = {index: "person" if index == 0 else str(index) for index in range(80)}
    path = tmp_path_factory.mktemp("weights") / "yolov8n-seg.pt"
    torch.save({"model": network.eval().half(), "ema": None, "train_args": {}, "date": "today"}, path)
    return path


@needs_ultralytics
def test_the_masks_are_those_of_ultralytics_own_predictor(weights, astronaut, tmp_path, monkeypatch):
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    photo = astronaut[0, :, :320]  # 320 x 512: enlarged to 400 x 640, letterboxed to 416
    network = yolo_segment.load(weights)
    ours = yolo_segment.segment_people(photo, network, 0.6)
    picture = np.ascontiguousarray((photo.permute(1, 2, 0) * 255).round().byte().numpy()[..., ::-1])
    theirs = YOLO(weights)(picture, conf=0.6, iou=0.7, classes=[0], verbose=False, save=False)[0].masks.data
    assert len(ours) > 0 and abs(len(ours) - len(theirs)) <= 0.2 * len(theirs)
    assert ours.shape[1:] == photo.shape[1:] and set(ours.unique().tolist()) - {0.0, 1.0} != ours.unique().tolist()
    # Theirs are in the letterboxed frame; resized pictures differ by OpenCV's and torch's interpolation.
    theirs = torch.nn.functional.interpolate(theirs[None, :, 8:408].float(), photo.shape[1:], mode="bilinear")[0]
    union, common = (torch.stack([one.amax(0) > 0.5 for one in (ours, theirs)]).float().sum(0) >= n for n in (1, 2))
    assert common.sum() / union.sum() > 0.9


@needs_ultralytics
def test_a_pickle_that_wants_to_run_something_is_refused_and_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "yolov8n-seg.pt"
    torch.save({"model": Evil(), "ema": None}, path)
    with pytest.raises(UserError, match="cannot|safely"):
        yolo_segment.load(path)
    assert not (tmp_path / "ran").exists()


@needs_ultralytics
def test_another_kind_of_model_and_no_model_at_all_are_clear_errors(tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2), "ema": None}, tmp_path / "linear.pt")
    with pytest.raises(UserError, match="another kind"):
        yolo_segment.load(tmp_path / "linear.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UserError, match="text.pt"):
        yolo_segment.load(tmp_path / "text.pt")


def test_missing_weights_say_where_they_come_from_and_under_which_licence(tmp_path, monkeypatch, astronaut):
    monkeypatch.setattr("personal_restore.nodes.masks.weight_folders", lambda kind: [tmp_path])
    with pytest.raises(UserError, match="AGPL-3.0"):
        SegmentPeople.execute(astronaut.movedim(1, -1), "n", 0.25)


@needs_ultralytics
def test_the_node_gives_one_mask_per_person_and_an_empty_one_for_nobody(weights, astronaut, monkeypatch):
    monkeypatch.setattr("personal_restore.nodes.masks.weight_folders", lambda kind: [weights.parent])
    image = astronaut.movedim(1, -1)
    some, batch, none = (
        SegmentPeople.execute(picture, "n", threshold).args[0]
        for picture, threshold in ((image, 0.6), (image.repeat(2, 1, 1, 1), 0.6), (image, 0.99))
    )
    assert len(some) > 1 and batch.shape == (2, 512, 512) and torch.equal(batch[0], some.amax(0))
    assert none.shape == (1, 512, 512) and not none.any()

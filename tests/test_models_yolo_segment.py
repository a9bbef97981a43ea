"""YOLOv8 segmentation: read without running anything, the same masks as ultralytics' own predictor."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.yolo import segment as yolo_segment
from personal_restore.nodes.masks import SegmentPeople
from personal_restore.tests import tiny_perfuse

needs_ultralytics = pytest.mark.skipif(
    importlib.util.find_spec("ultralytics") is None,
    reason="ultralytics is not installed; python run.py test installs it",
)


@pytest.fixture(scope="module")
def photo(astronaut) -> torch.Tensor:
    """``[3, 416, 640]`` in whole levels: the size that the networks look at, so that nobody has to resize it."""
    wide = torch.nn.functional.interpolate(astronaut[..., :333, :], (416, 640), mode="bilinear")[0]
    return (wide * 255).round() / 255


@pytest.fixture(scope="module")
def weights(tmp_path_factory, photo):
    pytest.importorskip("ultralytics")
    return tiny_perfuse.write_segmenter(tmp_path_factory.mktemp("weights"), photo)


@needs_ultralytics
def test_loading_a_network_changes_no_other_library(tmp_path):
    """In a process of its own: an import happens once."""
    script = (
        "import cv2, torch, run; from PIL import Image; kept = Image.open, cv2.imread, cv2.imwrite, torch.save\n"
        "run.load_package(); from pathlib import Path\n"
        "from personal_restore.models.yolo import segment as yolo_segment\n"
        f"try: yolo_segment.load_segmenter(Path({str(tmp_path / 'no.pt')!r}))\n"
        "except Exception as error: print(error)\n"
        "assert kept == (Image.open, cv2.imread, cv2.imwrite, torch.save)\n"
        "import sys; assert 'ultralytics.utils.patches' in sys.modules\n"
    )
    folder = Path(yolo_segment.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


@needs_ultralytics
def test_the_masks_are_those_of_ultralytics_own_predictor(weights, photo):
    from ultralytics.models.yolo.segment import SegmentationPredictor

    ours = yolo_segment.segment_people(photo, yolo_segment.load_segmenter(weights), 0.5)
    options = {"task": "segment", "model": str(weights), "conf": 0.5, "iou": 0.7, "classes": [0], "save": False}
    predictor = SegmentationPredictor(overrides=options | {"rect": True, "verbose": False})
    theirs = predictor(np.ascontiguousarray((photo.permute(1, 2, 0) * 255).byte().numpy()[..., ::-1]))[0].masks.data
    ours = ours[ours.amax((1, 2)) > 0]  # they leave out people without a mask
    assert 1 < len(ours) == len(theirs)
    assert (ours != theirs).float().mean() < 0.001


def test_a_photograph_is_fitted_into_the_networks_frame_and_its_masks_come_back():
    picture, place = yolo_segment._letterbox(torch.rand(3, 320, 512))
    assert picture.shape == (1, 3, 416, 640) and place == (8, 0, 400, 640)
    picture, (top, left, height, width) = yolo_segment._letterbox(torch.zeros(3, 1000, 333))
    assert picture.shape[-2:] == (640, 224) and (height, width) == (640, 213) and left == 5
    assert picture[..., left : left + width].max() == 0 and picture[..., :left].min() > 0.4


@needs_ultralytics
def test_a_pickle_that_wants_to_run_something_is_refused_and_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "yolov8n-seg.pt"
    torch.save({"model": Evil(), "ema": None}, path)
    with pytest.raises(UserError, match="cannot|safely"):
        yolo_segment.load_segmenter(path)
    assert not (tmp_path / "ran").exists()


@needs_ultralytics
def test_another_kind_of_model_and_no_model_at_all_are_clear_errors(tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2), "ema": None}, tmp_path / "linear.pt")
    with pytest.raises(UserError, match="another kind"):
        yolo_segment.load_segmenter(tmp_path / "linear.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UserError, match="text.pt"):
        yolo_segment.load_segmenter(tmp_path / "text.pt")


def test_missing_weights_say_where_they_come_from_and_under_which_licence(tmp_path, monkeypatch, astronaut):
    monkeypatch.setattr("personal_restore.nodes.masks.weight_folders", lambda kind: [tmp_path])
    with pytest.raises(UserError, match="AGPL-3.0"):
        SegmentPeople.execute(astronaut.movedim(1, -1), "n", 0.25)


@needs_ultralytics
def test_the_node_gives_one_mask_per_person_and_an_empty_one_for_nobody(weights, photo, monkeypatch):
    monkeypatch.setattr("personal_restore.nodes.masks.weight_folders", lambda kind: [weights.parent])
    image = photo[None].movedim(1, -1)
    some, batch = (SegmentPeople.execute(picture, "n", 0.5).args[0] for picture in (image, image.repeat(2, 1, 1, 1)))
    assert len(some) > 1 and batch.shape == (2, 416, 640) and torch.equal(batch[0], some.amax(0))
    monkeypatch.setattr(yolo_segment, "PERSON", 79)
    nobody = SegmentPeople.execute(image[:, :320, :512], "n", 0.99).args[0]
    assert nobody.shape == (1, 320, 512) and not nobody.any()

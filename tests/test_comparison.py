"""The comparison picture of the command line."""

from __future__ import annotations

import numpy as np
from personal_restore.cli.comparison import GAP, INK, PAPER, comparison
from PIL import Image


def test_a_long_footnote_is_set_in_lines_within_the_picture():
    picture = Image.new("RGB", (200, 160), (90, 120, 90))
    plain, noted = comparison(picture, picture, []), comparison(picture, picture, [], "A long footnote. " * 12)
    strip = np.asarray(noted)[plain.height :]
    assert noted.width == plain.width and noted.height > plain.height + 3 * 18
    ink = np.abs(strip.astype(int) - INK).max(2) < 20
    assert ink.any(1).sum() > 20 and ink[-GAP // 2 :].sum() == 0, "several lines, and none is cut off below"
    assert (strip[:, -GAP:] == PAPER).all(), "nor at the side"


def test_a_known_face_is_enlarged_before_a_larger_stranger():
    picture = Image.new("RGB", (200, 160), (90, 120, 90))
    picture.paste((200, 30, 30), (10, 10, 40, 40))
    faces = [{"person": None, "box": [100, 20, 190, 140]}, {"person": "Anna", "box": [12, 12, 38, 38]}]
    sheet = np.asarray(comparison(picture, picture, faces))
    red = np.abs(sheet.astype(int) - (200, 30, 30)).max(2) < 30
    assert red.mean() > 0.05, "Anna fills a window"


def test_every_known_face_is_enlarged_and_no_stranger_beside_them():
    picture = Image.new("RGB", (200, 160), (90, 120, 90))
    picture.paste((200, 30, 30), (10, 10, 40, 40))
    picture.paste((30, 30, 200), (100, 10, 130, 40))
    faces = [
        {"person": name, "box": box}
        for name, box in (("Anna", [12, 12, 38, 38]), ("Bo", [102, 12, 128, 38]), (None, [60, 60, 140, 150]))
    ]
    sheet = np.asarray(comparison(picture, picture, faces))
    for color in ((200, 30, 30), (30, 30, 200)):
        assert (np.abs(sheet.astype(int) - color).max(2) < 30).mean() > 0.05

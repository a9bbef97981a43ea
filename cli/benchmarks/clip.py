"""How much a restored clip flickers, with and without tracking: its change from frame to frame, minus that of the damaged clip."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ...lib import samples
from ..video.graph import graphs_for_shots
from ..video.shot import Shots
from ..video.source import Frame

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"
SPAN = 290  # pixels of the portrait that the first frame shows
BLUR, NOISE, QUALITY = 1.6, 18.0, 40  # pixels; of 255; of JPEG


def bench(count: int, side: int, workflow: str, shown: Path | None = None) -> dict[str, Any]:
    """A clip of ``count`` frames of the sample portrait, panned and zoomed, each damaged with noise of its own.

    In levels of 255. change: the mean absolute difference of successive frames after the camera's known motion is taken out of it, of
    the undamaged clip, the damaged one, and the results; raw: without taking the motion out; face: within the face. error: of all pixels,
    against the undamaged clip. shown: a folder for the frames side by side.
    """
    graphs = graphs_for_shots(json.loads((WORKFLOWS / f"{workflow}.json").read_text("utf-8")))
    motions = [_motion(number, count, side) for number in range(count)]
    truth, damaged = zip(*(_frames(motion, side, number) for number, motion in enumerate(motions)), strict=True)
    shots, clips, seconds = Shots(graphs), {"truth": list(truth), "damaged": list(damaged)}, {}
    start = time.perf_counter()
    plan = shots.look(_given(damaged))
    seconds["look"] = time.perf_counter() - start
    for name, run in (
        ("tracked", lambda: shots.restore(_given(damaged), plan)),
        ("alone", lambda: shots.alone(_given(damaged))),
    ):
        start = time.perf_counter()
        clips[name] = [result[0].numpy() * 255 for _, result in run()]
        seconds[name] = time.perf_counter() - start
    if shown is not None:
        shown.mkdir(parents=True, exist_ok=True)
        for number, pictures in enumerate(zip(*clips.values(), strict=True)):
            row = np.concatenate(pictures, 1).round().clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(shown / f"{number:03}.png"), row[..., ::-1])
    rows = {name: _changes(frames, motions) for name, frames in clips.items()}
    error = {name: float(np.mean(np.abs(np.stack(frames) - np.stack(truth)))) for name, frames in clips.items()}
    per_frame = {name: round(value / count, 2) for name, value in seconds.items()}
    return {"frames": count, "side": side, "rows": rows, "error": error, "tracks": plan.tracks, "seconds": per_frame}


def table(figures: dict[str, Any]) -> str:
    """Each clip's change, and what it has more than the damaged clip: its flicker."""
    rows, lines = figures["rows"], ["clip | change | flicker | in the face | flicker | raw | flicker | error"]
    for name, row in rows.items():
        cells = [name]
        for key in ("change", "face", "raw"):
            cells += [f"{row[key]:.2f}", f"{row[key] - rows['damaged'][key]:+.2f}"]
        lines.append(" | ".join([*cells, f"{figures['error'][name]:.2f}"]))
    lines.append(f"seconds per frame: {figures['seconds']}")
    return "\n".join([*lines, f"faces: {figures['tracks']}"])


def _motion(number: int, count: int, side: int) -> np.ndarray:
    """``[2, 3]``, from the portrait's pixels to the frame's: a pan along a curve, and a slow zoom."""
    turn = 2 * np.pi * number / max(count - 1, 1)
    scale = side / SPAN * (1 + 0.15 * number / max(count - 1, 1))
    x, y = samples.FACE[0] + 30 * np.sin(turn), samples.FACE[1] + 35 + 15 * np.sin(2 * turn)
    return np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y]])


def _frames(motion: np.ndarray, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Undamaged and damaged, float32 ``[H, W, 3]`` in 0..255."""
    portrait = samples.photograph()[0].movedim(0, -1).numpy()
    true = cv2.warpAffine(portrait, motion, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT) * 255
    noise = np.random.default_rng(seed).normal(0, NOISE, true.shape)
    worse = (cv2.GaussianBlur(true, (0, 0), BLUR) + noise).round().clip(0, 255).astype(np.uint8)
    packed = cv2.imencode(".jpg", worse[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return true, cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)


def _given(frames: tuple[np.ndarray, ...]) -> Iterator[Frame]:
    yield from (Frame(torch.from_numpy(frame.copy())[None] / 255) for frame in frames)


def _changes(frames: list[np.ndarray], motions: list[np.ndarray]) -> dict[str, float]:
    side, found = len(frames[0]), {"change": [], "face": [], "raw": []}
    radius = 60  # pixels of the portrait around the face
    for one, other, before, after in zip(frames, frames[1:], motions, motions[1:], strict=False):
        back = cv2.invertAffineTransform(after)
        step = before[:, :2] @ back[:, :2], before[:, :2] @ back[:, 2] + before[:, 2]
        moved = cv2.warpAffine(
            other, np.column_stack(step), (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        difference = np.abs(moved - one)
        x, y = before[:, :2] @ samples.FACE + before[:, 2]
        reach = radius * before[0, 0]
        left, right, top, bottom = (int(np.clip(v, 0, side)) for v in (x - reach, x + reach, y - reach, y + reach))
        found["change"].append(difference[8:-8, 8:-8].mean())
        found["face"].append(difference[top:bottom, left:right].mean())
        found["raw"].append(np.abs(other - one).mean())
    return {name: float(np.mean(values)) for name, values in found.items()}

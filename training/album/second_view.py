"""From one aligned picture a plausible other photograph of the same person.

Head turned by a relief, expression bent, another lens, light, color, age, file; sometimes glasses, a mark, a hand or
microphone, another background. Everything is drawn from one generator, so a seed says it all.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from . import second_view_drawn as drawn
from . import second_view_light as light
from .relief import FaceFrame, bump, depth, face_frame, follow, head_share, head_turn, inverted_flow

YAW, PITCH, ROLL = 25, 12, 8  # degrees, at most
MAP_SIDE = 128  # px: maps of larger pictures are made at about this side and enlarged


@dataclass(frozen=True)
class Pose:
    """yaw, pitch, roll: radians; near: enlargement per eye distance toward the camera; radial: of the lens, over the
    half side; zoom: factor; shift ``[2]``: eye distances; corners ``[2, 2]``, brows ``[2]``, lids: of the expression, eye distances."""

    yaw: float
    pitch: float
    roll: float
    near: float
    radial: float
    zoom: float
    shift: np.ndarray
    corners: np.ndarray
    brows: np.ndarray
    lids: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """Mostly nearly frontal, as album photographs are; the limits are YAW, PITCH and ROLL."""

    def angle(most: float) -> float:
        return float(np.radians(np.clip(rng.normal(0, most / 2), -most, most)))

    smile, wide = rng.normal(0, 0.05), rng.normal(0, 0.035)
    corners = np.array([[-wide, -smile], [wide, -smile]]) + rng.normal(0, 0.008, (2, 2))
    return Pose(
        *(angle(YAW), angle(PITCH), angle(ROLL)),
        near=float(rng.uniform(-0.04, 0.07)),
        radial=float(rng.uniform(-0.05, 0.05)),
        zoom=float(np.exp(rng.normal(0, 0.03))),
        shift=rng.normal(0, 0.03, 2),
        corners=corners.clip(-0.12, 0.12),
        brows=(rng.normal(0, 0.035) + rng.normal(0, 0.012, 2)).clip(-0.08, 0.08),
        lids=float(np.clip(rng.normal(0.01, 0.03), -0.02, 0.07)),
    )


def second_view(crop: Tensor, points: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Another photograph of the person in ``crop`` (float32 ``[3, S, S]`` in 0..1), and where its points moved.

    points: ``[N, 2]`` in pixels of the crop, the first five the template's landmarks (eyes, nose, corners of the mouth);
    the result's points ``[N, 2]`` are those of the new picture, float64. A point may lie under what is drawn over.
    """
    picture = np.ascontiguousarray(crop.detach().cpu().float().permute(1, 2, 0).numpy())
    points = np.asarray(points, np.float64)
    frame = face_frame(points[:5])
    pose, look = draw_pose(rng), light.draw_look(rng)
    wishes = rng.random(4)
    size = len(picture)
    place = frame.to_frame(_grid(size))
    matte = drawn.person_matte(picture, frame) if wishes[3] < 0.45 else np.ones((size, size), np.float32)
    skin = _skin(picture, place)
    picture = light.aged(picture, (head_share(place) * 4).clip(0, 1), frame.unit, look.detail)
    if wishes[0] < 0.2:
        picture = drawn.with_glasses(picture, frame, rng)
    if wishes[1] < 0.1:
        picture = drawn.with_mark(picture, frame, rng)
    backward, z = view_map(size, points[:5], pose)
    layers = np.dstack([picture, matte, z]).astype(np.float32)
    moved = _sampled(layers, backward)
    new_points = follow(points, backward)
    picture, matte, z = moved[..., :3], moved[..., 3], moved[..., 4]
    picture = light.developed(picture, light.shading(z, frame.unit, look), look)
    if wishes[3] < 0.45:
        behind = light.developed(drawn.background(size, rng), np.ones((size, size), np.float32), look)
        picture = behind + matte.clip(0, 1)[..., None] * (picture - behind)
    if wishes[2] < 0.12:
        gain = light.developed(np.broadcast_to(skin, (1, 1, 3)), np.ones((1, 1), np.float32), look)[0, 0]
        picture = drawn.with_occluder(picture, face_frame(new_points[:5]), gain, rng)
    picture = light.filed(picture, look)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))), new_points


def view_map(size: int, landmarks: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """float32 ``[S, S, 2]``: where in the picture each pixel of the turned one lies, for five landmarks ``[5, 2]``; and the
    relief of the picture ``[S, S]`` in eye distances.

    The middle of the landmarks stays in its place up to ``pose.shift``, as in a crop around a detected face.
    """
    step = max(1, round(size / MAP_SIDE))
    side = -(-size // step)
    scale = 1 / step
    frame = face_frame((landmarks + 0.5) * scale - 0.5)
    grid = _grid(side)
    place = frame.to_frame(grid)
    z = depth(place, frame)
    forward = frame.to_pixels(head_turn(place, z, pose.yaw, pose.pitch, pose.near)).astype(np.float32)
    at = ((landmarks + 0.5) * scale - 0.5).astype(np.float32)
    drift = cv2.remap(forward, at[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0].mean(0)
    target = _lens(grid, at.mean(0), pose) + drift - frame.to_pixels(pose.shift).astype(np.float32)
    backward = inverted_flow(forward, target)
    backward = backward - frame.to_pixels(_expression(frame.to_frame(backward), frame, pose)).astype(np.float32)
    if step == 1:
        return backward, z
    larger = np.dstack([(backward - grid) * step, z]).astype(np.float32)
    larger = cv2.resize(larger, (side * step,) * 2, interpolation=cv2.INTER_LINEAR)
    larger = larger[:size, :size]
    return larger[..., :2] + _grid(size), larger[..., 2]


def _lens(grid: np.ndarray, center: np.ndarray, pose: Pose) -> np.ndarray:
    """Roll, zoom and radial distortion about ``center``: for positions of the result those of the turned head."""
    offset = grid - center
    half = len(grid) / 2
    radius = (offset**2).sum(-1, keepdims=True) / half**2
    cosine, sine = np.cos(pose.roll), np.sin(pose.roll)
    rotation = np.array([[cosine, -sine], [sine, cosine]], np.float32) / pose.zoom
    return (center + (offset * (1 + pose.radial * radius)) @ rotation.astype(np.float32)).astype(np.float32)


def _expression(place: np.ndarray, frame: FaceFrame, pose: Pose) -> np.ndarray:
    """How far the features move, ``[..., 2]`` in eye distances, at the places of the frame."""
    move = np.zeros_like(place)
    for side, corner, brow in zip((-1, 1), pose.corners, pose.brows, strict=True):
        mouth = (frame.mouth[0] + side * 0.38, frame.mouth[1])
        move += bump(place, mouth, (0.24, 0.2))[..., None] * corner.astype(place.dtype)
        # The cheek goes along.
        move[..., 1] += 0.4 * corner[1] * bump(place, (side * 0.6, frame.mouth[1] - 0.4), (0.25, 0.25))
        move[..., 1] += brow * bump(place, (side * 0.52, -0.36), (0.33, 0.15))
        move[..., 1] += pose.lids * bump(place, (side * 0.5, -0.07), (0.2, 0.08))
    return move


def _sampled(layers: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Channels ``[S, S, 5]`` at the positions ``[S, S, 2]``; beyond the edge it repeats, more and more blurred."""
    groups = [np.ascontiguousarray(layers[..., :3]), np.ascontiguousarray(layers[..., 3:])]
    border = cv2.BORDER_REPLICATE
    picture, rest = (
        cv2.remap(group, where, None, cv2.INTER_LINEAR if number else cv2.INTER_CUBIC, borderMode=border)
        for number, group in enumerate(groups)
    )
    size = len(layers)
    beyond = np.maximum(-where, where - (size - 1)).max(-1).clip(0, None)
    if beyond.max() > 1:
        blurred = cv2.remap(
            cv2.GaussianBlur(groups[0], (0, 0), 0.04 * size), where, None, cv2.INTER_LINEAR, borderMode=border
        )
        share = (beyond / (0.03 * size)).clip(0, 1)[..., None]
        picture = picture + share * (blurred - picture)
    return np.dstack([picture, rest])


def _skin(picture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The mean color ``[3]`` of the middle of the face; of everything where the face lies outside."""
    middle = head_share(place) > 0.75
    return picture[middle].mean(0) if middle.any() else picture.mean((0, 1))


def _grid(size: int) -> np.ndarray:
    """Pixel positions ``[S, S, 2]``, x then y, float32."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.stack([x, y], -1)

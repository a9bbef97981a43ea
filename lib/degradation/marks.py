"""Marks that touch leaves on a photograph: scratches and hairs, folds and cracks, dust, finger prints. Each gives a `Layer`.

seed determines where everything lies. Lengths and thicknesses are shares of the picture's longer side, so that a recipe means the
same at every size; angles in radians; tone is the lightness of what is uncovered or lies on top, 0 black and 1 white.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from .drawing import (
    SUBPIXEL,
    Layer,
    Plane,
    broken_stroke,
    halo_of,
    line,
    paper,
    plane_of,
    rough_noise,
    smooth_noise,
    wander,
)


def scratches(
    height: int,
    width: int,
    *,
    seed: int,
    count: int,
    length: float,
    thickness: float,
    angle: float,
    spread: float,
    bend: float,
    breaks: float,
    tone: float,
    opacity: float,
    halo: float,
    warmth: float,
) -> Layer:
    """Scratches in clusters: around ``angle``, their directions ``spread`` apart; hairs and fibers with a large ``bend``.

    halo: strength of the shade beside them; breaks: share of a scratch that is missing.
    """
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    canvas = np.zeros((height, width), np.uint8)
    clusters = rng.uniform((0, 0), (width, height), (1 + count // 4, 2))
    headings = angle + spread * rng.normal(size=len(clusters))
    for strength in np.sort(rng.beta(2, 1.2, count)):
        home = int(rng.integers(len(clusters)))
        start = clusters[home] + rng.normal(size=2) * longer * rng.choice((0.03, 0.3))
        own = length * longer * float(np.clip(rng.lognormal(-0.5, 0.8), 0.05, 1.6))
        heading = headings[home] + 0.25 * spread * rng.normal() + rng.integers(2) * math.pi
        points = line(rng, start, heading, own, bend, 0.02 + 0.05 * bend)
        wide = thickness * longer * float(np.clip(rng.lognormal(-0.2, 0.5), 0.2, 2.5))
        broken_stroke(rng, canvas, points, wide, opacity * float(strength), breaks)
    worn = np.clip(0.85 + 0.45 * smooth_noise(rng, height, width, longer / 40), 0.1, 1)
    cover = plane_of(canvas) * worn
    return Layer(cover, paper(rng, height, width, tone, warmth), halo_of(cover, 2 * thickness * longer, halo))


def folds(
    height: int,
    width: int,
    *,
    seed: int,
    count: int,
    thickness: float,
    lost: float,
    branches: int,
    shade: float,
    tone: float,
    opacity: float,
    warmth: float,
) -> Layer:
    """Creases across the picture or a corner of it, where over the share ``lost`` the emulsion is gone.

    branches: cracks that leave each crease; shade: by how much the light differs between its two sides, close to it.
    """
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    canvas = np.zeros((height, width), np.uint8)
    light = np.ones((height, width), np.float32)
    wide = thickness * longer
    for _ in range(count):
        start, end = _crease(rng, height, width)
        reach = float(np.hypot(*(end - start)))
        angle = math.atan2(*(end - start)[::-1])
        points = line(rng, start, angle, reach, rng.uniform(0, 0.08), 0.1)
        light *= 1 + _step_of_light(height, width, start, angle, longer) * shade * rng.choice((-0.6, 0.6))
        hairline = min(0.3 * wide, 0.0012 * longer)
        broken_stroke(rng, canvas, points, hairline, 0.7 * opacity, 0.1)
        for _ in range(int(rng.integers(1, 4))):  # a crease is a bundle of cracks
            aside = points + rng.normal(size=2) * wide * 0.3
            aside += wide * np.stack([0.6 * wander(rng, len(points), len(points) // 3 + 2) for _ in range(2)], 1)
            own = wide * float(np.clip(rng.lognormal(-0.6, 0.6), 0.2, 1.8))
            broken_stroke(rng, canvas, aside, own, opacity * rng.uniform(0.7, 1), 1 - lost, 0.6)
        for _ in range(int(rng.integers(branches + 1))):
            root = points[int(rng.integers(len(points)))]
            turn = angle + rng.choice((-1, 1)) * rng.uniform(0.3, 1.6) + rng.integers(2) * math.pi
            crack = line(rng, root, turn, longer * 0.25 * float(rng.beta(1.2, 3)), 0.3, 0.25)
            broken_stroke(rng, canvas, crack, wide * rng.uniform(0.2, 0.6), opacity * rng.uniform(0.5, 1), 0.25, 0.6)
    flakes = np.clip(1.4 + 0.9 * rough_noise(rng, height, width, max(wide * 3, 4)), 0, 1)
    cover = np.minimum(plane_of(canvas) * flakes, 1)
    sides = np.clip(light, 0.5, 1.5)[..., None] * halo_of(cover, 1.5 * wide, 0.5 * min(1.0, 4 * shade))
    return Layer(cover, paper(rng, height, width, tone, warmth), sides)


def _crease(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Start and end of a fold: across a corner, from side to side, or from one side to somewhere inside."""
    size = np.array([width, height], np.float64)
    kind = rng.choice(3, p=(0.35, 0.4, 0.25))
    if kind == 0:
        cut = rng.uniform(0.08, 0.45, 2) * size
        corner = rng.integers(2, size=2)
        ends = np.array([[cut[0], 0.0], [0.0, cut[1]]])
        return tuple(np.where(corner, size - end, end) for end in ends)
    along = int(rng.integers(2))
    start, end = size * rng.uniform(0, 1, (2, 2))
    end[1 - along] = start[1 - along] + rng.normal() * 0.12 * size[1 - along]
    start[along] = 0.0 if rng.random() < 0.5 else size[along]
    if kind == 1:
        end[along] = size[along] - start[along]
    return start, end


def _step_of_light(height: int, width: int, start: NDArray[np.float64], angle: float, longer: int) -> Plane:
    """``[H, W]`` in -1..1: positive on one side of a line through ``start``, negative on the other, fading away from it."""
    across = (np.arange(height, dtype=np.float32)[:, None] - np.float32(start[1])) * np.float32(math.cos(angle)) - (
        np.arange(width, dtype=np.float32)[None] - np.float32(start[0])
    ) * np.float32(math.sin(angle))
    return np.tanh(across / (0.004 * longer + 0.5)) * np.exp(-np.abs(across) / (0.03 * longer + 1))


def dust(
    height: int,
    width: int,
    *,
    seed: int,
    count: int,
    thickness: float,
    fibers: float,
    tone: float,
    opacity: float,
    warmth: float,
) -> Layer:
    """Specks ``thickness`` wide, denser in some places, the share ``fibers`` of them short curled threads."""
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    canvas = np.zeros((height, width), np.uint8)
    threads = round(count * fibers)
    dense = rough_noise(rng, 8, 8, 4)
    places = rng.uniform(0, 1, (3 * count, 2))
    crowded = dense[(places[:, 1] * 8).astype(int), (places[:, 0] * 8).astype(int)] + rng.uniform(-1, 1, 3 * count)
    places = places[np.argsort(-crowded, kind="stable")[:count]] * (width, height)
    strengths = opacity * np.sort(rng.beta(1.3, 1.5, count))
    sizes = thickness * longer * np.clip(rng.lognormal(-0.5, 0.6, count), 0.2, 4)
    outlines = _grains(rng, places, sizes)
    thread = rng.permutation(count) < threads
    for index in range(count):
        if thread[index]:
            size = float(sizes[index])
            points = line(rng, places[index], rng.uniform(0, 2 * math.pi), size * rng.uniform(4, 16), 0.9, 0.05)
            broken_stroke(rng, canvas, points, size * 0.5, strengths[index], 0)
        else:
            fine = min(1.0, float(sizes[index]) ** 2)  # a grain smaller than a pixel is drawn a pixel wide and fainter
            cv2.fillPoly(canvas, [outlines[index]], round(255 * fine * strengths[index]), cv2.LINE_AA, SUBPIXEL)
    return Layer(plane_of(canvas), paper(rng, height, width, tone, warmth))


def _grains(rng: np.random.Generator, places: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.int32]:
    """Outlines ``[n, 6, 2]`` of irregular grains ``sizes`` pixels wide and up to three times as long, as `cv2.fillPoly` takes them."""
    count = len(places)
    around = np.linspace(0, 2 * math.pi, 6, endpoint=False)
    corners = np.stack(
        [np.cos(around) * rng.uniform(1, 3, (count, 1)), np.broadcast_to(np.sin(around), (count, 6))], -1
    )
    # The soft outline adds half a pixel.
    corners *= np.clip(sizes / 2 - 0.5, 0.05, None)[:, None, None] * rng.uniform(0.5, 1.3, (count, 6, 1))
    turn = rng.uniform(0, math.pi, count)
    rotation = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], -1).reshape(count, 2, 2)
    return np.round((places[:, None] + corners @ rotation) * 2**SUBPIXEL).astype(np.int32)


def fingerprints(
    height: int, width: int, *, seed: int, count: int, length: float, period: float, tone: float, opacity: float
) -> Layer:
    """Prints ``length`` long, of ridges ``period`` pixels apart, whorls whose ridges are smeared in places."""
    rng = np.random.default_rng(seed)
    longer = max(height, width)
    cover = np.zeros((height, width), np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(count):
        center = rng.uniform((0, 0), (width, height))
        angle, size = rng.uniform(0, math.pi), max(length * longer / 2, 1.0)
        u = ((x - center[0]) * math.cos(angle) + (y - center[1]) * math.sin(angle)) / size
        v = ((y - center[1]) * math.cos(angle) - (x - center[0]) * math.sin(angle)) / (0.68 * size)
        bow = np.hypot(u + 0.25, v * rng.uniform(0.6, 1.1)) + 0.1 * smooth_noise(rng, height, width, size / 2)
        ridges = 0.5 + 0.5 * np.cos(2 * math.pi * bow * size / max(period, 2.0))
        pressed = np.clip(3 * (1 - np.hypot(u, v)), 0, 1) * np.clip(
            0.6 + rough_noise(rng, height, width, size / 3), 0, 1
        )
        cover = np.maximum(cover, pressed * ridges)
    return Layer(
        cv2.GaussianBlur(cover, (0, 0), 0.5).reshape(height, width) * opacity, paper(rng, height, width, tone, 0.2)
    )

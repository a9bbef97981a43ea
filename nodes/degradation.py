"""Nodes that damage photographs on purpose and estimate existing damage."""

from __future__ import annotations

import json
from itertools import count

import torch

from ..lib.bridge import io, keep, progress
from ..lib.degradation.estimate import describe_damage, largest_pair
from ..lib.degradation.families import FAMILIES
from ..lib.degradation.picture import damage_sheet, gauge
from ..lib.degradation.recipe import Recipe
from ..lib.pictures.metrics import psnr, ssim
from ..lib.vocabulary import DegradationCode, Faces, UserError
from ..models.embedded import ready as embedded
from ..models.embedded.estimate import estimate_each
from ..models.embedded.weights import TOKEN_SPACE
from ..models.face2scene import network as face2scene
from . import sockets
from .face2scene import trained, trained_named
from .layout import check_same_photos, to_image, to_photos

EMBEDDED = "embedded"


class Degrade(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Degrade",
            display_name="Degrade Photograph",
            category=sockets.LAB,
            description="Damages a good photograph in an exactly repeatable way, so that you can test a workflow with "
            "a known original.",
            search_aliases=["add noise", "blur", "jpeg", "synthetic degradation"],
            inputs=[
                io.Image.Input("image", tooltip="A good photograph."),
                io.Combo.Input(
                    "family",
                    options=list(FAMILIES),
                    default="trial",
                    tooltip="The kind of damage. trial: everyday blur, noise, JPEG compression and enlargement. mild, "
                    "light, clean: progressively less damage. realesrgan, s3diff (x2, x4: from a smaller picture; "
                    "varying: a lens), pfstorer, codeformer, diffbir, dual_pivot, faceme: what the published "
                    "restorers were trained on. d1 to d4: Face2Scene's four fixed degradations.",
                ),
                sockets.seed("Determines the damage and its noise. The same seed gives the same picture."),
                io.String.Input(
                    "recipe",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="A JSON recipe from this node's second output. If it is not empty, it replaces family and "
                    "seed.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The damaged photograph at the same size."),
                io.String.Output(
                    display_name="recipe",
                    tooltip="The applied degradation as JSON. Use it as the recipe to apply the same degradation again.",
                ),
                sockets.Degradation.Output(
                    display_name="degradation",
                    tooltip="The same degradation as an object, for nodes that compare it or apply it elsewhere.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, family: str, seed: int, recipe: str = "") -> io.NodeOutput:
        drawn = Recipe.from_json(recipe) if recipe.strip() else FAMILIES[family](seed)
        return io.NodeOutput(to_image(drawn.apply(to_photos(image))), drawn.to_json(), drawn)


class EstimateDegradation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_EstimateDegradation",
            display_name="Estimate Degradation from Face",
            category=sockets.SCENE,
            description="Compares a restored face with the damaged one and estimates how the photograph was damaged "
            "(with Face2Scene's FaDeX and MapNet, either the small version that ships with the pack or that of a "
            "trained model). Without a restored face there is no code, and the scene is restored without one.",
            search_aliases=["fadex", "mapnet", "face2scene", "damage", "blur estimate", "noise estimate"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="Restored faces."),
                io.Int.Input(
                    "face",
                    default=-1,
                    min=-1,
                    max=999,
                    advanced=True,
                    tooltip="The face to use for all photographs, numbered from 0 in reading order. -1 uses the largest restored "
                    "face of each photograph.",
                ),
                io.Combo.Input(
                    "extractor",
                    options=[EMBEDDED, *trained()],
                    default=EMBEDDED,
                    optional=True,
                    tooltip="The network that estimates the damage: the small extractor that ships with the pack, or "
                    "that of a trained Face2Scene model. A restorer understands only codes from the extractor that it "
                    "was trained with.",
                ),
                io.Boolean.Input(
                    "one_for_all",
                    default=False,
                    optional=True,
                    tooltip="For a batch of photographs. Off: every photograph has a code of its own, and one without a face is "
                    "restored without a code. On: the largest face of all reveals the damage of all, for bursts and videos that "
                    "were damaged alike.",
                ),
            ],
            outputs=[
                sockets.Code.Output(
                    display_name="code", tooltip="The degradation code, or nothing if no face reveals the damage."
                ),
                io.String.Output(display_name="report", tooltip="The damage in words and numbers."),
                io.Image.Output(
                    display_name="gauge",
                    tooltip="The four numbers as a bar chart, one for each photograph with a code of its own.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, extractor: str = EMBEDDED) -> bool:
        # A bundled workflow may name files that do not exist yet; execute reports what to do.
        return True

    @classmethod
    def execute(
        cls, image: torch.Tensor, faces: Faces, face: int, extractor: str = EMBEDDED, one_for_all: bool = False
    ) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Estimate Degradation", photos, faces)
        if face >= len(faces) > 0:
            raise UserError(
                f"Estimate Degradation: face {face} does not exist. There are {len(faces)} faces, numbered from 0."
            )
        frames, numbers = faces.frames, count()
        if face >= 0:
            frames = tuple(tuple(one for one in frame if next(numbers) == face) for frame in frames)
        pairs = [largest_pair(photo, frame) for photo, frame in zip(photos, frames, strict=True)]
        if all(pair is None for pair in pairs):
            words = "There is no restored face of 16 pixels or more. The scene is restored without a degradation code."
            return io.NodeOutput(None, words, to_image(gauge(None)))
        if extractor == EMBEDDED:
            network, space = embedded.extractor(keep)(), TOKEN_SPACE
        else:
            weights = face2scene.read_face2scene(trained_named(extractor, "Estimate Degradation"), only="extractor.")
            network, space = keep(weights.extractor())(), weights.token_space
        code = estimate_each(network, pairs, space, one_for_all or face >= 0, progress())
        each = code.frames or (code,)
        gauges = torch.cat([gauge(one.scalars if one else None) for one in each])
        return io.NodeOutput(code, "\n".join(map(words_of, each)), to_image(gauges))


def words_of(code: DegradationCode | None) -> str:
    """Two lines: the damage in words, and in numbers as JSON."""
    if code is None:
        return (
            "This photograph has no restored face of 16 pixels or more. It is restored without a degradation code.\n{}"
        )
    numbers = json.dumps({name: round(value, 2) for name, value in code.scalars.items()})
    return f"{describe_damage(code.scalars)}\n{numbers}"


class CompareWithTruth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_CompareWithTruth",
            display_name="Compare with Truth",
            category=sockets.LAB,
            description="Shows a damaged photograph and up to two restorations next to the undamaged original, with "
            "PSNR and SSIM, and the estimated damage next to the true damage.",
            search_aliases=["psnr", "ssim", "metrics", "degradation lab", "side by side"],
            inputs=[
                io.Image.Input("truth", tooltip="The undamaged original."),
                io.Image.Input("damaged", tooltip="The damaged photograph."),
                io.Image.Input("restored", tooltip="A restored photograph."),
                io.Image.Input(
                    "other", optional=True, tooltip="Another restored photograph, for example one made without a code."
                ),
                sockets.Degradation.Input(
                    "degradation", optional=True, tooltip="The degradation that was applied to the photograph."
                ),
                sockets.Code.Input("code", optional=True, tooltip="The estimated degradation."),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="All pictures side by side, with metrics."),
                io.String.Output(display_name="report", tooltip="The metrics as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        truth: torch.Tensor,
        damaged: torch.Tensor,
        restored: torch.Tensor,
        other: torch.Tensor | None = None,
        degradation: Recipe | None = None,
        code: DegradationCode | None = None,
    ) -> io.NodeOutput:
        given = {"damaged": damaged, "restored": restored, "other": other}
        pictures = {name: to_photos(one)[:1] for name, one in given.items() if one is not None}
        goal = to_photos(truth)[:1]
        for name, one in pictures.items():
            if one.shape != goal.shape:
                sizes = [f"{p.shape[-1]}x{p.shape[-2]}" for p in (one, goal)]
                raise UserError(
                    f"Compare with Truth: {name} is {sizes[0]} px, but truth is {sizes[1]} px. Scale one of them."
                )
        true = degradation.summary() if degradation else None
        estimated = code.scalars if code else None
        quality = {
            name: {"psnr": round(psnr(one, goal, epsilon=1e-10), 3), "ssim": round(ssim(one, goal), 4)}
            for name, one in pictures.items()
        }
        captions = {name: f"{name}   {one['psnr']:.2f} dB   {one['ssim']:.3f}" for name, one in quality.items()}
        tiles = [*((captions[name], one) for name, one in pictures.items()), ("truth", goal)]
        figures = {"quality": quality, "true_damage": true, "estimated_damage": estimated}
        return io.NodeOutput(to_image(damage_sheet(tiles, gauge(estimated, true))), json.dumps(figures, indent=2))

"""Nodes that damage photographs on purpose, and compare what was made of them."""

from __future__ import annotations

import json

import torch

from ..lib.bridge import io
from ..lib.degradation.families import FAMILIES
from ..lib.degradation.picture import damage_sheet, gauge
from ..lib.degradation.recipe import Recipe
from ..lib.pictures.metrics import psnr, ssim
from ..lib.vocabulary import DegradationCode, UserError
from . import sockets
from .layout import to_image, to_photos


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
                    "light, clean: progressively less damage. uncompressed: noise and some blur, never saved as JPEG. "
                    "realesrgan, s3diff (x2, x4: from a smaller picture; varying: a lens), pfstorer, codeformer, "
                    "diffbir, dual_pivot, faceme: what the published restorers were trained on. d1 to d4: Face2Scene's "
                    "four fixed degradations. old_photo: scratches, folds, dust, stains, and faded colors of old "
                    "prints.",
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

"""Nodes for Restoration by Generation: an album made from the damaged face, and its noise level for core's samplers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ..lib.bridge import io, progress
from ..lib.diffusion.noise_schedule import linear_schedule, stable_diffusion_schedule
from ..lib.diffusion.sampling import noise_steps
from ..lib.extras import require
from ..lib.vocabulary import Conditions, UserError, abilities
from ..models.gen2res.build import BASE, generators, restorer_from
from . import sockets
from .layout import to_image, to_photos
from .presets import OWN, PUBLISHED, QUICK, Presets, preset_input, with_preset

ALBUM: dict[str, Any] = {"count": 16, "skip_guidance": 0.3}
ALBUM_PRESETS: Presets = {
    QUICK: {"count": 4},
    PUBLISHED: ALBUM | {"every": 20},
    "published, the authors' script": ALBUM | {"every": 10},
}
# K of the paper's table 1; the released script leaves guidance on, every 10 steps, where the paper generates freely.
PRESETS: Presets = {
    QUICK: {"steps": 25},
    "published, 256 px": {"denoise": 0.2, "skip_guidance": 0.0},
    "published, 512 px": {"denoise": 0.3, "skip_guidance": 0.0},
    "published, the authors' script": {"denoise": 0.2, "skip_guidance": 0.3, "every": 10},
}


class RestorationByGeneration(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_GenerationRestorer",
            display_name="Restoration by Generation",
            category=sockets.RESTORERS,
            description="Adds noise to a face until it hides the damage, then generates the face anew with a face "
            "model (gen2res). The weights base_256.pt are for research only and belong in models/personal_restore. "
            "Too slow without a graphics card.",
            search_aliases=["gen2res", "generative prior", "diffusion", "adm"],
            inputs=[
                sockets.denoise_input(
                    default=0.2,
                    tooltip="How much noise is added and removed again. More noise hides worse "
                    "damage but keeps less of the person.",
                ),
                sockets.skip_guidance_input(),
                io.Combo.Input(
                    "model",
                    options=[BASE, *generators()],
                    default=BASE,
                    optional=True,
                    tooltip="The face model: the published one (256x256), or a file in models/personal_restore/generators, from Train "
                    "Generator or in guided-diffusion's format at 256x256 or 512x512.",
                ),
                preset_input(
                    PRESETS, "the paper's noise for the model's size, without guidance; the authors' script guides."
                ),
            ],
            outputs=[
                sockets.restorer_output(
                    "Restores faces, and serves as a base for Train Persona (method album) and Apply Persona."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str = BASE) -> bool:
        return True  # a workflow may name a model that is trained later; execute reports what to do

    @classmethod
    def execute(cls, denoise: float, skip_guidance: float, model: str = BASE, preset: str = OWN) -> io.NodeOutput:
        given = {"denoise": denoise, "skip_guidance": skip_guidance}
        settings = with_preset("Restoration by Generation", PRESETS, preset, given)
        return io.NodeOutput(restorer_from(model, **settings))


class GenerativeAlbum(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_GenerativeAlbum",
            display_name="Generative Album",
            category=sockets.PERSONAS,
            description="Generates pictures similar to a damaged face if there is no album. It adds strong noise and "
            "removes it again, and regularly guides the result toward the damaged face (skip guidance). Train Persona "
            "can train on these pictures as on photographs.",
            search_aliases=["gen2res", "skip guidance", "single image", "anchors"],
            inputs=[
                sockets.Restorer.Input(
                    "restorer", tooltip="Diffusion Restorer with control 0, or Restoration by Generation."
                ),
                io.Image.Input("image", tooltip="The damaged face, aligned, from Faces to Images."),
                io.Int.Input("count", default=16, min=1, max=64, tooltip="Number of pictures. The paper uses 16."),
                io.Float.Input(
                    "skip_guidance",
                    default=0.3,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Strength of each step of skip guidance. The published value for 256x256 is 0.3.",
                ),
                io.Int.Input(
                    "every",
                    default=20,
                    min=0,
                    max=1000,
                    tooltip="Applies guidance every this many noise steps; 0 turns it off. If it is too frequent, the "
                    "pictures become as bad as the damaged one. If it is too rare, they show someone else.",
                ),
                sockets.seed("Seed of the first picture. The others use the following numbers."),
                preset_input(
                    ALBUM_PRESETS, "16 pictures, guided every 20 steps as in the paper or every 10 as in its code."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The album, for the images input of Train Persona.")
            ],
        )

    @classmethod
    def execute(
        cls,
        restorer: Any,
        image: torch.Tensor,
        count: int,
        skip_guidance: float,
        every: int,
        seed: int,
        preset: str = OWN,
    ) -> io.NodeOutput:
        require("Generative Album", "diffusion")
        given = {"count": count, "skip_guidance": skip_guidance, "every": every}
        count, skip_guidance, every = with_preset("Generative Album", ALBUM_PRESETS, preset, given).values()
        # Imported here because diffusers takes seconds to import.
        from ..models.gen2res.generation import SkipGuidance, generative_album

        if not abilities(restorer).generates:
            raise UserError(
                f"Generative Album: {restorer.name!r} cannot generate pictures. Connect a Diffusion Restorer or "
                "Restoration by Generation directly, without Apply Persona."
            )
        guided, face, side = (
            replace(restorer, skip_guidance=SkipGuidance(skip_guidance, every)),
            to_photos(image[:1]),
            restorer.native_size,
        )
        if side is not None and face.shape[-2:] != (side, side):
            face = F.interpolate(face, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        album = generative_album(guided, face, Conditions(seed=seed, progress=progress()), count)
        return io.NodeOutput(to_image(album))


class NoiseToSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_NoiseToSigmas",
            display_name="Denoise to Sigmas",
            category=sockets.PERSONAS,
            description="Converts the noise level of Restoration by Generation to sigmas for a Stable Diffusion model "
            "in core's Sampler Custom. The level is mapped by signal-to-noise ratio, not by number: 0.2, 0.3 and "
            "0.6 correspond to 0.26, 0.419 and 0.84 of Stable Diffusion's steps.",
            search_aliases=["gen2res", "sdedit", "denoise", "sigmas", "scheduler"],
            inputs=[
                sockets.denoise_input(
                    default=0.2,
                    min=0.001,
                    tooltip="Noise level in the paper's linear schedule of 1000 steps: 0.2 for faces of 256x256, 0.3 for "
                    "512x512, 0.6 for a generative album.",
                ),
                io.Int.Input(
                    "steps", default=50, min=1, max=1000, tooltip="Number of sampling steps used to remove the noise."
                ),
                io.Image.Input(
                    "damaged",
                    optional=True,
                    tooltip="With truth: the report says how far apart both still are under the noise.",
                ),
                io.Image.Input("truth", optional=True, tooltip="The undamaged original of damaged."),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="Sigmas from the added noise level down to 0."),
                io.String.Output(
                    display_name="report",
                    tooltip="What this much noise hides (equation 3 of the paper's supplement) and leaves open (equation 5).",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, denoise: float, steps: int, damaged: torch.Tensor | None = None, truth: torch.Tensor | None = None
    ) -> io.NodeOutput:
        latent, count = stable_diffusion_schedule(), noise_steps(denoise)
        spaced, times = latent.spaced(latent.steps_as_noisy_as(linear_schedule(), count), steps)
        return io.NodeOutput(spaced.sigmas(len(times)), describe_noise(count, damaged, truth))


def describe_noise(count: int, damaged: torch.Tensor | None, truth: torch.Tensor | None) -> str:
    """Equations 3 and 5 after ``count`` steps in words; of two pictures ``[B, H, W, 3]`` in 0..1, the mean of equation 3."""
    schedule = linear_schedule()
    words = [f"{count} of 1000 steps of noise: sigma {schedule.sigma(count):.3f}"]
    words.append(f"entropy of the noisy pictures {schedule.entropy(count):.3f} per value (equation 5)")
    if damaged is None or truth is None:
        words.append(
            f"divergence {schedule.divergence(count):.4f} times the squared difference of the pictures (equation 3)"
        )
    elif damaged.shape != truth.shape:
        raise UserError("Denoise to Sigmas: damaged and truth differ in size. Both must show the same, pixel by pixel.")
    else:
        apart = schedule.divergence(count) * float((2 * (damaged - truth)).square().mean())
        words.append(f"divergence of damaged and true picture {apart:.5f} per value (equation 3)")
    return "; ".join(words) + "."

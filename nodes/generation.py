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
from . import sockets
from .layout import to_image, to_photos


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
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="The album, for the images input of Train Persona.")
            ],
        )

    @classmethod
    def execute(
        cls, restorer: Any, image: torch.Tensor, count: int, skip_guidance: float, every: int, seed: int
    ) -> io.NodeOutput:
        require("Generative Album", "diffusion")
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
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="Sigmas from the added noise level down to 0.")],
        )

    @classmethod
    def execute(cls, denoise: float, steps: int) -> io.NodeOutput:
        latent = stable_diffusion_schedule()
        spaced, times = latent.spaced(latent.steps_as_noisy_as(linear_schedule(), noise_steps(denoise)), steps)
        return io.NodeOutput(spaced.sigmas(len(times)))

"""Restoration by Generation in the graph: an album of the damaged face itself, and its amount of noise for core's samplers."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ..lib.bridge import io, progress
from ..lib.diffusion.noise_schedule import linear_schedule, stable_diffusion_schedule
from ..lib.vocabulary import Conditions, Restorer, UserError
from . import sockets
from .layout import to_image, to_photos


class GenerativeAlbum(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_GenerativeAlbum",
            display_name="Generative Album",
            category=sockets.CATEGORY,
            description="Makes pictures like one damaged face, where there is no album: much noise, taken away again while every so "
            "often a push towards the damaged face keeps it in sight (skip guidance). Train Persona learns from them as from photographs.",
            search_aliases=["gen2res", "skip guidance", "single image", "anchors"],
            inputs=[
                sockets.Restorer.Input(
                    "restorer", tooltip="Diffusion Restorer with control 0, or Restoration by Generation."
                ),
                io.Image.Input("image", tooltip="The damaged face, aligned: Faces to Images hands it out."),
                io.Int.Input("count", default=16, min=1, max=64, tooltip="How many pictures. The paper has 16."),
                io.Float.Input(
                    "guidance",
                    default=0.3,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How far each push goes. 0.3 as published for 256x256.",
                ),
                io.Int.Input(
                    "every",
                    default=20,
                    min=0,
                    max=1000,
                    tooltip="A push after every so many steps of noise. Too often and the pictures become as bad as the damaged one; too "
                    "seldom, or never with 0, and they become strangers.",
                ),
                sockets.seed("Of the first picture; the others count up from it."),
            ],
            outputs=[io.Image.Output(display_name="images", tooltip="The album, for the images of Train Persona.")],
        )

    @classmethod
    def execute(
        cls, restorer: Restorer, image: torch.Tensor, count: int, guidance: float, every: int, seed: int
    ) -> io.NodeOutput:
        # Here and not above: diffusers takes seconds to import.
        from ..models.gen2res.generation import SkipGuidance, generative_album

        if not hasattr(restorer, "guidance") or not hasattr(restorer, "steps"):
            raise UserError(
                f"Generative Album: {restorer.name!r} does not generate. Connect a Diffusion Restorer or Restoration by Generation."
            )
        guided, face, side = (
            replace(restorer, guidance=SkipGuidance(guidance, every)),
            to_photos(image[:1]),
            restorer.native_size,
        )
        if side is not None and face.shape[-2:] != (side, side):
            face = F.interpolate(face, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        album = generative_album(guided, face, Conditions(seed=seed, progress=progress()), count)
        return io.NodeOutput(to_image(album))


class NoiseToSigmas(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_NoiseToSigmas",
            display_name="Noise Steps to Sigmas",
            category=sockets.CATEGORY,
            description="How much noise Restoration by Generation adds, as sigmas for a Stable Diffusion model in core's Sampler Custom: "
            "mapped by signal-to-noise ratio, not by number (200, 300 and 600 steps are 260, 419 and 840 of Stable Diffusion's).",
            search_aliases=["gen2res", "sdedit", "denoise", "sigmas", "scheduler"],
            inputs=[
                io.Int.Input(
                    "noise_steps",
                    default=200,
                    min=1,
                    max=1000,
                    tooltip="Of the paper's linear schedule: 200 for faces of 256x256, 300 for 512x512, 600 for a generative album.",
                ),
                io.Int.Input("samples", default=50, min=1, max=1000, tooltip="In how many strides it is taken away."),
            ],
            outputs=[io.Sigmas.Output(display_name="sigmas", tooltip="From the noise that is added down to 0.")],
        )

    @classmethod
    def execute(cls, noise_steps: int, samples: int) -> io.NodeOutput:
        latent = stable_diffusion_schedule()
        spaced, times = latent.spaced(latent.steps_as_noisy_as(linear_schedule(), noise_steps), samples)
        return io.NodeOutput(spaced.sigmas(len(times)))

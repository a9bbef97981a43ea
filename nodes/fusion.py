"""Putting the parts together."""

from __future__ import annotations

import torch

from ..lib.bridge import io, models_folder
from ..lib.fusion.compose import compose_faces
from ..lib.pictures.color import color_fix
from ..lib.vocabulary import Faces, UserError
from ..models.ransacflow.network import find_networks
from . import sockets
from .layout import to_image, to_photos


class BlendFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_BlendFaces",
            display_name="Blend Faces into Scene",
            category=sockets.CATEGORY,
            description="Puts restored faces back where they came from by context-aware pyramid blending, so that nobody sees where they "
            "meet the scene. The scene may be larger than the photograph by a whole factor.",
            search_aliases=["paste faces", "composite", "laplacian pyramid", "perfuse"],
            inputs=[
                io.Image.Input(
                    "scene", tooltip="The restored scene (or the photograph itself, to restore faces only)."
                ),
                sockets.Faces.Input("faces", tooltip="Restored faces. Faces without a restoration are left out."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 gives the scene back bit for bit, 1 takes the restored faces whole.",
                ),
                io.String.Input(
                    "per_face",
                    default="",
                    tooltip="Another strength for single faces: '0=0.5, 2=0'. Numbers count faces in reading order from 0.",
                ),
                io.Combo.Input(
                    "context",
                    options=["target", "lq", "reflect", "off"],
                    default="target",
                    advanced=True,
                    tooltip="What surrounds a face crop before its pyramid is built. target: the scene. lq: the photograph (connect it). "
                    "reflect: the crop mirrored. off: nothing, which leaves the dark band of the paper's figure S1.",
                ),
                io.Combo.Input(
                    "color",
                    options=["wavelet", "adain", "none"],
                    default="wavelet",
                    tooltip="Gives a face the colours of the scene: wavelet keeps its detail and takes the scene's low frequencies, adain "
                    "matches mean and spread, none leaves it as it was restored.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where faces may be pasted, in the photograph's or the scene's size; default: the face's own mask (Mask "
                    "Faces), or an oval.",
                ),
                io.Image.Input(
                    "photograph", optional=True, tooltip="The damaged photograph; needed for context 'lq' only."
                ),
                io.Boolean.Input(
                    "fine_align",
                    default=False,
                    optional=True,
                    tooltip="Bends each face by the few pixels by which it disagrees with the scene, as restorers that draw a face anew "
                    "need it. A face is left as it is where that does not help.",
                ),
                io.Float.Input(
                    "grain",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Gives a face the fine noise that the scene around it has and it lacks, so that it does not look too clean; "
                    "1 matches the scene, 0 adds none.",
                ),
                sockets.seed("Of the grain: same seed, same noise.", optional=True),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The whole photograph, restored."),
                io.Mask.Output(display_name="mask", tooltip="Where faces were blended in."),
            ],
        )

    @classmethod
    def execute(
        cls,
        scene: torch.Tensor,
        faces: Faces,
        strength: float,
        per_face: str,
        context: str,
        color: str,
        mask: torch.Tensor | None = None,
        photograph: torch.Tensor | None = None,
        fine_align: bool = False,
        grain: float = 0.0,
        seed: int = 0,
    ) -> io.NodeOutput:
        out, used = compose_faces(
            to_photos(scene),
            faces,
            strength=strength,
            per_face=per_face,
            context=context,
            color=color,
            mask=None if mask is None else mask.cpu(),
            photos=None if photograph is None else to_photos(photograph),
            align=fine_align,
            networks=find_networks(models_folder()) if fine_align else None,
            grain=grain,
            seed=seed,
        )
        return io.NodeOutput(to_image(out), used)


class ColorFix(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_ColorFix",
            display_name="Color Fix",
            category=sockets.CATEGORY,
            description="Gives a restored picture the colours of the original, as the published restorers do.",
            search_aliases=["wavelet color", "adain", "color match"],
            inputs=[
                io.Image.Input("image", tooltip="The restored picture: its detail is kept."),
                io.Image.Input("colors_of", tooltip="The picture that has the right colours, of the same size."),
                io.Combo.Input(
                    "method",
                    options=["wavelet", "adain"],
                    default="wavelet",
                    tooltip="wavelet takes the low frequencies, adain mean and spread.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture with the other's colours.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, colors_of: torch.Tensor, method: str) -> io.NodeOutput:
        if image.shape[:-1] != colors_of.shape[:-1] and method == "wavelet":
            raise UserError(
                "Color Fix: both images must have the same size for 'wavelet'; scale one of them or choose 'adain'."
            )
        return io.NodeOutput(to_image(color_fix(to_photos(image), to_photos(colors_of), method).clamp(0, 1)))

"""Nodes that put faces and scene together."""

from __future__ import annotations

import torch

from ..lib.bridge import io, progress, weight_folders
from ..lib.fusion.compose import compose_faces
from ..lib.pictures.color import color_fix
from ..lib.vocabulary import Faces, UserError
from ..models.ransacflow.network import find_networks
from . import sockets
from .layout import check_numbers, to_image, to_photos


class BlendFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_BlendFaces",
            display_name="Blend Faces into Scene",
            category=sockets.SCENE,
            description="Blends restored faces back into the scene with context-aware pyramid blending, without "
            "visible seams. The scene may be larger than the photograph by a whole factor.",
            search_aliases=["paste faces", "composite", "laplacian pyramid", "perfuse"],
            inputs=[
                io.Image.Input(
                    "scene", tooltip="The restored scene, or the photograph itself to restore only the faces."
                ),
                sockets.Faces.Input("faces", tooltip="Restored faces. Faces that have not been restored are skipped."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 returns the scene unchanged, bit for bit. 1 uses the restored faces fully.",
                ),
                io.String.Input(
                    "per_face",
                    default="",
                    tooltip="A different strength for individual faces, for example '0=0.5, 2=0'. Faces are numbered "
                    "from 0 in reading order.",
                ),
                io.Combo.Input(
                    "context",
                    options=["target", "lq", "reflect", "off"],
                    default="target",
                    advanced=True,
                    tooltip="What surrounds the face crop when its pyramid is built. target: the scene. lq: the "
                    "photograph (must be connected). reflect: the mirrored crop. off: nothing, which leaves the dark "
                    "band shown in figure S1 of the paper.",
                ),
                io.Combo.Input(
                    "color",
                    options=["wavelet", "adain", "none"],
                    default="wavelet",
                    tooltip="Matches the colors of each face to the scene. wavelet keeps the detail of the face and "
                    "uses the low frequencies of the scene. adain matches mean and standard deviation. none leaves "
                    "the restored face unchanged.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where faces may be blended in, at the size of the photograph or of the scene. Default: "
                    "the mask of each face from Mask Faces, or an oval.",
                ),
                io.Image.Input(
                    "photograph", optional=True, tooltip="The damaged photograph. Needed only for context 'lq'."
                ),
                io.Boolean.Input(
                    "fine_align",
                    default=False,
                    optional=True,
                    tooltip="Warps each face by a few pixels to align it with the scene, as Align Faces to Scene and Apply Warp do. "
                    "Restorers that generate a new face need this. If it does not help, the face is left unchanged.",
                ),
                sockets.share_input(
                    "grain",
                    default=0.0,
                    optional=True,
                    tooltip="Adds the fine noise of the surrounding scene to each face, so that the face does not "
                    "look too clean. 1 matches the scene, 0 adds none.",
                ),
                sockets.seed("Seed for the grain. The same seed gives the same noise.", optional=True),
                io.Int.Input(
                    "levels",
                    default=3,
                    min=1,
                    max=8,
                    optional=True,
                    advanced=True,
                    tooltip="Levels of the pyramids. 3, as in the paper. More of them blend colors over a wider border.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The whole photograph, restored."),
                io.Mask.Output(display_name="mask", tooltip="The areas where faces were blended in."),
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
        levels: int = 3,
    ) -> io.NodeOutput:
        if mask is not None:
            check_numbers(mask, "The mask")
        out, used = compose_faces(
            to_photos(scene),
            faces,
            strength=strength,
            per_face=per_face,
            context=context,
            levels=levels,
            color=color,
            mask=None if mask is None else mask.cpu(),
            photos=None if photograph is None else to_photos(photograph),
            align=fine_align,
            networks=find_networks(weight_folders("personal_restore")) if fine_align else None,
            grain=grain,
            seed=seed,
            progress=progress(),
        )
        return io.NodeOutput(to_image(out), used)


class ColorFix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ColorFix",
            display_name="Color Fix",
            category=sockets.SCENE,
            description="Matches the colors of a restored picture to the original, as the published restorers do.",
            search_aliases=["wavelet color", "adain", "color match"],
            inputs=[
                io.Image.Input("image", tooltip="The restored picture. Its detail is kept."),
                io.Image.Input("colors_of", tooltip="The picture with the correct colors, at the same size."),
                io.Combo.Input(
                    "method",
                    options=["wavelet", "adain"],
                    default="wavelet",
                    tooltip="wavelet transfers the low frequencies; adain transfers mean and standard deviation.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The picture with the transferred colors.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, colors_of: torch.Tensor, method: str) -> io.NodeOutput:
        if image.shape[:-1] != colors_of.shape[:-1] and method == "wavelet":
            raise UserError(
                "Color Fix: both images must have the same size for 'wavelet'. Scale one of them, or choose 'adain'."
            )
        fixed, told, out = to_photos(image), progress(), torch.empty(image.shape[0], *image.shape[1:3], 3)
        style = to_photos(colors_of)
        for number, photo in enumerate(fixed.split(1)):
            own = style[min(number, len(style) - 1)][None]
            out[number] = to_image(color_fix(photo, own, method).clamp(0, 1))[0]
            told(number + 1, len(fixed))
        return io.NodeOutput(out)

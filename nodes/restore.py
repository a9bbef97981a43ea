"""Restorers, and bringing them to faces and scenes."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..lib.bridge import io, keep, keep_upscaler, preview_side, progress, weight_folders
from ..lib.faces.match import choose
from ..lib.restoring.apply import restore_faces, restore_scene
from ..lib.restoring.preview import Preview
from ..lib.vocabulary import Conditions, DegradationCode, Faces, Library, Restorer
from ..models.embedded import ready as embedded
from ..models.embedded.reference_restorer import ReferenceRestorer
from ..models.shared.catalogue import find
from ..models.upscale.restorer import UpscalerRestorer
from . import sockets
from .layout import check_same_photos, to_image, to_photos

SEED = "Same seed, same result. Restorers that draw nothing ignore it."


class EmbeddedRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_EmbeddedRestorer",
            display_name="Embedded Restorer",
            category=sockets.CATEGORY,
            description="The small one-step restorer that comes with the pack. It works for whole scenes and for faces, and listens "
            "to a degradation code.",
            search_aliases=["denoise", "deblur", "jpeg artifacts", "restorer", "cfg"],
            inputs=[
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Above 1 the restorer also says what the damaged picture is to it, and goes on in the direction away from "
                    "that: crisper, less faithful, twice the time. The paper uses 1.10 for its large model.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores any picture at its own scale.")
            ],
        )

    @classmethod
    def execute(cls, guidance: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(replace(embedded.restorer(keep), guidance=guidance))


class RestorationByGeneration(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_GenerationRestorer",
            display_name="Restoration by Generation",
            category=sockets.CATEGORY,
            description="Adds noise to a face until the damage is drowned and generates it anew from a model of faces (gen2res; its "
            "weights base_256.pt are for research only and belong in models/personal_restore). Needs a graphics card to be bearable.",
            search_aliases=["gen2res", "generative prior", "diffusion", "adm"],
            inputs=[
                io.Int.Input(
                    "noise_steps",
                    default=200,
                    min=0,
                    max=1000,
                    tooltip="How much noise is added and removed again, of 1000 steps. More drowns worse damage and keeps less of "
                    "the person.",
                ),
                sockets.skip_guidance(),
            ],
            outputs=[
                sockets.Restorer.Output(
                    display_name="restorer",
                    tooltip="Restores faces, and is a base of Train Persona (method album) and Apply Persona.",
                )
            ],
        )

    @classmethod
    def execute(cls, noise_steps: int, guidance: float) -> io.NodeOutput:
        # Here and not above: diffusers takes seconds to import.
        from ..lib.storage.fingerprint import fingerprint
        from ..models.gen2res.adm_unet import load_adm_unet
        from ..models.gen2res.generation import SkipGuidance, generation
        from ..models.gen2res.pixel_diffusion import PixelDiffusion

        net = PixelDiffusion(load_adm_unet(find("gen2res-256", weight_folders("personal_restore"))))
        base = f"gen2res-256 {fingerprint(net)}"
        pull = SkipGuidance(scale=guidance) if guidance else None
        return io.NodeOutput(generation(keep(net), base, net.native_size, noise_steps, pull))


class ReferenceDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_ReferenceRestorer",
            display_name="Reference Restorer",
            category=sockets.CATEGORY,
            description="Brings fine detail from the best-matching album picture into a face, only where the two agree; needs no "
            "weights. Put it behind a restorer that has cleaned the face.",
            search_aliases=["reference face", "identity", "album detail"],
            inputs=[
                io.Float.Input(
                    "agreement",
                    default=0.85,
                    min=0.3,
                    max=0.95,
                    step=0.05,
                    advanced=True,
                    tooltip="How alike face and album must look at a place for detail to be taken. Lower takes more and risks more.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores faces of people in the library.")
            ],
        )

    @classmethod
    def execute(cls, agreement: float) -> io.NodeOutput:
        return io.NodeOutput(ReferenceRestorer(agreement))


class UpscaleModelRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_UpscaleModelRestorer",
            display_name="Restorer from Upscale Model",
            category=sockets.CATEGORY,
            description="Any model of core's Load Upscale Model as a restorer: Real-ESRGAN and SwinIR for scenes, GFPGAN, "
            "CodeFormer or RestoreFormer for faces.",
            search_aliases=["gfpgan", "esrgan", "codeformer", "upscaler"],
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="From core's Load Upscale Model."),
                io.Boolean.Input(
                    "aligned_faces",
                    default=False,
                    tooltip="On for face models such as GFPGAN, which want aligned crops of 512x512; off for everything else.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores with that model, at its scale.")
            ],
        )

    @classmethod
    def execute(cls, upscale_model, aligned_faces: bool) -> io.NodeOutput:
        return io.NodeOutput(
            UpscalerRestorer(
                keep_upscaler(upscale_model),
                type(upscale_model.model).__name__,
                upscale_model.scale,
                native_size=512 if aligned_faces else None,
                tileable=not aligned_faces,
            )
        )


class RestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_RestoreFaces",
            display_name="Restore Faces",
            category=sockets.CATEGORY,
            description="Brings a restorer to every face. Several in a row refine each other: first one that cleans, then one that "
            "knows the person. A face that the restorer can do nothing for stays as it was.",
            search_aliases=["face restoration", "face detailer"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph that the faces were found in."),
                sockets.Faces.Input("faces", tooltip="Faces, matched to people if the restorer uses an album."),
                sockets.Restorer.Input("restorer", tooltip="Any restorer."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 leaves the faces as they were, 1 takes the restoration whole.",
                ),
                sockets.seed(SEED),
                sockets.Library.Input(
                    "library", optional=True, tooltip="The albums, for restorers that use references."
                ),
                sockets.Code.Input(
                    "code", optional=True, tooltip="What is known about the damage, for restorers that listen to it."
                ),
                io.String.Input(
                    "people",
                    default="",
                    optional=True,
                    tooltip="Whose faces: names with commas between them, 'known' for everybody in the library, 'strangers' for the "
                    "others; empty means all. With one Restore Faces after another, everybody gets a restorer and a strength of their own.",
                ),
            ],
            outputs=[sockets.Faces.Output(display_name="faces", tooltip="The same faces with restored crops.")],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        faces: Faces,
        restorer: Restorer,
        strength: float,
        seed: int,
        library: Library | None = None,
        code: DegradationCode | None = None,
        people: str = "",
    ) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Restore Faces", photos, faces)
        names = {face.person for frame in faces.frames for face in frame if face.person}
        names |= {person.name for person in library.people} if library else set()
        view = Preview(photos, progress(), preview_side())
        restored = restore_faces(
            photos,
            faces,
            restorer,
            library or Library(),
            strength=strength,
            seed=seed,
            code=code,
            wanted=choose(people, sorted(names), complete=library is not None),
            progress=view.progress,
            show=view.face,
        )
        return io.NodeOutput(restored)


class RestoreScene(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_RestoreScene",
            display_name="Restore Scene",
            category=sockets.CATEGORY,
            description="Brings a restorer to the whole photograph, in tiles where it is large.",
            search_aliases=["denoise", "deblur", "upscale", "photo restoration"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph."),
                sockets.Restorer.Input("restorer", tooltip="Any restorer that works on whole pictures."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 gives the photograph back bit for bit, 1 takes the restoration whole.",
                ),
                sockets.seed(SEED),
                sockets.Code.Input(
                    "code",
                    optional=True,
                    tooltip="What a restored face revealed about the damage (Estimate Degradation). Without it the restorer judges alone.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The restored photograph, at the restorer's scale.")
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        restorer: Restorer,
        strength: float,
        seed: int,
        code: DegradationCode | None = None,
    ) -> io.NodeOutput:
        photos = to_photos(image)
        view = Preview(photos, progress(), preview_side(), restorer.scale)
        conditions = Conditions(code=code, seed=seed, progress=view.progress, show=view.part)
        return io.NodeOutput(to_image(restore_scene(photos, restorer, conditions, strength)))

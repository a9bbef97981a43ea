"""Restorer nodes, and nodes that apply restorers to faces and scenes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..lib.bridge import io, keep, keep_upscaler, preview_side, progress, tell
from ..lib.faces.match import chosen_people
from ..lib.restoring.apply import restore_faces, restore_scene
from ..lib.restoring.preview import Preview
from ..lib.vocabulary import Conditions, DegradationCode, Faces, Library, Restorer
from ..models.album import ready as album
from ..models.embedded import ready as embedded
from ..models.upscale.restorer import UpscalerRestorer
from . import sockets
from .layout import check_same_photos, to_image, to_photos

# Of the older input that "trust" replaced: this value asks for nothing special.
NEUTRAL_AGREEMENT = 0.85
EVERY_FACE, LARGEST_FACE = "every face", "the largest"
SEED = "The same seed gives the same result. Restorers without randomness ignore it."


class EmbeddedRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_EmbeddedRestorer",
            display_name="Embedded Restorer",
            category=sockets.RESTORERS,
            description="The small one-step restorer that ships with the pack. It works for whole scenes and for "
            "faces, and supports degradation codes.",
            search_aliases=["denoise", "deblur", "jpeg artifacts", "restorer", "cfg"],
            inputs=[
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=1.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Above 1, the restorer also predicts the damaged picture and moves away from it. The "
                    "result is sharper but less faithful and takes twice the time. The paper uses 1.10 for its large "
                    "model.",
                ),
            ],
            outputs=[sockets.restorer_output("Restores any picture at its own scale.")],
        )

    @classmethod
    def execute(cls, cfg: float = 1.0) -> io.NodeOutput:
        return io.NodeOutput(replace(embedded.restorer(keep), cfg=cfg))


class ReferenceDetail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ReferenceRestorer",
            display_name="Reference Restorer",
            category=sockets.RESTORERS,
            description="Replaces the detail that the damage destroyed in a known face with detail from the person's album. Every album "
            "picture is turned to the pose of the face. What the photograph still shows stays. Place it after a restorer that has cleaned "
            "the face.",
            search_aliases=["reference face", "identity", "album detail", "likeness"],
            inputs=[
                io.Float.Input(
                    "agreement",
                    default=NEUTRAL_AGREEMENT,
                    min=0.3,
                    max=0.95,
                    step=0.05,
                    advanced=True,
                    tooltip="How closely face and album must agree locally before detail is used. Lower values use more detail with more "
                    "risk. Workflows from before 'trust' use it; in new ones, leave it alone and set 'trust'.",
                ),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    optional=True,
                    tooltip="0 leaves the face unchanged, 1 applies the album detail fully.",
                ),
                sockets.share_input(
                    "trust",
                    default=0.5,
                    optional=True,
                    tooltip="0 stays closest to the evidence in the photograph, 1 is most like the album.",
                ),
                io.Combo.Input(
                    "gate",
                    options=["learned", "rules"],
                    default="learned",
                    optional=True,
                    advanced=True,
                    tooltip="What decides where the album is used: a small network, or fixed rules about agreement and confidence.",
                ),
            ],
            outputs=[sockets.restorer_output("Restores faces of people in the library.")],
        )

    @classmethod
    def execute(
        cls, agreement: float, strength: float = 1.0, trust: float = 0.5, gate: str = "learned"
    ) -> io.NodeOutput:
        trust = min(max(trust + NEUTRAL_AGREEMENT - agreement, 0.0), 1.0)
        restorer = replace(album.restorer(keep), trust=trust, strength=strength)
        return io.NodeOutput(replace(restorer, load=None) if gate == "rules" else restorer)


class UpscaleModelRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_UpscaleModelRestorer",
            display_name="Restorer from Upscale Model",
            category=sockets.RESTORERS,
            description="Uses any model from core's Load Upscale Model as a restorer: Real-ESRGAN and SwinIR for "
            "scenes; GFPGAN, CodeFormer or RestoreFormer for faces.",
            search_aliases=["gfpgan", "esrgan", "codeformer", "upscaler"],
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="A model from core's Load Upscale Model."),
                io.Boolean.Input(
                    "aligned_faces",
                    default=False,
                    tooltip="Turn this on for face models such as GFPGAN, which need aligned crops of 512x512. Leave "
                    "it off for all other models.",
                ),
            ],
            outputs=[sockets.restorer_output("Restores with this model, at its scale.")],
        )

    @classmethod
    def execute(cls, upscale_model: Any, aligned_faces: bool) -> io.NodeOutput:
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
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_RestoreFaces",
            display_name="Restore Faces",
            category=sockets.FACES,
            description="Applies a restorer to every face. Chain several of these nodes to refine the result: first a "
            "restorer that cleans, then one that knows the person. A face that the restorer cannot handle stays "
            "unchanged.",
            search_aliases=["face restoration", "face detailer"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="Faces, matched to people if the restorer uses an album."),
                sockets.Restorer.Input("restorer", tooltip="Any restorer."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 leaves the faces unchanged. 1 applies the full restoration.",
                ),
                sockets.seed(SEED),
                sockets.Library.Input(
                    "library", optional=True, tooltip="The albums, for restorers that use reference pictures."
                ),
                sockets.Code.Input(
                    "code", optional=True, tooltip="The estimated damage, for restorers that support degradation codes."
                ),
                io.String.Input(
                    "people",
                    default="",
                    optional=True,
                    tooltip="Whose faces to restore: names separated by commas, 'known' for everyone in the library, "
                    "or 'strangers' for everyone else. Empty means all faces. Chain several Restore Faces nodes to "
                    "give each person an individual restorer and strength.",
                ),
                io.Combo.Input(
                    "which",
                    options=[EVERY_FACE, LARGEST_FACE],
                    default=EVERY_FACE,
                    optional=True,
                    advanced=True,
                    tooltip="the largest: only that face of each photograph from which Face Pair and Estimate Degradation read the damage. "
                    "It saves time where nothing else is done with the restored faces.",
                ),
                io.Image.Input(
                    "scene",
                    optional=True,
                    tooltip="The photograph as Restore Scene has restored it with the same restorer at strength 1. The faces are cut out "
                    "of it instead of being restored again, which saves time where there are many.",
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
        which: str = EVERY_FACE,
        scene: torch.Tensor | None = None,
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
            wanted=chosen_people(people, sorted(names), complete=library is not None),
            only_largest=which == LARGEST_FACE,
            scenes=None if scene is None else to_photos(scene),
            progress=view.progress,
            show=view.face,
        )
        used = described_restorer(restorer, faces, restored, people) + (
            "" if scene is None else ", cut out of the scene"
        )
        tell(used)
        return io.NodeOutput(restored.after("face restorers", used))


def described_restorer(restorer: Restorer, before: Faces, after: Faces, people: str) -> str:
    """Which restorer was used for whom, and on how many of the faces."""
    pairs = zip(before.frames, after.frames, strict=True)
    count = sum(new is not old for frames in pairs for old, new in zip(*frames, strict=True))
    return f"{restorer.name} for {people.strip() or 'everybody'}, {count} of {len(before)} faces"


class RestoreScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_RestoreScene",
            display_name="Restore Scene",
            category=sockets.SCENE,
            description="Applies a restorer to the whole photograph. Large photographs are processed in tiles, and the photographs of a "
            "batch one after the other.",
            search_aliases=["denoise", "deblur", "upscale", "photo restoration"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph."),
                sockets.Restorer.Input("restorer", tooltip="Any restorer that works on whole pictures."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 returns the photograph unchanged, bit for bit. 1 applies the full restoration.",
                ),
                sockets.seed(SEED),
                sockets.Code.Input(
                    "code",
                    optional=True,
                    tooltip="The damage that a restored face revealed, from MapNet or Estimate Degradation. Without it, the "
                    "restorer works blind.",
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
        conditions = Conditions(code=code, seed=seed, progress=view.progress)
        return io.NodeOutput(to_image(restore_scene(photos, restorer, conditions, strength, view.part)))

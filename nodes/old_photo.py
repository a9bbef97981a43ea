"""Nodes for photographs of old prints: where they are damaged, and what belongs there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..lib.bridge import io, keep, progress
from ..lib.vocabulary import Faces, Library, UserError
from ..models.old_photo import ready
from ..models.old_photo.apply import THRESHOLD, fill_damage, find_damage, mask_of
from ..models.old_photo.known_faces import fill_known_faces
from . import sockets
from .layout import check_numbers, check_same_photos, to_image, to_photos

RED = 0.9, 0.1, 0.1


class DamageMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_DamageMask",
            display_name="Damage Mask",
            category=sockets.SCENE,
            description="Finds where a scanned print is damaged in places: scratches, hairs, folds, cracks, dust, spots and missing "
            "corners. Fading, grain and blur, which are everywhere, are not marked.",
            search_aliases=["scratch detection", "old photo", "dust", "crack", "inpaint mask"],
            inputs=[
                io.Image.Input("image", tooltip="The scanned photograph, at the size in which it was scanned."),
                io.Float.Input(
                    "threshold",
                    default=THRESHOLD,
                    min=0.02,
                    max=0.98,
                    step=0.02,
                    tooltip="How sure the finder has to be. Lower values find fainter damage, and sometimes hair, wires or writing.",
                ),
                io.Int.Input(
                    "grow",
                    default=1,
                    min=0,
                    max=64,
                    tooltip="By how many pixels the found places are widened, so that no rim of the damage is left.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="White where the photograph is damaged."),
                io.Image.Output(display_name="shown", tooltip="The photograph, with the found places in red."),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, threshold: float, grow: int) -> io.NodeOutput:
        photos, told, masks = to_photos(image), progress(), []
        for number, photo in enumerate(photos.split(1)):
            found = find_damage(photo, ready.finder(keep), _steps(told, number, len(photos)))
            masks.append(mask_of(found, threshold, grow))
        mask = torch.cat(masks)
        return io.NodeOutput(
            mask[:, 0], to_image(torch.lerp(photos, photos.new_tensor(RED)[:, None, None], 0.8 * mask))
        )


class FillDamage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FillDamage",
            display_name="Fill Damage",
            category=sockets.SCENE,
            description="Fills the masked places of a photograph from what surrounds them, in one step. Made for scratches, cracks and "
            "spots; of what was in a large hole it knows nothing. All other pixels stay as they are.",
            search_aliases=["inpaint", "scratch removal", "old photo", "remove dust", "heal"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph."),
                io.Mask.Input(
                    "mask",
                    tooltip="White where it is damaged: from Damage Mask, from the mask editor, or both combined. One for all photographs, "
                    "or one each.",
                ),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 leaves the photograph unchanged, 1 fills the masked places completely.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The photograph with filled places.")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, mask: torch.Tensor, strength: float) -> io.NodeOutput:
        photos = to_photos(image)
        masks, told, filled = masks_of("Fill Damage", mask, photos), progress(), []
        for number, (photo, own) in enumerate(zip(photos.split(1), masks.split(1), strict=True)):
            steps = _steps(told, number, len(photos))
            filled.append(fill_damage(photo, own, strength, ready.filler(keep), steps))
        return io.NodeOutput(to_image(torch.cat(filled)))


class FillKnownFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FillKnownFaces",
            display_name="Fill Known Faces",
            category=sockets.FACES,
            description="Fills the masked places of known faces with what the person's album shows there, in the light of the photograph. "
            "Place it after Fill Damage and Match Faces. Strangers, and all other pixels, stay as they are.",
            search_aliases=["inpaint face", "old photo", "scratch removal", "album"],
            inputs=[
                io.Image.Input("image", tooltip="The photograph after Fill Damage."),
                io.Mask.Input("mask", tooltip="The mask that was filled."),
                sockets.Faces.Input("faces", tooltip="The faces of that image, matched to people."),
                sockets.Library.Input("library", tooltip="The known people."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 leaves the faces unchanged, 1 takes as much from the album as fits.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The photograph with filled faces."),
                sockets.Faces.Output(display_name="faces", tooltip="The same faces, as they are now."),
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, mask: torch.Tensor, faces: Faces, library: Library, strength: float
    ) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Fill Known Faces", photos, faces)
        masks, told, filled, frames = masks_of("Fill Known Faces", mask, photos), progress(), [], []
        for number, (photo, own, frame) in enumerate(zip(photos, masks, faces.frames, strict=True)):
            done, again = fill_known_faces(photo, own, frame, library, strength)
            filled.append(done)
            frames.append(again)
            told(number + 1, len(photos))
        return io.NodeOutput(to_image(torch.stack(filled)), replace(faces, frames=tuple(frames)))


def masks_of(node: str, mask: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
    """MASK ``[H, W]``, ``[1, H, W]`` or ``[B, H, W]`` as ``[B, 1, H, W]`` in 0..1, one for each photograph. Raises UserError where they
    do not fit."""
    masks = mask if mask.ndim == 3 else mask[None]
    check_numbers(masks, f"{node}: the mask")
    if masks.shape[-2:] != photos.shape[-2:] or len(masks) not in (1, len(photos)):
        raise UserError(
            f"{node}: there are {len(masks)} mask(s) of {masks.shape[-1]}x{masks.shape[-2]} for {len(photos)} photograph(s) of "
            f"{photos.shape[-1]}x{photos.shape[-2]}. Provide one mask of that size for all of them, or one for each."
        )
    return masks.cpu().float().clamp(0, 1)[:, None].expand(len(photos), -1, -1, -1)


def _steps(told: Callable[..., None], number: int, count: int) -> Callable[[int, int], None]:
    """Progress of one photograph of a batch as that of the whole batch."""
    return lambda done, total: told(number * total + done, count * total)

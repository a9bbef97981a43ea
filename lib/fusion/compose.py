"""Composes all restored faces into one scene: warp, color fix, mask, blend."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..faces.align import warp
from ..faces.fine_align import Networks
from ..faces.paste import unwarp
from ..pictures.color import color_fix
from ..pictures.grain import add_grain
from ..vocabulary import Face, Faces, Size, UserError
from .blend import Patch, blend_faces
from .face_warps import align_faces, scale_of, warp_faces
from .mask import border_fade, own_mask

ALIKE = 0.025  # root mean square difference at which two places are hardly alike
DECIMAL = re.compile(r"\d{1,50}(\.\d{1,50})?|\.\d{1,50}")


def compose_faces(
    scenes: torch.Tensor,
    faces: Faces,
    *,
    strength: float = 1.0,
    per_face: str = "",
    context: str = "target",
    levels: int = 3,
    color: str = "wavelet",
    mask: torch.Tensor | None = None,
    photos: torch.Tensor | None = None,
    align: bool = False,
    networks: Networks | None = None,
    grain: float = 0.0,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scenes ``[B, 3, h, w]`` with every restored face blended in, and where that was: ``[B, h, w]`` in 0..1.

    The scene may be a whole multiple of the photograph's size: geometry is scaled once, nothing is resampled twice. levels: of the
    pyramid, as in `blend_faces`. align: warp every face by a few pixels first, as `align_faces` finds it. mask: ``[B, H, W]`` in the
    photograph's or the scene's size, instead of the face's own mask. grain: 0..1, the share of the scene's noise that is added to a
    face that lacks it (``grain.py``); seed: of that noise. progress: called after every scene; may raise to cancel.
    Raises UserError for sizes that do not belong together and for ``per_face`` texts that cannot be read.
    """
    factor = scale_of(scenes, faces, "Blend Faces")
    chosen = parse_strengths(per_face, len(faces))
    size = (scenes.shape[-2], scenes.shape[-1])
    used = torch.zeros(len(scenes), *size)
    _check_count(mask, "mask", faces)
    _check_count(photos, "photograph", faces)
    if photos is not None:
        _check_size(photos, size, faces)
    if context == "lq" and photos is None:
        raise UserError(
            "Blend Faces: context 'lq' needs the damaged photograph. Connect it, or choose context 'target'."
        )
    if align:
        faces = warp_faces(faces, align_faces(scenes, faces, networks))
    # The one copy: with the scenes themselves, two full-size pictures are held.
    out, index = torch.empty_like(scenes), 0
    for number, (scene, frame) in enumerate(zip(scenes, faces.frames, strict=True)):
        patches = []
        own = None if mask is None else F.interpolate(_own(mask, number)[None].float(), size, mode="bilinear")[0]
        for face in frame:
            amount = strength * chosen.get(index, face.strength)
            index += 1
            if face.restored is None or amount == 0:
                continue
            patch = face_patch(scene, face, factor, amount, color, own)
            if grain:
                patch = grained(patch, scene, grain, seed + index)
            patches.append(patch)
            x0, y0, x1, y1 = patch.box
            region = used[number, y0:y1, x0:x1]
            torch.maximum(region, patch.mask[0] * patch.valid[0], out=region)
        around = _enlarged(_own(photos, number), size) if photos is not None and context == "lq" else None
        blend_faces(scene, patches, context=context, levels=levels, reference=around, out=out[number])
        progress(number + 1, len(scenes))
    return out, used


def face_patch(
    scene: torch.Tensor,
    face: Face,
    factor: int,
    amount: float,
    color: str,
    mask: torch.Tensor | None,
) -> Patch:
    """One face in the scene's frame, over the region that its crop covers. scene: ``[3, h, w]``.

    A crop is resampled twice until it is back. What the scene itself loses on that way is given to the face where both look alike.
    """
    similarity = face.similarity.scaled(factor) if factor != 1 else face.similarity
    own = warp(scene, similarity.matrix, (similarity.size, similarity.size))
    stack = torch.cat([face.best, own, face.valid, own_mask(face) if mask is None else border_fade(similarity.size)])
    region, valid, box = unwarp(stack, similarity, scene.shape[-2:])
    picture, again, known, inside = region[:3], region[3:6], region[6:7] * valid, region[7:8]
    x0, y0, x1, y1 = box
    below = scene[None, :, y0:y1, x0:x1]
    picture = (picture + alike(picture, again) * (below[0] - again)).clamp(0, 1)
    if color != "none":
        # Outside the crop's border there are no colors to transfer, so the scene is used there on both sides of the fix.
        filled = torch.lerp(below, picture[None], known)
        picture = color_fix(filled, below, color)[0].clamp(0, 1)
    if mask is not None:
        inside = inside * mask[:, y0:y1, x0:x1]
    return Patch(picture, inside * amount, known, box)


def alike(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How alike two pictures ``[3, h, w]`` are around each pixel, ``[1, h, w]``: 1 where they are the same, to 0."""
    squared = (a - b).square().mean(0, keepdim=True)
    return (-F.avg_pool2d(squared, 5, 1, 2, count_include_pad=False) / ALIKE**2).exp()


def grained(patch: Patch, scene: torch.Tensor, amount: float, seed: int) -> Patch:
    """The patch with the noise of the scene ``[3, h, w]`` that it lacks. The same seed gives the same noise."""
    x0, y0, x1, y1 = patch.box
    generator = torch.Generator().manual_seed(seed)
    region = add_grain(patch.region, scene[:, y0:y1, x0:x1], patch.valid, amount, generator)
    return replace(patch, region=region.clamp(0, 1))


def parse_strengths(text: str, count: int, where: str = "Blend Faces: per_face") -> dict[int, float]:
    """``'0=0.5, 2=0'`` to {0: .5, 2: 0.}. Raises UserError that names ``where`` and the part that cannot be read."""
    out = {}
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        number, _, value = (side.strip() for side in part.partition("="))
        shown = part if len(part) <= 200 else f"{part[:200]}..."
        if not number.isdecimal() or not DECIMAL.fullmatch(value) or not 0 <= float(value) <= 1:
            raise UserError(
                f"{where} contains {shown!r}. Write 'number=strength' with a strength from 0 to 1, for example '0=0.5'."
            )
        if len(number) > 9 or int(number) >= count:
            raise UserError(f"{where} names face {number[:200]}, but there are {count} (numbered from 0).")
        out[int(number)] = float(value)
    return out


def _check_count(given: torch.Tensor | None, name: str, faces: Faces) -> None:
    if given is not None and len(given) not in (1, len(faces.frames)):
        raise UserError(
            f"Blend Faces: {name} holds {len(given)} pictures, but there are {len(faces.frames)} photograph(s). "
            "Provide one for each."
        )


def _check_size(photos: torch.Tensor, size: Size, faces: Faces) -> None:
    if tuple(photos.shape[-2:]) not in (tuple(faces.size), size):
        raise UserError(
            f"Blend Faces: photograph is {photos.shape[-1]}x{photos.shape[-2]}, but the faces were found in "
            f"{faces.size[1]}x{faces.size[0]}. Connect the photograph in which they were detected."
        )


def _own(given: torch.Tensor, number: int) -> torch.Tensor:
    """That of photograph ``number``, ``[C, H, W]``: one of a batch, or the only one, which is for all of them."""
    one = given[number if len(given) > 1 else 0]
    return one if one.ndim == 3 else one[None]


def _enlarged(photo: torch.Tensor, size: Size) -> torch.Tensor:
    """``[3, H, W]`` in the size of the scene."""
    return photo if photo.shape[-2:] == size else F.interpolate(photo[None], size, mode="bicubic")[0].clamp(0, 1)

"""Lost frequencies from the album, kept frequencies from the photograph: fusion without anything trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .registration import Registered, gaussian_blur, luma_array

# How sharply the better album photograph wins at a place, per unit of agreement and confidence.
DECISION = 12.0
# Window of the decision, share of the crop's side: a part of the face comes from one photograph.
PATCH = 1 / 24
# Agreement from which on the album is believed at all, and wholly.
DOUBT, BELIEF = 0.0, 0.45
# The same for the mean over the face.
UNLIKE, LIKE = 0.15, 0.4
# And for what is taken without asking the learned gate: wrong albums lie at .68 in the median, a person's own at .77.
SURELY_UNLIKE, SURELY_LIKE = 0.45, 0.8
# From this certainty on, the part that is taken without asking it no longer grows.
CERTAIN = 0.7
# Bounds of the gain that gives the album's detail the contrast of the face.
GAIN = (0.5, 1.4)
GAIN_WINDOW = 12 / 128


def fuse_album(
    face: Tensor, references: Sequence[Registered], survives: Tensor, cutoff: float, parts: Tensor, trust: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The face ``[3, S, S]`` with what it lost from the album, and how much came from each reference ``[K, S, S]``, 0..1.

    face: after the scene restoration; survives: ``[P, P // 2 + 1]``, see ``survival``; cutoff: its blur in pixels;
    parts: ``[1, S, S]`` in 0..1, where the album may speak; trust: 0 stays closest to the evidence, 1 is most like the album.
    """
    weights = choose_patches(references)
    album = sum(weight * reference.picture for weight, reference in zip(weights, references, strict=True))
    agreement = sum(w * r.agreement for w, r in zip(weights, references, strict=True))
    confidence = sum(w * r.confidence for w, r in zip(weights, references, strict=True))
    # In a small window, chance alone agrees now and then: the whole face has to, too.
    whole = resemblance(references)
    doubt, belief = DOUBT + 0.3 * (0.5 - trust), BELIEF + 0.5 * (0.5 - trust)
    # Of what is believed, the careful take only a part.
    believed = (
        parts * confidence * ((agreement - doubt) / (belief - doubt)).clamp(0, 1) * whole * min(1.0, 0.6 + 0.8 * trust)
    )
    lost = 1 - survives
    detail = gain(face, filtered(album, survives), cutoff) * filtered(album, lost) - filtered(face, lost)
    return (face + believed * detail).clamp(0, 1), weights[:, 0] * believed


def with_lost_detail(face: Tensor, references: Sequence[Registered], survives: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The face ``[3, S, S]`` with all that it lost from the album; how much of that came from each reference ``[K, S, S]``, summing to
    1; and how sure it is that they show the same there, ``[1, S, S]`` in 0..1, 0 where the face as a whole is not like them.

    Half of the detail is the locally best reference's, half is the median of all, in which what only one shows is missing.
    """
    best = choose_patches(references)
    pictures = torch.stack([one.picture for one in references])
    album = ((best * pictures).sum(0) + pictures.quantile(0.5, 0)) / 2
    lost = 1 - survives
    confidence = sum(weight * one.confidence for weight, one in zip(best, references, strict=True))
    return (
        face + filtered(album - face, lost),
        (best[:, 0] + 1 / len(references)) / 2,
        resemblance(references, SURELY_UNLIKE, SURELY_LIKE) * confidence,
    )


def taken_unasked(
    face: Tensor, references: Sequence[Registered], survives: Tensor, parts: Tensor, trust: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What is taken from the album without asking the learned gate: the face ``[3, S, S]`` with all of it, the shares of the references
    in it ``[K, S, S]``, and which part of the result it is, ``[1, S, S]`` in 0..1: ``trust``, less where it is not certain.

    The gate was trained to err little, which keeps detail faint wherever the photograph says nothing.
    """
    detailed, origins, sure = with_lost_detail(face, references, survives)
    return detailed, origins * parts, trust * (sure / CERTAIN).clamp(max=1) * parts


def resemblance(references: Sequence[Registered], unlike: float = UNLIKE, like: float = LIKE) -> float:
    """How far the face as a whole is believed to be the album's, 0..1, by the album photograph that is most like it.

    unlike, like: agreement from which on it is believed at all, and wholly.
    """
    return min(max((max(one.likeness for one in references) - unlike) / (like - unlike), 0.0), 1.0)


def choose_patches(references: Sequence[Registered]) -> Tensor:
    """``[K, 1, S, S]``, summing to 1: which album photograph is taken where, in patches, the better ones sharply preferred."""
    side = references[0].picture.shape[-1]
    scores = []
    for one in references:
        score = (one.agreement * one.confidence)[0].numpy() + 0.5 * one.likeness
        scores.append(torch.from_numpy(gaussian_blur(np.ascontiguousarray(score), PATCH * side))[None])
    return (DECISION * torch.stack(scores)).softmax(0)


def gain(face: Tensor, album: Tensor, cutoff: float) -> Tensor:
    """``[1, S, S]``: contrast of the face for one of the album, in the finest frequencies that both have.

    album: with the face's damage, or the face would always seem to have less contrast.
    """
    side = face.shape[-1]

    def amplitude(picture: Tensor) -> np.ndarray:
        light = luma_array(picture)
        band = gaussian_blur(light, cutoff) - gaussian_blur(light, 3 * cutoff)
        return np.sqrt(gaussian_blur(band * band, GAIN_WINDOW * side) + 1e-6)

    return torch.from_numpy(np.clip(amplitude(face) / amplitude(album), *GAIN))[None]


def filtered(picture: Tensor, response: Tensor) -> Tensor:
    """``[C, S, S]`` with each frequency multiplied by a real ``response`` ``[P, P // 2 + 1]``, P >= S; reflected at the border."""
    side, size = picture.shape[-1], response.shape[0]
    before = (size - side) // 2
    padded = F.pad(picture[None], (before, size - side - before) * 2, mode="reflect")[0]
    return torch.fft.irfft2(torch.fft.rfft2(padded) * response, s=(size, size))[..., before:, before:][
        ..., :side, :side
    ]

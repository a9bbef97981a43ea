"""The payloads that travel between nodes, one frozen dataclass per socket.

Conventions, everywhere below the nodes:
- pictures are float32 tensors ``[B, 3, H, W]`` in 0..1, RGB; a single crop is ``[3, H, W]``;
- ComfyUI's ``[B, H, W, C]`` is converted once, in ``nodes/layout.py``;
- points are float64 arrays ``[N, 2]`` of (x, y) in pixels, pixel centers at integers;
- boxes are ``(x0, y0, x1, y1)`` in pixels of the photograph, x1 and y1 exclusive;
- five-point landmarks: left eye, right eye, nose, left and right mouth corner (left and right of the picture).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

Box = tuple[float, float, float, float]
Size = tuple[int, ...]  # (height, width), such as shape[-2:]


class UserError(ValueError):
    """An error that the user can fix. The message says what is wrong, where, and what to do."""


def inverted(matrix: np.ndarray) -> np.ndarray:
    """The inverse of an affine map, float64 ``[2, 3]``."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def enlargement(x: float, y: float) -> np.ndarray:
    """float64 ``[3, 3]``: the pixels of a picture to those of the same one ``x`` times as wide and ``y`` times as high."""
    # Pixel centers are integers, so that the two frames differ by half a pixel, too.
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1.0]])


@dataclass(frozen=True)
class Similarity:
    """Rotation, uniform scale and translation that maps photograph pixels to crop pixels.

    ``matrix`` is float64 ``[2, 3]``; ``size`` is the side of the square crop in pixels.
    """

    matrix: np.ndarray
    size: int

    @property
    def inverse(self) -> np.ndarray:
        """float64 ``[2, 3]``: crop pixels to photograph pixels."""
        return inverted(self.matrix)

    @property
    def scale(self) -> float:
        """Crop pixels per photograph pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def turn(self) -> float:
        """By how many degrees the crop is turned counterclockwise, -180..180."""
        return float(np.degrees(np.arctan2(self.matrix[0, 1], self.matrix[0, 0])))

    def scaled(self, factor: float) -> Similarity:
        """The same crop taken from a photograph enlarged by ``factor`` (geometry scaled, nothing resampled).

        Pixel centers are integers, so photograph coordinate x becomes ``factor * (x + .5) - .5``.
        """
        linear = self.matrix[:, :2] / factor
        shift = (factor - 1) / 2
        return replace(self, matrix=np.hstack([linear, self.matrix[:, 2:] - linear.sum(1, keepdims=True) * shift]))


@dataclass(frozen=True)
class Borrowed:
    """What a restored face owes to an album.

    names: of the pictures, as in ``Reference``; shares: ``[K, S, S]`` in 0..1, how much of the finest detail at each pixel of the
    face's crop came from each of them.
    """

    names: tuple[str, ...]
    shares: torch.Tensor

    def totals(self) -> dict[str, float]:
        """What share of the detail in the middle of the crop came from each picture, 0..1, largest first; below .5 % is left out."""
        side = self.shares.shape[-1]
        middle = self.shares[:, side // 4 : -side // 8, side // 4 : -side // 4]
        named = sorted(zip(middle.mean((1, 2)).tolist(), self.names, strict=True), key=lambda pair: -pair[0])
        return {name: round(share, 3) for share, name in named if share >= 0.005}


@dataclass(frozen=True)
class Supported:
    """What the photograph says about a restored face: shares of it, 0..1, that add up to 1. invented: where it is silent."""

    supported: float
    contradicted: float
    invented: float

    def rounded(self) -> dict[str, float]:
        return {name: round(share, 3) for name, share in vars(self).items()}


@dataclass(frozen=True)
class Face:
    """One face of one photograph.

    box: in the photograph; landmarks: float64 ``[5, 2]`` in the photograph; score: the detector's, 0..1.
    crop: ``[3, S, S]`` as found; restored: the same frame after restoration, or None.
    valid: ``[1, S, S]`` in 0..1, 0 where the crop reaches beyond the photograph.
    person: name in the library, or None for a stranger; confidence: similarity of the match, 0..1.
    strength: how much of the restoration is blended back, 0..1.
    doubt: why a person should check the match, or the lack of one; empty if there is no need.
    mask: ``[1, S, S]`` in 0..1, which part of the crop is blended back; None for the oval of a face.
    template: float64 ``[2, 3]``, crop pixels to those of the five-point template of the same size, which published networks
    were trained on; None if the crop is already aligned to it.
    borrowed: what the restoration took from the album; None where it took nothing.
    supported: what the photograph says about the restoration; None if it was not asked.
    """

    box: Box
    landmarks: np.ndarray
    score: float
    similarity: Similarity
    crop: torch.Tensor
    valid: torch.Tensor
    restored: torch.Tensor | None = None
    person: str | None = None
    confidence: float = 0.0
    strength: float = 1.0
    doubt: str = ""
    mask: torch.Tensor | None = None
    template: np.ndarray | None = None
    borrowed: Borrowed | None = None
    supported: Supported | None = None

    @property
    def best(self) -> torch.Tensor:
        """The restored crop if there is one, else the crop as found. ``[3, S, S]``."""
        return self.crop if self.restored is None else self.restored

    @property
    def turn(self) -> int:
        """By how many degrees the photograph has to be turned counterclockwise for the face to be upright, -180 to 180."""
        return round(self.similarity.turn)


@dataclass(frozen=True)
class Faces:
    """PR_FACES: the faces of one batch of photographs.

    frames: one tuple of faces per photograph, in reading order; size: (height, width) of the photographs;
    used: for the report, what each stage so far used, and why, in the order of the stages.
    """

    frames: tuple[tuple[Face, ...], ...]
    size: tuple[int, int]
    used: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.frames))

    def map(self, change: Callable[[Face], Face]) -> Faces:
        """A copy in which ``change`` was applied to every face."""
        return replace(self, frames=tuple(tuple(change(face) for face in frame) for frame in self.frames))

    def after(self, stage: str, used: str) -> Faces:
        """A copy that says what a stage used; a stage that runs again adds to what it said."""
        before = self.used.get(stage)
        return replace(self, used=self.used | {stage: used if before is None else f"{before}; {used}"})


@dataclass(frozen=True)
class Reference:
    """One good picture of a person: aligned crop ``[3, S, S]``, landmarks in the crop ``[5, 2]``, unit embedding ``[D]``.

    embedding is None if no identity backend is available; name is the file name, never the path.
    """

    name: str
    crop: torch.Tensor
    landmarks: np.ndarray
    embedding: np.ndarray | None = None


@dataclass(frozen=True)
class Person:
    """A name, the album's aligned references, and the noun that prompts use ("person", "woman", ...)."""

    name: str
    references: tuple[Reference, ...]
    noun: str = "person"


@dataclass(frozen=True)
class Library:
    """PR_LIBRARY: the known people.

    embedder: the embedding space of the references; notes: what was skipped and why, for the report.
    """

    people: tuple[Person, ...] = ()
    embedder: str = "none"
    notes: tuple[str, ...] = ()

    def get(self, name: str | None) -> Person | None:
        return next((person for person in self.people if person.name == name), None)


@dataclass(frozen=True)
class FacePairs:
    """PR_FACE_PAIR: what reveals the damage of each photograph of a batch: a restored face beside the same face as it was.

    frames: float32 ``[6, h, w]`` in 0..1 at the photograph's own scale, the restored face first; None where a photograph has
    none; a single entry counts for all photographs.
    """

    frames: tuple[torch.Tensor | None, ...]

    @property
    def largest(self) -> int | None:
        """The number of the frame with the most pixels, None if there is no pair."""
        areas = {number: one.shape[-1] * one.shape[-2] for number, one in enumerate(self.frames) if one is not None}
        return max(areas, key=areas.__getitem__, default=None)


@dataclass(frozen=True)
class DegradationMaps:
    """PR_DEGMAP: FaDeX's features Z of each pair.

    frames: ``[1, C, h / 4, w / 4]`` of a pair of h x w pixels, or None, as in ``FacePairs``; largest: ``FacePairs.largest``;
    extractor: the name of the network that made them; space: that of its tokens.
    """

    frames: tuple[torch.Tensor | None, ...]
    largest: int | None
    extractor: str
    space: str


@dataclass(frozen=True)
class DegradationCode:
    """PR_DEGCODE: what the face pair reveals about the damage.

    map: FaDeX features ``[B, 256, h, w]``; tokens: ``[B, T, D]``, all 21 (16 of the 4x4 grid, 4 of the 2x2, 1 global) or fewer;
    space: name of the token space, so that tokens never reach a network that was not trained on them;
    scalars: readable estimates such as ``blur_sigma`` (pixels), ``noise_sigma`` (of 255), ``jpeg_quality``, ``downscale``;
    frames: of a batch, the code of every photograph, None where nothing reveals its damage, and the code itself is that of the
    largest face; empty if the code is for all photographs.
    """

    map: torch.Tensor
    tokens: torch.Tensor
    space: str
    scalars: dict[str, float] = field(default_factory=dict)
    frames: tuple[DegradationCode | None, ...] = ()

    def of(self, number: int, count: int) -> DegradationCode | None:
        """The code of photograph ``number`` of a batch of ``count``. Raises UserError if it was estimated from another batch."""
        if not self.frames:
            return self
        if len(self.frames) != count:
            raise UserError(
                f"The degradation code is that of {len(self.frames)} photographs, but there are {count}. Estimate it from "
                "the same photographs, or turn on one_for_all where the face pair is made."
            )
        return self.frames[number]

    def tokens_for(self, listener: str, space: str) -> torch.Tensor:
        """The tokens, for a restorer of that name that was trained on ``space``. Raises UserError if they belong to
        another space."""
        if self.space != space:
            raise UserError(
                f"The degradation code is in the format {self.space!r}, but the restorer {listener!r} needs {space!r}. "
                "Estimate the degradation with the extractor that belongs to this restorer, or disconnect the code."
            )
        return self.tokens


@dataclass(frozen=True)
class Persona:
    """PR_PERSONA: the result of personalization: named tensors for one base model, with their provenance.

    kind: how it was made; base: name and hash of the model; prompt: the model's prompt, including the token; token: the
    word whose embedding was learned, if any.
    tensors: ``<layer>.lora_A.weight`` and ``lora_B`` are added to a layer, ``token`` and ``reference`` are what their
    names say; any other tensor replaces the base's tensor of that name, or is new.
    """

    kind: str
    base: str
    tensors: dict[str, torch.Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    token: str = ""


@dataclass(frozen=True)
class Conditions:
    """Everything a restorer may use besides the picture. A restorer ignores what it does not need.

    progress(done, total) is called between steps and may raise to cancel; show(part, left, top) may be called before
    it, with a finished part ``[B, 3, h, w]`` of the result and its position, for a preview. person: who is in the
    picture, None for a stranger. persona_strength: 0 leaves the base model unchanged, 1 applies the persona fully.
    persona_attention: of an adapter's blocks (PFStorer's lambda_att), 0 keeps only the learned word, above 1 exaggerates.
    photo: ``[B, 3, H, W]``, what the picture was before anything restored it, in the same frame; None where it is that itself.
    pixel: pixels of the picture per pixel of the photograph that it was cut from.
    certainty: 0..1, how sure it is that the references show the person in the picture.
    borrow(shares) may be called with what was taken from each reference, see ``Borrowed``.
    """

    references: tuple[Reference, ...] = ()
    persona: Persona | None = None
    persona_strength: float = 1.0
    persona_attention: float = 1.0
    person: str | None = None
    code: DegradationCode | None = None
    seed: int = 0
    progress: Callable[[int, int], None] = lambda done, total: None
    show: Callable[[torch.Tensor, int, int], None] = lambda part, left, top: None
    photo: torch.Tensor | None = None
    pixel: float = 1.0
    certainty: float = 1.0
    borrow: Callable[[torch.Tensor], None] = lambda shares: None


@runtime_checkable
class Restorer(Protocol):
    """PR_RESTORER: restores pictures.

    native_size: side of the square crops that it needs, or None for any size at the photograph's own scale;
    scale: output pixels per input pixel; tileable: larger pictures are restored in tiles;
    needs_references: it has no effect without an album.
    """

    @property
    def name(self) -> str: ...
    @property
    def native_size(self) -> int | None: ...
    @property
    def scale(self) -> int: ...
    @property
    def tileable(self) -> bool: ...
    @property
    def needs_references(self) -> bool: ...

    def restore(self, image: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Maps ``[B, 3, H, W]`` in 0..1 to ``[B, 3, H * scale, W * scale]`` in 0..1."""
        ...


@dataclass(frozen=True)
class Abilities:
    """What a restorer can do beyond restoring. Nodes ask for this, never for a restorer's other attributes.

    base: the model that its personas belong to, by the name that is stored in them; empty if it cannot wear any.
    teachable: Train Persona can train it. generates: Generative Album can make pictures with it.
    takes_references: it looks at the album; `Restorer.needs_references` says that it does nothing without one.
    """

    base: str = ""
    teachable: bool = False
    generates: bool = False
    takes_references: bool = False


@runtime_checkable
class Able(Protocol):
    """A restorer that can do more than restore without an album."""

    @property
    def abilities(self) -> Abilities: ...


def abilities(restorer: Restorer) -> Abilities:
    """What the restorer says of itself; one that says nothing only restores."""
    return restorer.abilities if isinstance(restorer, Able) else Abilities(takes_references=restorer.needs_references)


@dataclass(frozen=True)
class Place:
    """Where networks run and in which precision, as the user of the host wants it."""

    device: torch.device
    dtype: torch.dtype = torch.float32

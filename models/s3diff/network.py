"""S3Diff (Zhang et al. 2024): SD-Turbo with adapters that are modulated by how blurred and how noisy the picture is.

Loads the public ``s3diff.pkl`` and ``de_net.pth`` as they are, without executing what a pickle may ask for, or one
.safetensors file made of them by ``convert``. There, as in S3DiffWeights, the public names are joined by dots
(``state_dict_unet.conv_in.weight``) and the estimator's start with ``de_net.``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...lib.diffusion import lora
from ...lib.storage.fingerprint import file_sha256
from ...lib.storage.tensors import Unreadable, opened_tensors, read_pickled, write_tensors
from ...lib.vocabulary import DegradationCode, UserError
from ..shared.fit import check_fit
from ..shared.sd_turbo import SDTurbo
from ..shared.upsampling import fuse_upsampling
from .de_net import DegradationEstimator

KIND = "s3diff"
CONVERTED = "s3diff.safetensors"  # beside the public files, in whose place it is taken
ADAPTERS = {"vae": "vae_skip", "unet": "default"}  # their names in peft
BLOCKS = {"vae": 6, "unet": 10}  # down 0..3, middle 4, up 5..8, and the rest, which comes last
FREQUENCIES = 64
# In the byte pairs of CLIP: "A high-resolution, 8K, ultra-realistic image with sharp focus, vibrant colors, and natural lighting." and
# "oil painting, cartoon, blur, dirty, messy, low quality, deformation, low resolution, oversmooth".
PROMPTS = (
    (320, 1400, 268, 9977, 267, 279, 330, 267, 8118, 268, 16157, 2867, 593, 8157, 4353, 267, 14270, 5389, 267, 537, 3288, 5799, 269),
    (2870, 3086, 267, 7651, 267, 27976, 267, 7615, 267, 15987, 267, 1042, 3027, 267, 561, 2510, 267, 1042, 9977, 267, 1658, 8990),
)  # fmt: skip
RANKS = {side: f"rank_{side}" for side in ADAPTERS}
TARGETS = {side: f"{side}_lora_target_modules" for side in ADAPTERS}
ADVICE = (
    "Put s3diff.pkl (138 MB) and de_net.pth (9.4 MB) from zhangap/S3Diff (Apache-2.0), both unchanged, into "
    "models/personal_restore, and use them with SD-Turbo."
)


@dataclass(frozen=True)
class S3DiffWeights:
    """What the public files hold.

    config: ranks and target layers of the adapters, under their public names; tensors: as the module's docstring says;
    provenance: the files and their SHA-256; where: the file's name, for errors.
    """

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    provenance: dict[str, Any]
    where: str


class BlockModulation(nn.Module):
    """From the degradation to one matrix for every block of a network (S3Diff, section 3.3). Widths of the public code."""

    def __init__(self, rank: int, blocks: int):
        super().__init__()
        self.rank = rank
        self.de_mlp = nn.Sequential(nn.Linear(4 * FREQUENCIES, 256), nn.ReLU())
        self.block_mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.fuse_mlp = nn.Linear(256 + 64, rank**2)
        self.blocks = nn.Embedding(blocks, 64)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Fourier features of the degrees ``[B, 4 * FREQUENCIES]`` to matrices ``[B, blocks, rank, rank]``."""
        degradation = self.de_mlp(features)
        block = self.block_mlp(self.blocks.weight)
        size = len(degradation), len(block), -1
        both = torch.cat([degradation[:, None].expand(size), block[None].expand(size)], -1)
        return self.fuse_mlp(both).unflatten(-1, (self.rank, self.rank))


class S3Diff(nn.Module):
    """Everything that restores: SD-Turbo, which gets its adapters here, the modulation, and the estimator.

    Changes ``turbo``. Raises UserError that names file and tensor where the weights do not fit it.
    """

    def __init__(self, turbo: SDTurbo, weights: S3DiffWeights):
        super().__init__()
        self.turbo = turbo
        self.estimator = DegradationEstimator()
        self.register_buffer("frequencies", torch.zeros(FREQUENCIES))
        self.modulation = nn.ModuleDict()
        self.adapters: dict[str, dict[str, lora.LoraLayer]] = {}
        for side, network in (("vae", turbo.vae), ("unet", turbo.unet)):
            rank = weights.config[RANKS[side]]
            self.modulation[side] = BlockModulation(rank, BLOCKS[side])
            self.adapters[side] = lora.attach(network, weights.config[TARGETS[side]], rank)
        own = dict(self.public_tensors())
        check_fit(own, weights.tensors, weights.where, ADVICE)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights.tensors[name])
        fuse_upsampling(turbo.vae)
        self.eval().requires_grad_(False)

    def public_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Everything that the public files hold, under its public name. The base model is not among it."""
        for name, tensor in self.turbo.unet.conv_in.state_dict().items():
            yield f"state_dict_unet.conv_in.{name}", tensor
        for side, adapter in ADAPTERS.items():
            for name, tensor in lora.weights(self.adapters[side], adapter).items():
                yield f"state_dict_{side}.{name}", tensor
            modulation = self.modulation[side]
            for part in ("de_mlp", "block_mlp", "fuse_mlp"):
                for name, tensor in modulation.get_submodule(part).state_dict().items():
                    yield f"state_dict_{side}_{part}.{name}", tensor
            yield f"state_embeddings.state_dict_{side}_block.weight", modulation.blocks.weight
        yield "w", self.frequencies
        for name, tensor in self.estimator.state_dict().items():
            yield f"de_net.{name}", tensor

    def damage(self, picture: torch.Tensor, code: DegradationCode | None = None) -> torch.Tensor:
        """Degrees of blur and noise ``[B, 2]`` in 0..1. picture: ``[B, 3, H, W]`` in 0..1, before any enlarging.

        The network estimates them itself; a degradation code is not for it and is ignored.
        """
        return self.estimator(picture.float())

    def encode(self, picture: torch.Tensor, degrees: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """`SDTurbo.encode`, adapted to the degrees of degradation ``[B, 2]``."""
        with lora.modulated(self.adapters["vae"], self._matrices("vae", degrees)):
            return self.turbo.encode(picture, noise)

    def predict(
        self,
        latent: torch.Tensor,
        degrees: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        cfg: float,
    ) -> torch.Tensor:
        """`SDTurbo.predict`, adapted to the degrees of degradation ``[B, 2]``, which both branches share."""
        branches = 1 if cfg == 1 or len(degrees) == 1 else 2
        with lora.modulated(self.adapters["unet"], self._matrices("unet", degrees.repeat(branches, 1))):
            return self.turbo.predict(latent, positive, negative, cfg)

    def _matrices(self, side: str, degrees: torch.Tensor) -> dict[str, torch.Tensor]:
        # In float32 whatever the networks are: the phase reaches tens.
        phase = degrees.float()[..., None] * self.frequencies * (2 * math.pi)
        matrices = self.modulation[side](torch.cat([phase.sin(), phase.cos()], -1).flatten(1))
        return {name: matrices[:, _block(name)] for name in self.adapters[side]}


def read_s3diff(path: Path, estimator: Path | None = None) -> S3DiffWeights:
    """The public s3diff.pkl, with the de_net.pth beside it or at ``estimator``; or what `convert` made of both.

    Raises UserError that names the file, and what is wrong in it.
    """
    if path.suffix == ".safetensors":
        return _read_converted(path)
    estimator = estimator or path.with_name("de_net.pth")
    public = _read_public(path)
    tensors = dict(_joined({**public, "de_net": _read_public(estimator)}))
    files = {file.name: file_sha256(file) for file in (path, estimator)}
    provenance = {"source": "zhangap/S3Diff", "license": "Apache-2.0", "sha256": files}
    config = {name: public[name] for name in (*RANKS.values(), *TARGETS.values()) if name in public}
    return S3DiffWeights(_checked(config, path.name), tensors, provenance, path.name)


def convert(weights: S3DiffWeights, path: Path) -> None:
    """Writes one .safetensors with everything, exact to the bit, that `read_s3diff` takes."""
    # The public files may hold several views of one storage, which safetensors refuses.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in weights.tensors.items()
    }
    texts = {
        name: json.dumps(value) for name, value in (("config", weights.config), ("provenance", weights.provenance))
    }
    write_tensors(path, tensors, {"kind": KIND, **texts})


def _block(layer: str) -> int:
    """Which block's matrix a layer of the UNet or of the VAE's encoder listens to."""
    if "mid_block" in layer:
        return 4
    place = re.search(r"(down|up)_blocks\.(\d+)", layer)
    if place is None:
        return -1
    return int(place[2]) + (5 if place[1] == "up" else 0)


def _read_public(file: Path) -> dict[str, Any]:
    """The dictionary in a file of torch.save. Whatever is neither a tensor nor plain data is refused, never run."""
    if not file.is_file():
        raise UserError(f"S3Diff: {file.name} is not in {file.parent.name}/. {ADVICE}")
    try:
        content = read_pickled(file)
    except Unreadable as error:
        raise UserError(f"S3Diff: {file.name} is damaged or contains more than weights ({error}). {ADVICE}") from error
    if not isinstance(content, dict):
        raise UserError(f"S3Diff: {file.name} contains a {type(content).__name__}, not named tensors. {ADVICE}")
    return content


def _read_converted(file: Path) -> S3DiffWeights:
    try:
        with opened_tensors(file) as stored:
            metadata, tensors = stored.metadata, stored.tensors()
        if metadata.get("kind") != KIND:
            raise ValueError(f"its metadata says {metadata.get('kind')!r}, not {KIND!r}")
        config, provenance = (dict(json.loads(metadata[name])) for name in ("config", "provenance"))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"S3Diff: {file.name} is not a converted S3Diff ({error}). {ADVICE}") from error
    return S3DiffWeights(_checked(config, file.name), tensors, provenance, file.name)


def _checked(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The configuration, when it says what both adapters need."""
    for side in ADAPTERS:
        rank, targets = config.get(RANKS[side]), config.get(TARGETS[side])
        if not isinstance(rank, int) or rank < 1:
            raise UserError(f"S3Diff: {where} has no usable {RANKS[side]} ({rank!r}). {ADVICE}")
        if not _are_targets(targets):
            raise UserError(f"S3Diff: {where} has no usable {TARGETS[side]} ({targets!r}). {ADVICE}")
    return config


def _are_targets(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _joined(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of nested dictionaries, with their keys joined by dots."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _joined(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value

"""Face2Scene at full size (section 3.3 and 3.4): SD-Turbo with plain adapters, steered by degradation tokens beside its text.

A face pair goes through FaDeX and MapNet to 21 tokens as wide as the text's, which both guidance branches get. Everything that
training adds to SD-Turbo is one .safetensors: the adapters and the replaced first convolution (``vae.*`` and ``unet.*``, under
peft's names), FaDeX, MapNet and gauge (``extractor.*``), the embedded prompts (``prompt.*``); sizes, token space and provenance
are its metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...lib.diffusion import lora
from ...lib.storage.tensors import opened_tensors, write_tensors
from ...lib.vocabulary import DegradationCode, UserError
from ..embedded.mapnet import with_tokens
from ..embedded.weights import Extractor
from ..shared.fit import check_fit

if TYPE_CHECKING:
    from ..shared.sd_turbo import SDTurbo

KIND = FOLDER = "face2scene"  # the files live in a folder of that name below models/personal_restore
NAME = "Face2Scene"
PROMPTS = "positive", "negative"
# Ranks of section 4.1, targets of S3Diff's public code, which the paper builds on.
ADAPTERS = {
    "vae": {
        "rank": 16,
        "targets": r"^encoder\..*(conv1|conv2|conv_in|conv_shortcut|conv|conv_out|to_k|to_q|to_v|to_out\.0)$",
    },
    "unet": {
        "rank": 32,
        "targets": [
            "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out",
            "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj",
        ],
    },
}  # fmt: skip
ADVICE = "Choose a file made by the node Train Face2Scene, and the SD-Turbo that it was trained on."

DOWN, UP = (f".lora_{part}.default.weight" for part in "AB")  # peft's names

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Adapter:
    """A trained plain adapter, as everybody else names its parts: the layer gets ``alpha / rank * up @ down`` more.

    up: ``[out, rank, ...]``; down: ``[rank, in, ...]``.
    """

    up: torch.Tensor
    down: torch.Tensor
    alpha: float = lora.ALPHA


@dataclass(frozen=True)
class Face2SceneWeights:
    """The result of training.

    config: ``adapters`` (rank and targets per network) and ``extractor`` (its sizes); tensors: as the module's docstring says;
    token_space: names the tokens of this one MapNet; where: the file's name, for errors.
    """

    config: dict[str, Any]
    tensors: Tensors
    token_space: str
    provenance: dict[str, Any]
    where: str

    @property
    def prompts(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The embedded prompts of both branches, positive first, ``[1, 77, 1024]`` each."""
        positive, negative = (self.tensors[f"prompt.{name}"].float() for name in PROMPTS)
        return positive, negative

    def adapters(self, side: str) -> dict[str, Adapter]:
        """Of the "unet" or the "vae", by diffusers' name of the weight that they change."""
        own = _part(self.tensors, f"{side}.")
        downs = {name.removesuffix(DOWN): one for name, one in own.items() if name.endswith(DOWN)}
        return {f"{layer}.weight": Adapter(own[layer + UP], down) for layer, down in downs.items()}

    @property
    def replaced(self) -> Tensors:
        """The UNet's weights that are replaced entirely, by diffusers' name."""
        return {name: one for name, one in _part(self.tensors, "unet.").items() if not name.endswith((DOWN, UP))}

    def extractor(self) -> Extractor:
        """The networks that make the tokens, in evaluation mode. Raises UserError if its tensors do not fit."""
        module = Extractor(**self.config["extractor"])
        own = _part(self.tensors, "extractor.")
        check_fit(module.state_dict(), own, self.where, ADVICE)
        module.load_state_dict(own)
        return module.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)


class Face2Scene(nn.Module):
    """SD-Turbo with the adapters fused into its weights, so that they cost nothing. Changes ``turbo``.

    Raises UserError that names file and tensor where the weights do not fit it.
    """

    def __init__(self, turbo: SDTurbo, weights: Face2SceneWeights):
        # Here and not above: diffusers takes seconds to import, and what reads the damage does without.
        from ..shared.upsampling import fuse_upsampling

        super().__init__()
        self.turbo, self.token_space = turbo, weights.token_space
        fill_adapters(adapt(turbo, weights.config["adapters"]), weights)
        lora.fuse_adapters(turbo)
        fuse_upsampling(turbo.vae)
        self.eval().requires_grad_(False)

    def damage(self, picture: torch.Tensor, code: DegradationCode | None) -> torch.Tensor | None:
        """The tokens ``[1, 21, 1024]``, or None without a code. Raises UserError for a code of another token space."""
        return None if code is None else code.tokens_for(NAME, self.token_space).to(picture)

    def encode(self, picture: torch.Tensor, tokens: torch.Tensor | None, noise: torch.Tensor | None = None):
        """`SDTurbo.encode`; tokens do not reach the VAE."""
        return self.turbo.encode(picture, noise)

    def predict(
        self,
        latent: torch.Tensor,
        tokens: torch.Tensor | None,
        positive: torch.Tensor,
        negative: torch.Tensor,
        cfg: float,
    ) -> torch.Tensor:
        """`SDTurbo.predict` with the tokens behind the text of both branches; without them on the text alone."""
        if tokens is not None:
            positive, negative = (with_tokens(text.to(tokens), tokens) for text in (positive, negative))
        return self.turbo.predict(latent, positive, negative, cfg)


def adapt(turbo: SDTurbo, adapters: Mapping[str, Mapping[str, Any]]) -> dict[str, nn.Parameter]:
    """Puts fresh plain adapters on SD-Turbo. Returns everything of it that is trained, by its name in the file."""
    trained = {f"unet.conv_in.{name}": one for name, one in turbo.unet.conv_in.named_parameters()}
    for side, network in (("vae", turbo.vae), ("unet", turbo.unet)):
        layers = lora.attach(network, adapters[side]["targets"], adapters[side]["rank"])
        trained |= {f"{side}.{name}": one for name, one in lora.weights(layers, "default").items()}
    return trained


@torch.no_grad()
def fill_adapters(trained: Mapping[str, nn.Parameter], weights: Face2SceneWeights) -> None:
    """Gives what `adapt` returned its values. Raises UserError if they do not fit."""
    found = {name: one for name, one in weights.tensors.items() if name.startswith(("vae.", "unet."))}
    check_fit(trained, found, weights.where, ADVICE)
    for name, tensor in trained.items():
        tensor.copy_(found[name])


def core_vae_name(name: str) -> str:
    """What ComfyUI calls a weight of the VAE's encoder that diffusers calls so."""
    for ours, theirs in (
        ("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"), ("mid_block.attentions.0", "mid.attn_1"),
        ("to_out.0", "proj_out"), (".to_", "."), ("down_blocks", "down"), ("resnets", "block"),
        ("conv_shortcut", "nin_shortcut"), ("downsamplers.0", "downsample"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def save_face2scene(
    path: Path, config: dict[str, Any], tensors: Mapping[str, torch.Tensor], provenance: dict[str, Any]
) -> None:
    """One trained model as one file, in float16. Its token space is named after MapNet's weights, so that it is unique."""
    stored = {
        name: (one.half() if one.is_floating_point() else one).detach().cpu().contiguous()
        for name, one in sorted(tensors.items())
    }
    digest = hashlib.sha256()
    for name, tensor in stored.items():
        if name.startswith("extractor.mapnet."):
            digest.update(tensor.numpy().tobytes())
    texts = {"config": json.dumps(config), "provenance": json.dumps(provenance)}
    write_tensors(path, stored, {"kind": KIND, "token_space": f"{KIND}-{digest.hexdigest()[:12]}", **texts})


def read_face2scene(path: Path, only: str = "") -> Face2SceneWeights:
    """What `save_face2scene` has written; ``only`` the tensors whose names start so. Raises UserError that names the file."""
    try:
        with opened_tensors(path) as file:
            metadata = file.metadata
            if metadata.get("kind") != KIND:
                raise ValueError(f"its metadata says {metadata.get('kind')!r}, not {KIND!r}")
            tensors = file.tensors(only)
        config, provenance = (dict(json.loads(metadata[name])) for name in ("config", "provenance"))
        _check(config)
        space = metadata["token_space"]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, re.error) as error:
        raise UserError(f"{NAME}: {path.name} is not a trained Face2Scene model ({error}). {ADVICE}") from error
    return Face2SceneWeights(config, tensors, space, provenance, path.name)


def _check(config: dict[str, Any]) -> None:
    """Raises if the sizes cannot be built from."""
    for side in ADAPTERS:
        rank, targets = config["adapters"][side]["rank"], config["adapters"][side]["targets"]
        if not isinstance(rank, int) or rank < 1:
            raise ValueError(f"the rank of the {side} is {rank!r}")
        if isinstance(targets, str):
            re.compile(targets)
        elif not all(isinstance(one, str) for one in targets):
            raise ValueError(f"the targets of the {side} are {targets!r}")
    with torch.device("meta"):
        Extractor(**config["extractor"])


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}

"""S3Diff at its published size, from its files to the restorer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from ...lib.extras import require
from ..shared.kept import file_stamp, kept
from ..shared.precision import in_eight_bits
from ..shared.sd_turbo_restorer import SDTurboRestorer
from ..shared.weight_files import checkpoint_and, own_files


def restorer_from(
    checkpoint: str, positive: torch.Tensor | None = None, negative: torch.Tensor | None = None, **settings
) -> SDTurboRestorer:
    """The restorer on an SD-Turbo of models/checkpoints, by its name there, with `SDTurboRestorer`'s settings.

    positive, negative: embedded prompts; None for those that S3Diff was trained with. Raises UserError that names what
    is missing, and where it belongs.
    """
    require("S3Diff Restorer", "diffusion")
    from . import network as s3diff  # imported here because diffusers takes seconds to import

    converted = own_files((".safetensors",)).get(s3diff.CONVERTED)
    public = () if converted else ("s3diff", "s3diff-degradation")
    turbo, *files = checkpoint_and("S3Diff Restorer", checkpoint, "sd-turbo", *public)
    made = kept(_built, turbo, *([converted] if converted else files))
    prompts = [positive, negative]
    if positive is None or negative is None:
        prompts = [own if one is None else one for one, own in zip(prompts, _prompts(file_stamp(turbo)), strict=True)]
    return replace(made, positive=prompts[0], negative=prompts[1], **settings)


def _built(keep: Callable, turbo: Path, *files: Path) -> SDTurboRestorer:
    from ..shared import sd_turbo
    from . import network as s3diff

    net = s3diff.S3Diff(sd_turbo.load_settled(turbo), s3diff.read_s3diff(*files))
    in_eight_bits(net.turbo.unet)
    none = torch.empty(0)  # in the place of prompts, which every restorer gets for itself
    return SDTurboRestorer(keep(net, streamed=True), none, none)


@lru_cache(maxsize=1)
def _prompts(turbo: tuple) -> list[torch.Tensor]:
    """The prompts that S3Diff was trained with, embedded. turbo: the `file_stamp` of the checkpoint."""
    from ..shared import sd_turbo
    from . import network as s3diff

    return sd_turbo.embed_prompts(turbo[0], s3diff.PROMPTS)

"""A part of a Stable Diffusion checkpoint: out of a diffusers folder, or of the single .safetensors file that ComfyUI users have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from ..vocabulary import UserError

Tensors = dict[str, torch.Tensor]

FILES = tuple(
    f"{stem}{variant}.safetensors"
    for stem in ("diffusion_pytorch_model", "model")
    for variant in ("", ".fp16")
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """folder: of the part in the diffusers format; prefix: of its names in a single file, one of several where files differ;
    ``convert`` renames its tensors.
    """

    folder: str
    prefix: str | tuple[str, ...]
    convert: Callable[[Tensors], Tensors]


def read_part(path: Path, part: Part, model: str, advice: str) -> Tensors:
    """The tensors of a part under the names of diffusers and transformers.

    Raises UserError that begins with the model's name, names the file and ends with the advice.
    """
    if path.is_dir():
        return _read(_file_in(path / part.folder, model, advice), "", model, advice)
    if path.suffix != ".safetensors":
        problem = "is neither a folder nor a .safetensors file" if path.exists() else "does not exist"
        raise UserError(f"{model}: {path.name} {problem}. {advice}")
    stored = _read(path, part.prefix, model, advice)
    prefix = part.prefix if isinstance(part.prefix, str) else part.prefix[0]
    if not stored:
        raise UserError(f"{model}: {path.name} holds no tensor {prefix}*, so it lacks the {part.folder}. {advice}")
    try:
        return {name: tensor for name, tensor in part.convert(stored).items() if tensor is not None}
    except KeyError as error:
        raise UserError(f"{model}: {path.name} lacks the tensor {prefix}{error.args[0]}. {advice}") from error


def _file_in(folder: Path, model: str, advice: str) -> Path:
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{model}: {folder.parent.name}/{folder.name}/ has no {FILES[0]}. {advice}")


def _read(file: Path, prefix: str | tuple[str, ...], model: str, advice: str) -> Tensors:
    """The tensors whose names start with a prefix."""
    try:
        with safe_open(file, "pt") as stored:
            names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
            return {name: stored.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{model}: {file.name} cannot be read ({error}). {advice}") from error

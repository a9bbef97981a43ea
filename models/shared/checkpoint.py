"""A part of a Stable Diffusion checkpoint: out of a diffusers folder, or of the single file that ComfyUI users have, .safetensors or a
.ckpt, of which no code is run."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ...lib.storage.tensors import MoreThanWeights, Unreadable, opened_tensors, read_pickled
from ...lib.vocabulary import UserError
from .fit import named_tensors

Tensors = dict[str, torch.Tensor]

FILES = tuple(
    f"{stem}{variant}.safetensors"
    for stem in ("diffusion_pytorch_model", "model")
    for variant in ("", ".fp16")
)  # fmt: skip


class _Inert:
    """A placeholder for a class in a file; accepts any arguments and does nothing."""

    def __init__(self, *given):
        pass

    def __setstate__(self, state):
        pass


# What PyTorch Lightning stores next to the weights. torch's loader rejects files that refer to unknown names.
BESIDE = [
    type(name.rpartition(".")[2], (_Inert,), {"__module__": name.rpartition(".")[0]})
    for name in (
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "_codecs.encode",
    )
]


@dataclass(frozen=True)
class Part:
    """folder: of the part in diffusers format; prefix: of its names in a single file, whose tensors ``convert`` renames, or
    several where files differ."""

    folder: str
    prefix: str | tuple[str, ...]
    convert: Callable[[Tensors], Tensors]


def read_part(path: Path, part: Part, model: str, advice: str) -> Tensors:
    """The tensors of a part under the names of diffusers and transformers.

    Raises UserError that begins with the model's name, names the file and ends with the advice.
    """
    if path.is_dir():
        return checkpoint_tensors(_file_in(path / part.folder, model, advice), "", model, advice)
    stored = checkpoint_tensors(path, part.prefix, model, advice)
    if not stored:
        names = part.prefix if isinstance(part.prefix, str) else "* or ".join(part.prefix)
        raise UserError(f"{model}: {path.name} contains no tensor {names}*, so the {part.folder} is missing. {advice}")
    try:
        return {name: tensor for name, tensor in part.convert(stored).items() if tensor is not None}
    except (LookupError, RuntimeError) as error:
        raise UserError(
            f"{model}: a tensor of the {part.folder} is missing in {path.name}, or has another shape: {error.args[0]}. {advice}"
        ) from error


def _file_in(folder: Path, model: str, advice: str) -> Path:
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{model}: {folder.parent.name}/{folder.name}/ has no {FILES[0]}. {advice}")


def checkpoint_tensors(file: Path, prefix: str | tuple[str, ...], model: str, advice: str) -> Tensors:
    """The tensors of a single file whose names start with the prefix, or one of them; those of a .ckpt stay on the disk until they are
    needed. Raises UserError as `read_part`.
    """
    if file.suffix not in (".safetensors", ".ckpt") or not file.exists():
        problem = "is not a .safetensors or .ckpt file" if file.exists() else "does not exist"
        raise UserError(f"{model}: {file.name} {problem}. {advice}")
    try:
        if file.suffix == ".ckpt":
            stored = read_pickled(
                file, BESIDE, mapped=zipfile.is_zipfile(file)
            )  # torch's older format cannot be mapped
            stored = stored.get("state_dict", stored)
            found = {name: tensor for name, tensor in stored.items() if name.startswith(prefix)}
            return named_tensors(found, f"{model}: {file.name}", advice)
        with opened_tensors(file) as stored:
            return stored.tensors(prefix)
    except (MoreThanWeights, AttributeError, TypeError) as error:
        raise UserError(f"{model}: {file.name} is damaged or contains more than plain weights. {advice}") from error
    except (Unreadable, OSError) as error:
        raise UserError(f"{model}: {file.name} cannot be read ({error}). {advice}") from error

"""A persona as one .safetensors file, with its purpose and provenance in the metadata. No pickle, no paths."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..vocabulary import Persona, UserError
from .names import stored_path
from .tensors import Tensors, opened_tensors, write_tensors
from .whole import exclusive, remove_whole

FORMAT = "personal-restore-persona-1"


def save_persona(persona: Persona, folder: Path, name: str) -> Path:
    """Writes ``folder/name.safetensors``, replacing a file of that name, and returns its path.

    Raises UserError for an invalid name and if the file cannot be written.
    """
    path = persona_path(folder, name)
    metadata = {
        "format": FORMAT,
        "kind": persona.kind,
        "base": persona.base,
        "prompt": persona.prompt,
        "token": persona.token,
        "provenance": json.dumps(persona.provenance),
    }
    try:
        # Cloned, because the format refuses tensors that share memory.
        with exclusive(path):
            write_tensors(
                path, {name: value.clone() for name, value in persona.tensors.items()}, metadata, private=True
            )
    except OSError as error:
        raise UserError(
            f"The persona {path.name} cannot be written. Check the free space and the permissions of its folder."
        ) from error
    return path


def load_persona(folder: Path, name: str) -> Persona:
    """The persona of ``folder/name.safetensors``, bit for bit. Raises UserError if it is missing or not a persona."""
    path = persona_path(folder, name)
    if not path.is_file():
        raise UserError(f"There is no persona {path.name}. Check the spelling, or train a persona first.")
    try:
        with opened_tensors(path) as file:
            metadata = file.metadata
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            tensors = file.tensors()
            provenance = json.loads(metadata["provenance"])
            _check(provenance, tensors)
            return Persona(
                metadata["kind"], metadata["base"], tensors, provenance, metadata["prompt"], metadata["token"]
            )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{path.name} is not a persona of this pack ({error}). Train it again.") from error


def _check(provenance: Any, tensors: Tensors) -> None:
    """Raises ValueError for what would fail later, in a description or when the persona is worn."""
    if not isinstance(provenance, dict):
        raise ValueError("its provenance is not an object")
    if not all(isinstance(provenance.get(name, {}), dict) for name in ("losses", "settings")):
        raise ValueError("the losses or the settings in its provenance are not objects")
    stages = provenance.get("stages", [])
    if not isinstance(stages, list) or not all(isinstance(one, dict) for one in stages):
        raise ValueError("the stages in its provenance are not a list of objects")
    for name, value in tensors.items():
        if not value.numel() or (value.is_floating_point() and not value.isfinite().all()):
            raise ValueError(f"its tensor {name} is empty or not made of numbers")
        half = name.removesuffix(".lora_A.weight")
        if half != name and f"{half}.lora_B.weight" not in tensors:
            raise ValueError(f"its tensor {half}.lora_B.weight is missing")
    if (pictures := tensors.get("reference")) is not None and pictures.ndim != 4:
        raise ValueError("its reference is not made of pictures")


def delete_persona(folder: Path, name: str) -> None:
    """Removes the file, if there is one, and what a killed writer has left of it. Raises UserError if it cannot be removed."""
    path = persona_path(folder, name)
    try:
        with exclusive(path):
            remove_whole(path)
    except OSError as error:
        raise UserError(
            f"The persona {path.name} cannot be removed. Close the program that uses it, or delete the file by hand."
        ) from error


def persona_path(folder: Path, name: str) -> Path:
    """``folder/name.safetensors``. Raises UserError for an invalid name."""
    return stored_path(folder, name, "persona")


def without_pictures(persona: Persona) -> Persona:
    """The persona without the reference pictures that an adapter may contain; it then needs an album."""
    return replace(persona, tensors={name: value for name, value in persona.tensors.items() if name != "reference"})


def describe_persona(persona: Persona) -> str:
    """A human-readable description of the persona, its provenance and its contents."""
    about = persona.provenance
    stages = about.get("stages") or [about.get("settings", {})]  # older personas have one for all stages
    size = sum(value.numel() * value.element_size() for value in persona.tensors.values()) / 1e6
    lines = [
        f"{persona.kind} persona of {about.get('person') or 'an unnamed person'}, made on {persona.base}: {size:.1f} MB",
        f"{about.get('pictures', '?')} picture(s), {about.get('steps', '?')} steps, {about.get('made', 'date unknown')}",
    ]
    if persona.prompt:
        lines.append(f"prompt: {persona.prompt}")
    lines += [f"{name}: {value}" for name, value in about.get("losses", {}).items()]
    shown = "preset", "steps", "rank", "batch", "learning_rate", "seed"
    for settings in filter(None, stages):
        lines.append(", ".join(f"{name} {settings[name]}" for name in shown if name in settings))
    pictures = persona.tensors.get("reference")
    lines.append(
        "contains no photograph" if pictures is None else f"CONTAINS {len(pictures)} PHOTOGRAPH(S) of the person"
    )
    return "\n".join(lines)

"""``run.py persona``: from the command line's words to a training."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    persona = commands.add_parser("persona", help="teach a diffusion restorer a person; see docs/personas.md")
    persona.add_argument("--photos", type=Path, required=True, help="a folder of good pictures of the person")
    persona.add_argument("--name", default="", help="the person's, and the file's (default: the folder's)")
    persona.add_argument(
        "--method", help="dual_pivot (default), textual_pivot, model_pivot, album or adapter; see docs/personas.md"
    )
    persona.add_argument(
        "--others", type=Path, help="for the model pivot: other people, one sub-folder of pictures each"
    )
    persona.add_argument(
        "--class-pictures",
        type=Path,
        help="for the prior of the textual pivot: people like this one, one sub-folder each (default: the base makes them)",
    )
    persona.add_argument(
        "--base",
        type=Path,
        help="Stable Diffusion, a .safetensors or .ckpt file or a folder in the diffusers format (default: the small base that ships)",
    )
    persona.add_argument("--control", type=Path, help="DiffBIR's ControlNet for --base")
    persona.add_argument("--stablesr", type=Path, help="StableSR's file; with --base where it holds the control alone")
    persona.add_argument("--prediction", help="what --base predicts, as DiffBIR Restorer has it, where no file says so")
    persona.add_argument("--config", type=Path, help="a JSON file with other settings than the defaults")
    persona.add_argument(
        "--out", type=Path, help="folder for the persona (default: the models folder, where Load Persona looks)"
    )
    persona.set_defaults(run=_persona)


def _persona(options: argparse.Namespace) -> int:
    from ..persona import teach

    return teach(options)

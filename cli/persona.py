"""``run.py persona``: sets up training from command-line options."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..lib.bridge import device, keep, weight_folders
from ..lib.faces import embed
from ..lib.storage.personas import describe_persona, load_persona
from ..lib.vocabulary import UserError
from ..models.diffbir import build as diffbir
from ..models.embedded import ready as embedded
from ..models.shared.bases import PREDICTIONS
from ..models.stablesr import build as stablesr
from ..nodes.personas import folder
from ..training.personas import run as persona


def teach(options: argparse.Namespace) -> int:
    """Trains in each process started by a launcher. Raises UserError for unusable options or material."""
    prediction = options.prediction or PREDICTIONS[0]
    if prediction not in PREDICTIONS:
        raise UserError(f"--prediction {prediction!r}: choose one of {', '.join(map(repr, PREDICTIONS))}.")
    if options.base is None and (options.control or options.prediction):
        raise UserError("--control and --prediction require a Stable Diffusion model. Provide one with --base.")
    if options.stablesr and (options.control or options.prediction):
        raise UserError("--stablesr has its own control and prediction. Omit --control and --prediction.")
    for option in ("base", "control", "stablesr"):
        path = getattr(options, option)
        if path and not path.exists():
            raise UserError(f"--{option} {path}: the file does not exist.")
    settings = persona.PUBLISHED if options.base or options.stablesr else persona.SMALL
    settings = persona.read_config(settings, options.config) if options.config else settings
    settings = replace(settings, method=options.method) if options.method else settings
    processes = persona.launched(device())
    if options.stablesr:
        restorer = stablesr.restorer_from(options.stablesr, options.base)
    elif options.base:
        restorer = diffbir.restorer_from(options.base, options.control, embedded.restorer(keep), prediction)
    else:
        restorer = embedded.diffusion(keep)
    made = persona.run_training(
        restorer,
        lambda: persona.gather(
            options.photos,
            options.others,
            options.class_pictures,
            settings,
            embed.best_embedder(weight_folders("personal_restore")),
        ),
        settings,
        options.name,
        options.out or folder(),
        processes,
    )
    if processes.is_main_process:
        print(f"{describe_persona(load_persona(made.parent, made.stem))}\n-> {made}")
    processes.destroy_process_group()
    return 0

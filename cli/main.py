"""The command line: the same workflows as in ComfyUI, without it."""

from __future__ import annotations

import argparse
import logging
import sys

from ..lib.vocabulary import UserError
from .commands import bench, dataset, demo, graphs, measure, persona, restore, train, weights

COMMANDS = demo, restore, measure, graphs, train, persona, dataset, weights, bench  # in the order of the help


def main(arguments: list[str] | None = None) -> int:
    """Runs a command. Returns 0 on success, or 1 with an error message on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot print a name prints its letters' numbers
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'Stopped.'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "run.py",
        description="Restores whole photographs of people you know.",
        epilog="For developers: run.py test runs the tests; run.py check runs the linter and the type checker; "
        "run.py fuzz tries odd inputs.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser

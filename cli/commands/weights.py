"""``run.py models``: published weights, listed, fetched or converted."""

from __future__ import annotations

import argparse

from ...lib.extras import require
from ...lib.vocabulary import UserError


def add(commands: argparse._SubParsersAction) -> None:
    models = commands.add_parser("models", help="list published weights, download them, or convert S3Diff's")
    models.add_argument("action", choices=("list", "get", "convert"))
    models.add_argument("names", nargs="*", metavar="NAME")
    models.add_argument("--agree", action="store_true", help="I have read the license and agree to it; do not ask")
    models.set_defaults(run=_models)


def _models(options: argparse.Namespace) -> int:
    from ...lib.bridge import weight_folders
    from ...models.shared.catalogue import catalogue, download, entry

    if options.action == "list":
        for weights in catalogue().values():
            folders = weight_folders(weights.folder)
            there = next((folder for folder in folders if (folder / weights.place).is_file()), None)
            print(f"{weights.describe()}; {f'is in {there}' if there else f'belongs in {folders[0]}'}\n")
        return 0
    if options.action == "convert":
        return _convert(options.names)
    if not options.names:
        raise UserError("models get: specify the names; `python run.py models list` shows them.")
    for weights in [entry(name) for name in options.names]:
        print(weights.describe())
        try:
            agreed = options.agree or input("Agree to this license and download the file? [y/N] ").strip().lower() in (
                "y",
                "yes",
            )
        except EOFError as error:
            raise UserError("Nobody can answer whether you agree to the license. Read it, then add --agree.") from error
        if agreed:
            print(f"-> {download(weights.name, weight_folders(weights.folder)[0])}")
    return 0


def _convert(names: list[str]) -> int:
    require("run.py models convert", "diffusion")
    from ...lib.bridge import weight_folders
    from ...models.s3diff import network as s3diff
    from ...models.shared.catalogue import find_all

    if names != [s3diff.KIND]:
        raise UserError(
            "models convert: only s3diff can be converted, from its two public files to one .safetensors file."
        )
    public = find_all(["s3diff", "s3diff-degradation"], weight_folders)
    target = public[0].with_name(s3diff.CONVERTED)
    s3diff.convert(s3diff.read_s3diff(*public), target)
    print(f"-> {target}; {' and '.join(path.name for path in public)} are no longer needed.")
    return 0

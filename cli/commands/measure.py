"""``run.py measure``: the papers' measures of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ...lib.vocabulary import UserError


def add(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("measure", help="measure results as the papers do, with or without the originals")
    command.add_argument("result", type=Path, help="a picture, or a folder of them")
    command.add_argument("--truth", type=Path, help="the original, or a folder with originals of the same names")
    command.add_argument("--faces", action="store_true", help="measure each face instead of the whole picture")
    command.add_argument("--metrics", default="", help="which measures, separated by commas; all of them if omitted")
    command.add_argument("--csv", type=Path, help="write the table into this file, too")
    command.add_argument("--json", type=Path, help="write the measures and what is missing into this file, too")
    command.set_defaults(run=_measure)


def _measure(options: argparse.Namespace) -> int:
    from ...lib.bridge import device, weight_folders
    from ...lib.measure import measure_pictures
    from ...lib.storage.whole import write_whole
    from ...models.shared.iqa import learned_metrics

    results = _pictures(options.result)
    truths = _Pictures({}) if options.truth is None else _pictures(options.truth)
    if options.truth is not None and options.result.is_file() and options.truth.is_file():
        truths = _Pictures(dict(zip(results, truths.files.values(), strict=True)))
    if truths and not results.keys() & truths.keys():
        raise UserError(
            f"measure: {options.truth} has no original with the name of a result, such as {next(iter(results))}."
        )
    wanted = [name.strip() for name in options.metrics.split(",") if name.strip()]
    learned = learned_metrics(weight_folders, device())
    found = measure_pictures(results, truths, learned, wanted, options.faces, weight_folders("personal_restore"))
    print(found.table())
    for path, text in ((options.csv, found.to_csv()), (options.json, found.to_json())):
        if path is not None:
            write_whole(path, text)
    return 0


class _Pictures(Mapping[str, torch.Tensor]):
    """Pictures by name, each read when it is asked for, so that a large folder is never held as a whole."""

    def __init__(self, files: dict[str, Path]):
        self.files = files

    def __getitem__(self, name: str) -> torch.Tensor:
        from ...lib.pictures.files import read_picture

        return read_picture(self.files[name])

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def _pictures(path: Path) -> _Pictures:
    """By name without ending, and without the one that `restore` adds. Raises UserError for two files of one such name."""
    from ...lib.pictures.files import is_picture

    if not path.exists():
        raise UserError(f"measure: {path} does not exist.")
    files = [path] if not path.is_dir() else sorted(one for one in path.iterdir() if is_picture(one))
    if not files:
        raise UserError(f"measure: there are no pictures in {path}.")
    found: dict[str, Path] = {}
    for one in files:
        name = one.stem.removesuffix("_restored")
        if name in found:
            raise UserError(
                f"measure: {found[name].name} and {one.name} in {path} have the same name, {name!r}, so that it is unclear which is "
                "compared. Move one of them away."
            )
        found[name] = one
    return _Pictures(found)

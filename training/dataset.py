"""The dataset of Face2Scene's second stage, built from photographs (paper, section 4.1; supplement, sections 6 and 7.3).

python run.py dataset --photos FOLDER --out FOLDER [--albums FOLDER]

Every photograph that passes the gates becomes a folder: ``clean.png``; ``damaged_N.png``, five versions by S3Diff's recipes; and
``face_N.png``, the restored face beside the damaged one at the photograph's own scale, cut as it is where damage is estimated.
``manifest.jsonl`` has a line with all measurements for every photograph, accepted or not; ``settings.json`` has the
settings.
An interrupted run can be resumed at any point: a folder gets its name, and its line is written, only when it is
complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..lib.degradation.estimate import LARGEST, face_pair
from ..lib.degradation.recipe import Recipe
from ..lib.faces.align import take_crop
from ..lib.faces.detect import Folders
from ..lib.faces.embed import Embedder
from ..lib.fusion.mask import border_fade
from ..lib.pictures.files import pictures_below, read_picture, to_pil
from ..lib.restoring.apply import restore_crop
from ..lib.storage.resume import SETTINGS, settle_folder
from ..lib.storage.whole import exclusive, whole_folder, write_whole
from ..lib.vocabulary import Conditions, Face, Library, Reference, Restorer, UserError
from .data import DataConfig, draw_recipe
from .gates import Examined, Gates, Scorer, examine
from .stages import changed

MANIFEST, PICTURES = "manifest.jsonl", "pictures"
MIXTURE = ("s3diff", 0.4), ("s3diff_x2", 0.3), ("s3diff_x4", 0.3)  # of S3Diff's recipes
TRUTH = "ground truth"  # if there is no album, as published


@dataclass(frozen=True)
class Config:
    """versions: damaged versions per photograph; mixture: family -> share of their recipes; seed: of the recipes.

    operators: how many recipes the whole dataset has; several photographs then share one, as training FaDeX needs. 0: each version has
    one of its own.
    """

    gates: Gates = Gates()
    versions: int = 5
    mixture: tuple[tuple[str, float], ...] = MIXTURE
    seed: int = 0
    operators: int = 0

    def describe(self) -> dict[str, Any]:
        """What a folder is begun with; datasets from before ``operators`` have none."""
        return {name: value for name, value in asdict(self).items() if name != "operators" or value}


@dataclass(frozen=True)
class Tools:
    """The networks that measure and restore.

    references: restorers for a face with an album, applied in sequence; without: the restorer for a face without one.
    scorers: see `examine`.
    """

    library: Library
    embedder: Embedder
    references: tuple[Restorer, ...]
    without: Restorer
    scorers: Mapping[str, Scorer]
    model_folder: Folders = None

    def describe(self) -> dict[str, Any]:
        return {
            "faces_with_album": " + ".join(one.name for one in self.references),
            "faces_without_album": f"{TRUTH} over {self.without.name}",
            "identity": self.embedder.name,
            "quality": sorted(self.scorers),
            "people": sorted(person.name for person in self.library.people),
        }


def read_config(path: Path) -> Config:
    """The defaults with the overrides of a JSON file, such as ``{"gates": {"short_side": 720}}``. Raises UserError."""
    try:
        return changed(Config(), json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a dataset configuration ({error}).") from error


@torch.no_grad()
def build_dataset(
    photos: Path,
    out: Path,
    config: Config,
    tools: Tools,
    report: Callable[[int, int], None] = lambda done, total: None,
    called: tuple[str, str] = ("--photos", "--out"),
) -> dict[str, Any]:
    """Builds the dataset in ``out``, or resumes building it. Returns the `dataset_summary`.

    report: called after each photograph, may raise to stop. called: what the user calls both folders.
    Raises UserError if ``photos`` contains no picture, if ``out`` was started with different settings, or if another process is
    building in it.
    """
    files = pictures_below(photos)
    if not files:
        raise UserError(f"{called[0]} {photos}: the folder contains no pictures.")
    if out.resolve().is_relative_to(photos.resolve()):
        raise UserError(
            f"{called[1]} {out} is inside the photographs folder, so its pictures would be read as photographs. Choose "
            "another folder."
        )
    name = f"{called[1]} {out}"
    with exclusive(out, f"{name}: another process is building there. Wait for it, or choose another folder."):
        settle_folder(out, {**config.describe(), **tools.describe()}, name, "Choose another folder.")
        return dataset_summary(_build(photos, files, out, config, tools, report))


def _build(
    photos: Path, files: list[Path], out: Path, config: Config, tools: Tools, report: Callable[[int, int], None]
) -> Collection[dict[str, Any]]:
    """The manifest's lines, of which those are made that are not there."""
    done = {line["file"]: line for line in read_manifest(out)}
    for number, file in enumerate(tqdm(files, "photographs")):
        report(number, len(files))
        name, status = file.relative_to(photos).as_posix(), file.stat()
        stamp = {"bytes": status.st_size, "changed": status.st_mtime_ns}
        if stamp.items() <= done.get(name, {}).items():
            continue
        done[name] = {"file": name, **stamp, **_make(file, name, out, config, tools)}
        with (out / MANIFEST).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(done[name], ensure_ascii=False) + "\n")
    return done.values()


def dataset_summary(lines: Collection[dict[str, Any]]) -> dict[str, Any]:
    """The number of accepted photographs, of rejections by each gate, and of faces restored by each restorer."""
    reasons = Counter(gate for line in lines for gate in line["refused"])
    faces = Counter(version["face"] for line in lines for version in line.get("versions", ()))
    return {
        "photographs": len(lines),
        "let in": sum(not line["refused"] for line in lines),
        "refused by": dict(reasons.most_common()),
        "faces restored by": dict(faces.most_common()),
    }


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The last line of every photograph. A line that was cut off by an interruption is removed from the file."""
    path = folder / MANIFEST
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole)
    try:
        lines = [json.loads(line) for line in whole.split("\n")[:-1]]  # names of files may hold other ends of lines
        return list({line["file"]: line for line in lines}.values())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a dataset manifest ({error}).") from error


def _make(file: Path, name: str, out: Path, config: Config, tools: Tools) -> dict[str, Any]:
    """The manifest line of one photograph; writes its folder if it is accepted."""
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    target = out / PICTURES / key
    shutil.rmtree(target, ignore_errors=True)  # of an older version of the photograph
    try:
        found = examine(
            file,
            _named(name, tools.library),
            tools.library,
            config.gates,
            tools.embedder,
            tools.scorers,
            tools.model_folder,
        )
    except UserError as error:
        return {"refused": {"file": str(error)}, "measured": {}, "skipped": {}}
    line: dict[str, Any] = {"refused": found.refused, "measured": found.measured, "skipped": found.skipped}
    if found.refused:
        return line
    found.picture = rounded_to_bytes(found.picture)
    with whole_folder(target) as partial:
        to_pil(found.picture).save(partial / "clean.png")
        versions = [_version(number, key, partial, found, config, tools) for number in range(config.versions)]
    return line | {
        "folder": f"{PICTURES}/{key}",
        "person": found.person.name if found.person else None,
        "references": [one.name for one in found.person.references] if found.person else [],
        "box": [round(side, 1) for side in found.face.box],
        "landmarks": found.face.landmarks.round(1).tolist(),
        "versions": versions,
    }


def _named(name: str, library: Library) -> str | None:
    """The names of a photograph's folders, innermost first."""
    known = {person.name for person in library.people}
    return next((part for part in reversed(Path(name).parts[:-1]) if part in known), None)


def _version(number: int, key: str, folder: Path, found: Examined, config: Config, tools: Tools) -> dict[str, Any]:
    """Writes one damaged version and its face pair; both go through the same operator, because they are one picture."""
    # Depends only on the photograph's name and the version, so that the order of building does not matter.
    rng = np.random.default_rng([config.seed, number, int(key, 16)])
    shared = {"operator": int(rng.integers(config.operators))} if config.operators else {}
    drawn = np.random.default_rng([config.seed, *shared.values()]) if shared else rng
    recipe = draw_recipe(DataConfig(mixture=config.mixture), drawn)
    if shared:
        recipe = replace(recipe, seed=int(rng.integers(2**62)))  # the same operator, with noise of its own
    damaged = rounded_to_bytes(recipe.apply(found.picture[None])[0])
    to_pil(damaged).save(folder / f"damaged_{number}.png")
    references = found.person.references if found.person else ()
    face = replace(found.face, crop=take_crop(damaged, found.face.similarity)[0])
    if references:
        by, face = (
            " + ".join(one.name for one in tools.references),
            _from_album(damaged, face, references, tools, recipe),
        )
    else:
        by, face = (
            TRUTH,
            replace(face, restored=isolated(found.face.crop, _restored(damaged, face, tools.without, (), recipe))),
        )
    pair = face_pair(damaged, face)
    to_pil(torch.cat([pair[:3], pair[3:]], -1)).save(folder / f"face_{number}.png")
    return {"recipe": json.loads(recipe.to_json()), "face": by, **shared}


def _from_album(
    damaged: torch.Tensor, face: Face, references: tuple[Reference, ...], tools: Tools, recipe: Recipe
) -> Face:
    for restorer in tools.references:
        face = replace(face, restored=_restored(damaged, face, restorer, references, recipe))
    return face


def _restored(
    damaged: torch.Tensor, face: Face, restorer: Restorer, references: tuple[Reference, ...], recipe: Recipe
) -> torch.Tensor:
    return restore_crop(damaged, face, restorer, Conditions(references, seed=recipe.seed)).float().cpu()


def rounded_to_bytes(picture: torch.Tensor) -> torch.Tensor:
    """A picture in 0..1 as stored in its file, so that applying a recipe to the clean file reproduces the damaged one."""
    return (picture.clamp(0, 1) * 255).round() / 255


def isolated(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """M truth + (1 - M) prediction, as the paper inserts true faces (section 4.2): M is one in the middle of a crop ``[3, S, S]``
    and fades to nothing at its edges."""
    return torch.lerp(prediction, truth, border_fade(truth.shape[-1]).expand_as(truth))


class Prepared(torch.utils.data.Dataset):
    """Item i: two crops ``clean`` and ``damaged`` ``[2, 3, S, S]``, and the face pairs of their photographs: ``pair``
    ``[2, 6, LARGEST, LARGEST]``, of which the first ``pair_size`` ``[2, 2]`` rows and columns count.

    Endless by construction: the index is the seed. One of the damaged versions is drawn every time, as published.
    """

    def __init__(self, folder: Path, config: DataConfig, length: int):
        self.folder, self.config, self.length = folder, config, length
        self.lines = [line for line in read_manifest(folder) if not line["refused"]]
        if not self.lines:
            raise UserError(
                f"--dataset {folder}: the folder contains no photographs. Build a dataset with `python run.py dataset`."
            )
        side = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["gates"]["side"]
        if config.crop > side:
            raise UserError(
                f"--dataset {folder}: its pictures are {side} pixels wide, which is less than a crop of {config.crop}."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.config.seed, index))
        pictures = list(self._pictures(rng))
        return {name: torch.stack([one[name] for one in pictures]) for name in pictures[0]}

    def _pictures(self, rng: np.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
        side = self.config.crop
        for _ in range(2):
            line = self.lines[rng.integers(len(self.lines))]
            version = rng.integers(len(line["versions"]))
            folder = self.folder / line["folder"]
            both = torch.stack([read_picture(folder / name) for name in ("clean.png", f"damaged_{version}.png")])
            top, left = (rng.integers(0, length - side + 1) for length in both.shape[-2:])
            both = both[..., top : top + side, left : left + side]
            clean, damaged = both.flip(-1) if rng.random() < 0.5 else both
            found = torch.cat(read_picture(folder / f"face_{version}.png").chunk(2, -1))
            pair = torch.zeros(6, LARGEST, LARGEST)
            pair[:, : found.shape[1], : found.shape[2]] = found
            yield {"clean": clean, "damaged": damaged, "pair": pair, "pair_size": torch.tensor(found.shape[1:])}

    def describe(self) -> dict[str, Any]:
        """For the provenance of models trained on it."""
        return json.loads((self.folder / SETTINGS).read_text(encoding="utf-8")) | dataset_summary(self.lines)

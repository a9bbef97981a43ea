"""Published weights: purpose, license, source and folder. Nothing is downloaded unless the user asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...lib.extras import require
from ...lib.storage.fingerprint import file_sha256
from ...lib.storage.names import shown_folder
from ...lib.vocabulary import UserError

DATA = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Weights:
    """One file. ``repository`` names it on the Hugging Face hub; without one, ``page`` says where a person finds it.

    ``file`` is its path in the repository, which it keeps below ``below`` in the folder; ``bytes`` is the published size,
    rounded where only that is known.
    """

    name: str
    purpose: str
    file: str
    folder: str
    licence: str
    commercial: str
    bytes: int | None = None
    sha256: str | None = None
    repository: str | None = None
    page: str | None = None
    below: str = ""

    @property
    def place(self) -> Path:
        """The path inside its folder."""
        return Path(self.below) / self.file

    @property
    def size(self) -> str:
        if self.bytes is None:
            return "size not published"
        unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if self.bytes >= unit)
        return f"{self.bytes / unit:.{1 if unit == 1e9 else 0}f} {name}"

    @property
    def source(self) -> str:
        return f"{self.repository} on Hugging Face" if self.repository else str(self.page)

    def describe(self) -> str:
        return (
            f"{self.name}: {self.file}, {self.size}, {self.purpose}; license {self.licence}, commercial use: "
            f"{self.commercial}; from {self.source}"
        )


def catalogue() -> dict[str, Weights]:
    """All entries by name."""
    entries = json.loads(DATA.read_text(encoding="utf-8"))
    return {name: Weights(name, **entry) for name, entry in entries.items()}


def entry(name: str) -> Weights:
    """Raises UserError with the known names."""
    known = catalogue()
    if name not in known:
        raise UserError(f"There are no weights {name!r} in the catalog. Known: {', '.join(known)}.")
    return known[name]


def find(name: str, folders: list[Path]) -> Path:
    """The file in the first of the folders that has it. Raises UserError with everything needed to get it."""
    weights = entry(name)
    for folder in folders:
        if (folder / weights.place).is_file():
            return folder / weights.place
    get = (
        f"Run the node Download Weights, or `python run.py models get {name}` in a copy of the repository, or put the file there "
        "yourself."
    )
    raise UserError(
        f"{weights.file} is missing ({weights.describe()}). It belongs in {shown_folder((folders[0] / weights.place).parent)}. "
        + (get if weights.repository else "Download it from there and put it into that folder.")
    )


def find_all(names: Sequence[str], folders: Callable[[str], list[Path]]) -> list[Path]:
    """Several files at once; folders(kind) are those of an entry's ``folder``. The UserError names all that are missing."""
    found, missing = [], []
    for name in names:
        try:
            found.append(find(name, folders(entry(name).folder)))
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("\n".join(missing))
    return found


def download(name: str, folder: Path) -> Path:
    """Downloads a file into ``folder`` with a progress bar, resuming an earlier attempt; verifies it if its hash is
    known.

    Raises UserError if it cannot be downloaded or does not match the catalog.
    """
    weights = entry(name)
    if weights.repository is None:
        raise UserError(
            f"{weights.file} cannot be downloaded automatically. Get it from {weights.source} and put it into "
            f"{shown_folder((folder / weights.place).parent)}."
        )
    require("Download Weights", "download")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        from httpx import HTTPError
    except ImportError:  # before its version 1 the hub's library was built on requests, whose errors are OSErrors
        HTTPError = OSError  # noqa: N806

    try:
        path = Path(hf_hub_download(weights.repository, weights.file, local_dir=folder / weights.below))
    except (HfHubHTTPError, LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise UserError(
            f"{weights.file} could not be downloaded from {weights.source}: {error}. Try again; the partial download "
            "is kept."
        ) from error
    verify(weights, path)
    return path


def verify(weights: Weights, path: Path) -> None:
    """Raises UserError, and removes the file, if it is not the published one."""
    if weights.sha256 is None:
        return
    found = file_sha256(path)
    if found != weights.sha256:
        path.unlink()
        raise UserError(
            f"{path.name} is not the published file (sha256 {found[:12]}..., expected {weights.sha256[:12]}...) and "
            f"was removed. Download it again from {weights.source}."
        )

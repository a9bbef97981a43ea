"""Nodes that go through a folder of photographs, a few in each run."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo

from ..lib.bridge import io, output_folder, resolve_input
from ..lib.pictures.comfy_files import load_image
from ..lib.pictures.files import to_pil
from ..lib.pictures.mirror import mirrored, photographs
from ..lib.storage.whole import check_room, whole, write_whole
from ..lib.vocabulary import UserError
from . import sockets
from .layout import to_photos

MOST = 100  # photographs in one run
RESULTS: dict[str, Any] = dict(
    default="restored", tooltip="The folder for the results, inside the output folder. Both nodes need the same."
)


class LoadNextPhotographs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LoadNextPhotographs",
            display_name="Load Next Photographs",
            category=sockets.SCENE,
            description="Loads the next photographs of a folder, and of the folders in it, that have no result yet. Run the workflow again "
            "and again, for example with Run (Instant), until it says that nothing is left.",
            search_aliases=["batch", "folder", "directory", "load images", "queue", "resume"],
            inputs=[
                io.String.Input(
                    "folder", default="photographs", tooltip="The folder of photographs, inside the input folder."
                ),
                io.String.Input("results", **RESULTS),
                io.Int.Input(
                    "count",
                    default=1,
                    min=1,
                    max=MOST,
                    tooltip="The number of photographs in one run. All of them are in memory at once.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The photographs, one after the other."
                ),
                io.String.Output(
                    display_name="names",
                    is_output_list=True,
                    tooltip="Their paths in the folder, for Save Photographs.",
                ),
                io.String.Output(
                    display_name="report", tooltip="How many photographs are left, and which of them cannot be read."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str, results: str, count: int) -> float:
        return float("nan")  # what is next changes with every run

    @classmethod
    def execute(cls, folder: str, results: str, count: int) -> io.NodeOutput:
        source, target = resolve_input(folder), _inside(results)
        if not source.is_dir():
            raise UserError(f"Load Next Photographs: {folder!r} is not a folder. Enter one inside the input folder.")
        every = sorted(photographs(source))
        left = [name for name in every if not (target / mirrored(name)).exists()]
        images: list[torch.Tensor] = []
        names: list[str] = []
        unread: list[str] = []
        for name in left:
            if len(names) == count:
                break
            try:
                images.append(load_image(resolve_input(source / name))[0][:1])
                names.append(name)
            except UserError as error:
                unread.append(f"{name}: {error}")
        rest = len(left) - len(names) - len(unread)
        if not names:
            skipped = f" {len(unread)} cannot be read: {'; '.join(unread)}" if unread else ""
            raise UserError(f"Load Next Photographs: nothing is left to do in {folder!r}, which holds {len(every)} photographs.{skipped}")
        return io.NodeOutput(images, names, "\n".join([f"{rest} of {len(every)} photographs are left after this run.", *unread]))


class SavePhotographs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SavePhotographs",
            display_name="Save Photographs",
            category=sockets.SCENE,
            description="Saves a result in the same subfolder and under the same name as its photograph, with the report beside it. A result "
            "that is there already is replaced.",
            search_aliases=["batch", "folder", "directory", "save images", "mirror"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The restored photograph."),
                io.String.Input("name", force_input=True, tooltip="Its path from Load Next Photographs."),
                io.String.Input("results", **RESULTS),
                io.String.Input(
                    "report", force_input=True, optional=True, tooltip="The report to save beside it, for example JSON."
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where it was saved, in the output folder.")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, name: str, results: str, report: str = "") -> io.NodeOutput:
        photos = to_photos(images)
        if len(photos) != 1:
            raise UserError(f"Save Photographs: {len(photos)} pictures have one name. Connect one picture per photograph.")
        target = _inside(f"{results}/{mirrored(name)}")
        check_room(target.parent, 4 * photos[0].numel(), "The output folder")
        if report:
            write_whole(target.with_name(f"{target.name}.json"), report)
        mark = PngInfo()
        mark.add_text("personal-restore", "result")
        with whole(target) as partial:  # last, because it says that the photograph is done
            to_pil(photos[0]).save(partial, "PNG", pnginfo=mark)
        path = target.relative_to(output_folder().resolve())
        folder = path.parent.as_posix()
        shown = {"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}
        return io.NodeOutput(path.as_posix(), ui={"images": [shown]})


def _inside(path: str) -> Path:
    """A path in the output folder, which need not exist. Raises UserError if it leads out."""
    base = output_folder().resolve()
    found = (base / path).resolve()
    if PurePosixPath(path).is_absolute() or not found.is_relative_to(base) or found == base:
        raise UserError(f"{path!r} is not a folder inside the output folder. Enter a name such as 'restored'.")
    return found

"""Nodes that go through a folder of photographs, a few in each run."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import torch

from ..lib.bridge import ExecutionBlocker, io, output_folder, resolve_input
from ..lib.pictures.comfy_files import eight_bit, load_image
from ..lib.pictures.mark import is_marked, result_mark
from ..lib.pictures.mirror import Remaining, mirrored
from ..lib.storage.inputs import writable
from ..lib.storage.whole import check_room, whole, write_whole
from ..lib.vocabulary import UserError
from . import sockets
from .layout import check_numbers

MOST = 100  # photographs in one run
_REMAINING = Remaining()  # of the folder that was asked for last
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
        source = resolve_input(folder)
        if not source.is_dir():
            raise UserError(f"{folder!r} is not a folder. Enter one inside the input folder.")
        todo = _REMAINING.turn(
            source,
            writable(results, output_folder()),
            count,
            lambda name: load_image(resolve_input(source / name))[0][:1],
        )
        if not todo.total:
            raise UserError(f"There are no photographs in {folder!r}. Put them there, or enter another folder.")
        unread = [f"{name}: {error}" for name, error in todo.unread.items()]
        if todo.read:
            said = [f"After this run, {todo.left} of {todo.total} are left.", *unread]
            return io.NodeOutput(list(todo.read.values()), list(todo.read), "\n".join(said))
        done = f"Nothing is left to do: {todo.total - len(unread)} of {todo.total} photographs have a result."
        if unread:
            done += f" The others cannot be read: {len(unread)}."
        # One message, at Save Photographs, and no error; Run (Instant) stops there. All other nodes are passed over in silence.
        return io.NodeOutput(ExecutionBlocker(None), ExecutionBlocker(done), "\n".join([done, *unread]))


class SavePhotographs(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SavePhotographs",
            display_name="Save Photographs",
            category=sockets.SCENE,
            description="Saves a result in the same subfolder and under the same name as its photograph, with the report beside it. "
            "A result that is there already is replaced, another picture never.",
            search_aliases=["batch", "folder", "directory", "save images", "mirror"],
            is_output_node=True,
            inputs=[
                # First, because ComfyUI looks at blocked inputs in this order, and that of the names says why.
                io.String.Input(
                    "names", force_input=True, tooltip="The path of the photograph, from Load Next Photographs."
                ),
                io.Image.Input("images", tooltip="The restored photograph."),
                io.String.Input("results", **RESULTS),
                io.String.Input(
                    "report", force_input=True, optional=True, tooltip="The report to save beside it, for example JSON."
                ),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="Where it was saved, in the output folder.")],
        )

    @classmethod
    def execute(cls, names: str, images: torch.Tensor, results: str, report: str = "") -> io.NodeOutput:
        check_numbers(images, "The picture")
        if len(images) != 1:
            raise UserError(f"{len(images)} pictures have one name. Connect one picture for each photograph.")
        if not PurePosixPath(names).name:
            raise UserError("A name is empty. Connect the names from Load Next Photographs.")
        target = writable(mirrored(names), writable(results, output_folder()))
        if target.exists() and not is_marked(target):
            raise UserError(
                f"{mirrored(names)!r} is there already and is not a result. Choose another folder for the results."
            )
        check_room(target.parent, 4 * images.numel(), "The output folder")
        if report:
            write_whole(target.with_name(f"{target.name}.json"), report)
        with whole(target) as partial:  # last, because it says that the photograph is done
            eight_bit(images[0]).save(partial, "PNG", pnginfo=result_mark())
        path = target.relative_to(output_folder().resolve())
        folder = path.parent.as_posix()
        shown = {"filename": path.name, "subfolder": folder, "type": "output"}
        return io.NodeOutput(path.as_posix(), ui={"images": [shown]})

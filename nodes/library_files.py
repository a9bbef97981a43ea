"""People kept in one file, and forgotten again."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import io, models_folder
from ..lib.storage.libraries import delete_person, load_library_file, save_library, stamp
from ..lib.vocabulary import Library
from . import sockets
from .sources import report

NAME = dict(default="family", tooltip="The file's name in models/personal_restore/libraries, without its ending.")


def folder() -> Path:
    return models_folder() / "libraries"


class SaveLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_SaveLibrary",
            display_name="Save Library",
            category=sockets.CATEGORY,
            description="Keeps the people of a library in one file, so that an album need not be read again. The file holds aligned face "
            "crops and embeddings: biometric data of the people in it.",
            search_aliases=["album", "people", "store"],
            inputs=[sockets.Library.Input("library", tooltip="The people to keep."), io.String.Input("name", **NAME)],
            outputs=[io.String.Output(display_name="report", tooltip="Who is in the file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, library: Library, name: str) -> io.NodeOutput:
        path = save_library(library, folder(), name)
        return io.NodeOutput(f"Saved {path.name}.\n{report(library)}")


class LoadLibraryFile(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_LoadLibraryFile",
            display_name="Load Saved Library",
            category=sockets.CATEGORY,
            description="Brings back the people that Save Library kept.",
            search_aliases=["album", "people"],
            inputs=[io.String.Input("name", **NAME)],
            outputs=[
                sockets.Library.Output(display_name="library", tooltip="The known people."),
                io.String.Output(display_name="report", tooltip="Who is in the file."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        return str(stamp(folder(), name))

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        library = load_library_file(folder(), name)
        return io.NodeOutput(library, report(library))


class ForgetPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_ForgetPerson",
            display_name="Forget Person",
            category=sockets.CATEGORY,
            description="Removes everything about a person from a saved library; the file goes with the last one.",
            search_aliases=["delete", "privacy", "people"],
            inputs=[
                io.String.Input("name", **NAME),
                io.String.Input(
                    "person", default="", tooltip="Who is to be forgotten, as the library's report spells it."
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="Who is left.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name: str, person: str) -> io.NodeOutput:
        return io.NodeOutput(report(delete_person(folder(), name, person)))

"""Nodes that save people to a file, load them and remove them."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import io, weight_folders
from ..lib.storage.libraries import delete_person, library_stamp, load_library_file, save_library
from ..lib.storage.names import holding, names_in
from ..lib.vocabulary import Library
from . import sockets
from .sources import report

NAME = "The file name in models/personal_restore/libraries, without the extension."


def library_folders() -> list[Path]:
    """Where libraries are looked for; new ones go into the first."""
    return [folder / "libraries" for folder in weight_folders("personal_restore")]


def saved_libraries() -> io.Combo.Input:
    return sockets.file_dropdown("name", names_in(library_folders()), NAME)


def folder_of(name: str) -> Path:
    return holding(library_folders(), name, "library")


class SaveLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SaveLibrary",
            display_name="Save Library",
            category=sockets.FACES,
            description="Saves the people in a library to one file, so that their albums do not need to be read "
            "again. The file contains aligned face crops and embeddings, which are biometric data.",
            search_aliases=["album", "people", "store"],
            inputs=[
                sockets.Library.Input("library", tooltip="The people to save."),
                io.String.Input("name", default="family", tooltip=NAME),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The people in the file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, library: Library, name: str) -> io.NodeOutput:
        path = save_library(library, library_folders()[0], name)
        return io.NodeOutput(f"Saved {path.name}.\n{report(library)}")


class LoadLibraryFile(sockets.FromSavedFile):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LoadLibraryFile",
            display_name="Load Saved Library",
            category=sockets.FACES,
            description="Loads the people saved with Save Library.",
            search_aliases=["album", "people"],
            inputs=[saved_libraries()],
            outputs=[
                sockets.Library.Output(display_name="library", tooltip="The known people."),
                io.String.Output(display_name="report", tooltip="The people in the file."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        return str(library_stamp(folder_of(name), name))

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        library = load_library_file(folder_of(name), name)
        return io.NodeOutput(library, report(library))


class ForgetPerson(sockets.FromSavedFile):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ForgetPerson",
            display_name="Forget Person",
            category=sockets.FACES,
            description="Removes all data of a person from a saved library. Removing the last person deletes the file.",
            search_aliases=["delete", "privacy", "people"],
            inputs=[
                saved_libraries(),
                io.String.Input(
                    "person", default="", tooltip="The person to remove, spelled as in the library's report."
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The people who remain.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name: str, person: str) -> io.NodeOutput:
        return io.NodeOutput(report(delete_person(folder_of(name), name, person)))

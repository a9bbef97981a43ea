"""Nodes that load photographs and people."""

from __future__ import annotations

import logging

import torch

from ..lib import samples
from ..lib.bridge import input_folder, io, resolve_input, weight_folders
from ..lib.degradation.families import FAMILIES
from ..lib.faces import library as albums
from ..lib.faces.embed import best_embedder
from ..lib.pictures import comfy_files as files
from ..lib.storage.fingerprint import file_sha256
from ..lib.vocabulary import Library, UserError
from . import sockets
from .layout import to_image, to_photos

log = logging.getLogger(__name__)

SAMPLE_ALBUM = "sample album"  # where a folder could be named, so that a workflow runs before there is one
PORTRAIT, EDIT = "portrait", "edited portrait"
SAMPLE_DAMAGE = 14  # the seed of the family trial


def sample_library() -> Library:
    embedder = best_embedder(weight_folders("personal_restore"))
    return albums.library_from_images(samples.sample_album(), samples.PERSON, embedder)


class Sample(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_Sample",
            display_name="Sample Photograph and Album",
            category=sockets.LAB,
            description="NASA's portrait of Eileen Collins and an album made from it, so that you can run a workflow "
            "before you choose a photograph of your own. " + samples.NOTE,
            search_aliases=["example", "demo", "test image", "astronaut"],
            inputs=[],
            outputs=[
                io.Image.Output(display_name="photograph", tooltip="The portrait, 512x512, undamaged."),
                sockets.Library.Output(display_name="library", tooltip="One person, four pictures."),
                io.Image.Output(
                    display_name="edit",
                    tooltip="The portrait as an editing model may return it: cropped, larger, recolored, with the face of somebody else.",
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(to_image(samples.photograph()), sample_library(), to_image(samples.edit()))


class SampleGroup(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SampleGroup",
            display_name="Sample Group and Albums",
            category=sockets.LAB,
            description="A photograph of three people, two of them known, so that you can run a group workflow before "
            "you choose a photograph of your own. " + samples.GROUP_NOTE,
            search_aliases=["example", "demo", "group photo", "family"],
            inputs=[],
            outputs=[
                io.Image.Output(display_name="photograph", tooltip="Three people, 700x300, undamaged."),
                sockets.Library.Output(display_name="library", tooltip="Two of the people, with four pictures each."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        library, embedder = Library(), best_embedder(weight_folders("personal_restore"))
        for name, pictures in samples.group_albums().items():
            library = albums.merge_libraries(library, albums.library_from_images(pictures, name, embedder))
        return io.NodeOutput(to_image(samples.group()), library)


class LoadPhotograph(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LoadPhotograph",
            display_name="Load Photograph",
            category=sockets.SCENE,
            description="Loads a photograph, as Load Image does, or a sample, so that a workflow runs before you choose a "
            "photograph of your own.",
            search_aliases=["load image", "upload", "open photo", "sample", "example"],
            inputs=[
                # The editor shows what is chosen from the input folder. For an empty name it looks for nothing there.
                io.Combo.Input(
                    "image",
                    options=["", *files.pictures(input_folder())],
                    default="",
                    extra_dict={"image_upload": True},
                    tooltip="A picture in ComfyUI's input folder. While nothing is chosen, the sample is loaded.",
                ),
                io.Combo.Input(
                    "sample",
                    options=[PORTRAIT, EDIT],
                    default=PORTRAIT,
                    advanced=True,
                    tooltip="What is loaded while no picture is chosen. portrait: damaged. edited portrait: as an editing model "
                    "may return it.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="photograph", tooltip="The photograph; of an animated file, every frame."),
                io.Image.Output(
                    display_name="undamaged",
                    tooltip="The sample without its damage, for Report. Nothing for a photograph of your own.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        try:
            return not image or resolve_input(image).is_file() or f"{image!r} is a folder, not a picture"
        except UserError as error:
            return str(error).rstrip(".")

    @classmethod
    def fingerprint_inputs(cls, image: str, sample: str) -> str:
        return file_sha256(resolve_input(image)) if image else sample

    @classmethod
    def execute(cls, image: str, sample: str) -> io.NodeOutput:
        if image:
            return io.NodeOutput(files.load_image(resolve_input(image))[0], None)
        if sample == EDIT:
            return io.NodeOutput(to_image(samples.edit()), None)
        whole = samples.photograph()
        return io.NodeOutput(to_image(FAMILIES["trial"](SAMPLE_DAMAGE).apply(whole)), to_image(whole))


class LoadLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LoadLibrary",
            display_name="Load Library of People",
            category=sockets.FACES,
            description="Reads good pictures of people you know from a folder inside ComfyUI's input folder. The "
            "folder contains one subfolder per person, named after that person, or just pictures of one person. The "
            "report lists pictures that cannot be used.",
            search_aliases=["album", "reference photos", "people", "identity"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="album",
                    tooltip="The album folder, relative to the input folder. 3 to 10 sharp pictures per person work "
                    "best. sample album: the album of the sample photograph.",
                ),
            ],
            outputs=[
                sockets.Library.Output(
                    display_name="library", tooltip="The known people with their aligned reference pictures."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="The people found, and the pictures that were skipped with the reasons.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder: str) -> str:
        return SAMPLE_ALBUM if folder == SAMPLE_ALBUM else albums.album_fingerprint(resolve_input(folder))

    @classmethod
    def execute(cls, folder: str) -> io.NodeOutput:
        if folder == SAMPLE_ALBUM:
            library = sample_library()
        else:
            models = weight_folders("personal_restore")
            library = albums.load_library(
                resolve_input(folder), best_embedder(models), model_folder=models, allowed=resolve_input
            )
        return io.NodeOutput(library, report(library))


class LibraryFromImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LibraryFromImages",
            display_name="Library from Images",
            category=sockets.FACES,
            description="Creates a person from images in the workflow, and optionally adds that person to another "
            "library.",
            search_aliases=["album", "reference images", "person"],
            inputs=[
                io.Image.Input("images", tooltip="Good pictures of one person. 3 to 10 work best."),
                io.String.Input("name", default="person", tooltip="The person's name."),
                sockets.Library.Input("library", optional=True, tooltip="The library to which this person is added."),
            ],
            outputs=[
                sockets.Library.Output(display_name="library", tooltip="The known people."),
                io.String.Output(
                    display_name="report",
                    tooltip="The people found, and the pictures that were skipped with the reasons.",
                ),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, name: str, library: Library | None = None) -> io.NodeOutput:
        merged = albums.library_from_images(
            list(to_photos(images)), name, best_embedder(weight_folders("personal_restore"))
        )
        if library is not None:
            merged = albums.merge_libraries(library, merged)
        return io.NodeOutput(merged, report(merged))


def report(library: Library) -> str:
    """One line per person, then the notes, which also go to the log: in most workflows nobody reads this text."""
    for note in library.notes:
        log.warning("Album: %s", note)
    people = [f"{person.name}: {len(person.references)} picture(s)" for person in library.people]
    return "\n".join([*people, *library.notes]) or "The library is empty."

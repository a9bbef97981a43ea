"""The node that gives the people of an edited photograph their own faces back."""

from __future__ import annotations

import json

import torch

from ..lib.bridge import as_file, io, progress, weight_folders
from ..lib.faces.detect import detect_faces
from ..lib.faces.embed import best_embedder
from ..lib.restoring.keep import Result, keep_people
from ..lib.restoring.kept import sheet, table
from ..lib.vocabulary import DegradationCode, Faces, Library, UserError
from . import sockets
from .layout import check_same_photos, to_image, to_photos


class KeepPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_KeepPerson",
            display_name="Keep the Person",
            category=sockets.SCENE,
            description="Editing models that repair a photograph often give people the faces of others. This node takes any edited version "
            "of the photograph, finds out where it shows what, and puts the restored faces back, in the light, the colors and the grain of "
            "the edit. Everything else in the edit stays as it is.",
            search_aliases=["kontext", "qwen edit", "identity", "face swap", "likeness", "supir", "seedvr"],
            is_output_node=True,  # so that app mode can show its report
            inputs=[
                io.Image.Input(
                    "edit",
                    tooltip="The edited photograph, of any size. It may be cropped, bent a little, and colored differently.",
                ),
                io.Image.Input("photograph", tooltip="The damaged photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="The faces of the photograph, matched and restored."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 returns the edit unchanged, bit for bit. 1 puts the faces back fully.",
                ),
                io.Boolean.Input(
                    "strangers",
                    default=True,
                    tooltip="Also gives people who are not in the album their own structure back, as far as the damage left it. The finer "
                    "detail stays that of the edit.",
                ),
                sockets.share_input(
                    "grain",
                    default=1.0,
                    tooltip="Adds the fine noise of the edit to the faces. 1 matches the edit, 0 adds none.",
                ),
                sockets.seed("Seed for the grain. The same seed gives the same noise."),
                sockets.Library.Input(
                    "library", optional=True, tooltip="The albums, to measure how far the edit had moved each person."
                ),
                sockets.Code.Input(
                    "code",
                    optional=True,
                    tooltip="The estimated damage, which says how much of a stranger the photograph still shows. Without it, hardly any "
                    "damage is assumed.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edit with the people's own faces."),
                io.Mask.Output(display_name="mask", tooltip="The areas where faces were put back."),
                io.String.Output(
                    display_name="report",
                    tooltip="JSON: whether the edit could be registered, which faces were put back, and how far each one was from the "
                    "photograph and from the album, before and after.",
                ),
                io.Image.Output(
                    display_name="sheet",
                    tooltip="Every face in the photograph, in the edit, in the result and in the album.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        edit: torch.Tensor,
        photograph: torch.Tensor,
        faces: Faces,
        strength: float,
        strangers: bool,
        grain: float,
        seed: int,
        library: Library | None = None,
        code: DegradationCode | None = None,
    ) -> io.NodeOutput:
        edits, photos = to_photos(edit), to_photos(photograph)
        check_same_photos("Keep the Person", photos, faces)
        if len(edits) != len(photos):
            raise UserError(
                f"Keep the Person: there are {len(edits)} edit(s) of {len(photos)} photograph(s). Connect one edit of each."
            )
        folders = weight_folders("personal_restore")
        results: list[Result] = []
        told = progress()
        for number, (photo, one, frame) in enumerate(zip(photos, edits, faces.frames, strict=True)):
            own = None if code is None else code.of(number, len(photos))
            kept = keep_people(
                photo,
                one,
                frame,
                detect_faces(one, model_folder=folders),
                scalars=None if own is None else own.scalars,
                strength=strength,
                strangers=strangers,
                grain=grain,
                seed=seed + sum(len(before.people) for before in results),
            )
            results.append(kept)
            told(number + 1, len(photos))
        known, embedder = library or Library(), best_embedder(folders)
        summary = table(results, known, embedder)
        report = json.dumps(summary, indent=2, ensure_ascii=False)
        return io.NodeOutput(
            to_image(torch.stack([one.picture for one in results])),
            torch.stack([one.mask for one in results]),
            report,
            to_image(sheet(results, known, summary)),
            ui=as_file(report, ".json"),
        )

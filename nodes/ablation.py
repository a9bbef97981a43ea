"""The papers' experiments: a true face in a scene, and a graph run over values."""

from __future__ import annotations

import torch

from ..lib.ablation import Grid, draw_sheet, grid_table, make_grid
from ..lib.bridge import io
from ..lib.fusion.insert import insert_faces
from ..lib.pictures.files import from_pil, to_pil
from ..lib.vocabulary import Faces, UserError
from . import sockets
from .layout import to_image, to_photos


class InsertFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_InsertFace",
            display_name="Insert Face",
            category=sockets.LAB,
            description="Puts the faces of another picture, such as the undamaged original, into a restored scene, fading toward their "
            "edges. What is then measured is the rest of the scene (Face2Scene, table 3).",
            search_aliases=["ground truth face", "face2scene", "gt face inserted", "composite"],
            inputs=[
                io.Image.Input("scene", tooltip="The restored scene."),
                io.Image.Input(
                    "source",
                    tooltip="The same picture with the faces that are wanted: the original, or a better restoration.",
                ),
                sockets.Faces.Input(
                    "faces",
                    tooltip="Where the faces are. The mask from Mask Faces counts if there is one, otherwise an oval.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The scene with these faces."),
                io.Mask.Output(display_name="mask", tooltip="Where, and how much: 1 is the source, 0 the scene."),
            ],
        )

    @classmethod
    def execute(cls, scene: torch.Tensor, source: torch.Tensor, faces: Faces) -> io.NodeOutput:
        image, mask = insert_faces(to_photos(scene), to_photos(source), faces)
        return io.NodeOutput(to_image(image), mask)


class ValuesToTry(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ValuesToTry",
            display_name="Values to Try",
            category=sockets.LAB,
            description="Runs everything that it is linked to once for each value, and for each pair of values of two axes. Link column, "
            "and row, to any widget of any node: numbers, texts, choices and switches. Sheet of Values shows what came of it.",
            search_aliases=["ablation", "xy plot", "grid", "sweep", "compare settings"],
            inputs=[
                io.String.Input(
                    "columns",
                    default="0.1, 0.2, 0.4",
                    tooltip="The values of the columns, separated by commas or lines.",
                ),
                io.String.Input("rows", default="", tooltip="The values of the rows, if there is a second axis."),
                io.String.Input(
                    "column_name", default="", tooltip="What the values of the columns are, for the sheet."
                ),
                io.String.Input("row_name", default="", tooltip="What the values of the rows are."),
            ],
            outputs=[
                io.AnyType.Output(
                    display_name="column",
                    is_output_list=True,
                    tooltip="The column's value of each cell. Link it to a widget.",
                ),
                io.AnyType.Output(
                    display_name="row",
                    is_output_list=True,
                    tooltip="The row's value of each cell. Link it to a widget.",
                ),
                sockets.Grid.Output(display_name="grid", tooltip="For Sheet of Values."),
            ],
        )

    @classmethod
    def execute(cls, columns: str, rows: str, column_name: str, row_name: str) -> io.NodeOutput:
        grid = make_grid(columns, rows, column_name, row_name)
        each_column, each_row = zip(*grid.cells, strict=True)
        return io.NodeOutput(list(each_column), list(each_row), grid)


class SheetOfValues(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SheetOfValues",
            display_name="Sheet of Values",
            category=sockets.LAB,
            description="Draws the pictures that came of Values to Try as one labeled sheet, with their measures.",
            search_aliases=["ablation", "xy plot", "contact sheet", "grid"],
            is_input_list=True,
            inputs=[
                sockets.Grid.Input("grid", tooltip="From Values to Try."),
                io.Image.Input("pictures", tooltip="One for each cell, from nodes that the values lead to."),
                io.Int.Input("side", default=256, min=64, max=2048, tooltip="Longest side of a cell in pixels."),
                io.String.Input(
                    "measures",
                    default="",
                    optional=True,
                    force_input=True,
                    tooltip="The json output of Measure. The best value of each measure is green.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="All cells, with the values of their columns and rows."),
                io.String.Output(
                    display_name="table", tooltip="CSV: a line for each cell, with its values and measures."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, grid: list[Grid], pictures: list[torch.Tensor], side: list[int], measures: list[str] | None = None
    ) -> io.NodeOutput:
        if large := [len(one) for one in pictures if len(one) != 1]:
            raise UserError(
                f"Sheet of Values: a cell holds one photograph, but a batch of {large[0]} came. Use one photograph."
            )
        cells = [to_pil(to_photos(one)[0]) for one in pictures]
        sheet = draw_sheet(grid[0], cells, measures or [], side[0])
        return io.NodeOutput(to_image(from_pil(sheet)[None]), grid_table(grid[0], measures or []))

"""Figure 3 of Face2Scene: whether codes say what the damage is, and not what the picture shows."""

from __future__ import annotations

import csv
import io as text

import torch

from ..lib.ablation import Grid
from ..lib.bridge import io
from ..lib.degradation.similarity import Similarities, code_similarities, draw_similarities
from ..lib.pictures.files import from_pil
from ..lib.vocabulary import DegradationMaps, UserError
from . import sockets
from .estimate import extractor_of
from .layout import to_image

NODE = "Compare Codes"


class CompareCodes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_CompareCodes",
            display_name=NODE,
            category=sockets.LAB,
            description="Draws figure 3 of Face2Scene: how alike the codes of different pictures under one degradation are, and those of "
            "one picture under different degradations. The first should be near 1, the second far below.",
            search_aliases=["face2scene", "cosine similarity", "fadex", "invariance", "figure 3"],
            is_input_list=True,
            inputs=[
                sockets.Grid.Input(
                    "grid",
                    tooltip="From Values to Try, whose columns are degradations and whose rows are pictures, at least two each.",
                ),
                sockets.Map.Input("maps", tooltip="FaDeX's map of each cell."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="figure", tooltip="Both panels of the figure; the standard deviation is shaded."
                ),
                io.String.Output(
                    display_name="table", tooltip="CSV: mean and standard deviation of each row of the figure."
                ),
            ],
        )

    @classmethod
    def execute(cls, grid: list[Grid], maps: list[DegradationMaps]) -> io.NodeOutput:
        cells, shape = grid[0], (len(grid[0].rows), len(grid[0].columns))
        if min(shape) < 2 or len(maps) != shape[0] * shape[1]:
            raise UserError(
                f"{NODE}: the grid has {shape[1]} columns and {shape[0]} rows, and {len(maps)} maps came. At least two degradations and "
                f"two pictures are needed, and one map for each cell."
            )
        codes = [_code(one) for one in maps]
        found = code_similarities(torch.stack(codes).unflatten(0, shape).transpose(0, 1))
        names = [str(one) for one in cells.columns], [f"{cells.row_name} {one}".strip() for one in cells.rows]
        return io.NodeOutput(to_image(from_pil(draw_similarities(found, *names))[None]), _table(found, *names))


def _code(maps: DegradationMaps) -> torch.Tensor:
    """FaDeX's embedding of the largest pair ``[C]``, before it is normalized."""
    features = None if maps.largest is None else maps.frames[maps.largest]
    if features is None:
        raise UserError(
            f"{NODE}: there is no face pair in one of the cells. Use pictures in which a face is found and restored."
        )
    fadex = extractor_of(maps, NODE).fadex
    with torch.inference_mode():
        return fadex.project(features.to(next(fadex.parameters())))[0].float().cpu()


def _table(found: Similarities, degradations: list[str], pictures: list[str]) -> str:
    out = text.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["what is the same", "which", "mean cosine", "standard deviation"])
    for kind, names, rows in (("degradation", degradations, found.same), ("picture", pictures, found.across)):
        for name, values in zip(names, rows, strict=True):
            writer.writerow([kind, name, round(float(values.mean()), 4), round(float(values.std(correction=0)), 4)])
    return out.getvalue()

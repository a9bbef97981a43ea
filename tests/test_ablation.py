"""A graph run over values, the sheet that shows it, and true faces in scenes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.ablation import draw_sheet, grid_table, make_grid, values_of
from personal_restore.lib.faces.align import template
from personal_restore.lib.faces.detect import make_face
from personal_restore.lib.faces.detection import Detection
from personal_restore.lib.fusion.insert import insert_faces
from personal_restore.lib.standin.host import folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.vocabulary import Faces, UserError
from personal_restore.nodes import NODES
from personal_restore.tests.photographs import picture, pixels
from PIL import Image

WHERE = {"class_type": "PR_ValuesToTry", "inputs": {"rows": "1, 2", "column_name": "scale", "row_name": "seed"}}


def measured(**means) -> str:
    return json.dumps({"mean": means, "better": {"psnr": "higher", "lpips": "lower"}})


def test_values_are_numbers_switches_or_texts():
    assert values_of("1, 0.5, true\nall 21,\n", "columns") == [1, 0.5, True, "all 21"]
    for text, why in (("", "columns is empty"), ("1, 2, 1", "1 twice")):
        with pytest.raises(UserError, match=why):
            make_grid(text, "", "", "")
    with pytest.raises(UserError, match="9 columns and 8 rows are 72 runs"):
        make_grid("1,2,3,4,5,6,7,8,9", "1,2,3,4,5,6,7,8", "", "")


@pytest.mark.usefixtures("separate_folders")
def test_everything_between_the_values_and_the_sheet_runs_once_for_each_cell(small, tmp_path):
    """Numbers into a FLOAT, an INT, and a choice: what each cell shows is what the graph gives with that value alone."""
    picture(tmp_path / "photo.png", small[..., :96, :128])
    graph = {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "values": WHERE | {"inputs": WHERE["inputs"] | {"columns": "0.5, 1"}},
        "size": {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["photo", 0], "upscale_method": "area", "scale_by": ["values", 0]},
        },
        "damage": {
            "class_type": "PR_Degrade",
            "inputs": {"image": ["size", 0], "family": "trial", "seed": ["values", 1], "recipe": ""},
        },
        "sheet": {
            "class_type": "PR_SheetOfValues",
            "inputs": {"grid": ["values", 2], "pictures": ["damage", 0], "side": 128},
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["sheet", 0], "filename_prefix": "sheet"}},
        "table": {"class_type": "PreviewAny", "inputs": {"source": ["sheet", 1]}},
    }
    results = run_graph(graph, NODES)
    sheet = pixels(folders.output / "sheet_00001_.png")
    assert results.ui["table"]["text"][0].splitlines() == ["scale,seed", "0.5,1", "1,1", "0.5,2", "1,2"]
    single = {name: node for name, node in graph.items() if name in ("photo", "size", "damage")}
    for row in (1, 2):
        alone = single | {
            "size": {"class_type": "ImageScaleBy", "inputs": graph["size"]["inputs"] | {"scale_by": 1.0}},
            "damage": {"class_type": "PR_Degrade", "inputs": graph["damage"]["inputs"] | {"seed": row}},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["damage", 0], "filename_prefix": f"one{row}"}},
        }
        run_graph(alone, NODES)
        one = pixels(folders.output / f"one{row}_00001_.png").astype(int)
        shown = sheet[len(sheet) - (3 - row) * 104 :, -136:][:96, :128]
        assert np.abs(shown - one).max() <= 1, "the sheet rounds what SaveImage cuts off"


def test_the_best_measure_of_all_cells_is_green_and_the_table_has_all():
    grid = make_grid("a, b", "", "kind", "")
    cells = [Image.new("RGB", (60, 40), (128, 128, 128))] * 2
    scores = [measured(psnr=30.0, lpips=0.2), measured(psnr=25.0, lpips=0.1)]
    sheet = np.asarray(draw_sheet(grid, cells, scores)).astype(int)
    green = (sheet[..., 1] - sheet[..., 0] > 60) & (sheet[..., 1] - sheet[..., 2] > 20)
    rows, columns = np.nonzero(green)
    left = columns < sheet.shape[1] // 2
    assert left.any() and not left.all()
    assert rows[left].max() < rows[~left].min(), "PSNR, above, is best on the left, LPIPS, below, on the right"
    assert list(csv.reader(grid_table(grid, scores).splitlines())) == [
        ["kind", "row", "psnr", "lpips"],
        ["a", "", "30.0", "0.2"],
        ["b", "", "25.0", "0.1"],
    ]


def test_what_does_not_belong_to_the_grid_is_refused():
    grid, cell = make_grid("1, 2", "", "", ""), Image.new("RGB", (8, 8))
    with pytest.raises(UserError, match="has 2 cells, but 1 pictures came"):
        draw_sheet(grid, [cell])
    with pytest.raises(UserError, match="not the json output of Measure"):
        draw_sheet(grid, [cell, cell], ["psnr 3", "psnr 4"])


@pytest.fixture(scope="module")
def faces(astronaut) -> Faces:
    landmarks = template(160) + [150, 60]
    face = make_face(astronaut[0], Detection((170.0, 90, 290, 230), landmarks, 1.0))
    return Faces(((face,),), (512, 512))


def test_a_true_face_is_inserted_by_the_paper_s_formula(astronaut, faces):
    """P' = M * I + (1 - M) * P, with M one in the middle of the face and zero at its edge."""
    scene = torch.rand(astronaut.shape, generator=torch.Generator().manual_seed(0))
    out, mask = insert_faces(scene, astronaut, faces)
    expected = mask[:, None] * astronaut + (1 - mask[:, None]) * scene
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    x, y = faces.frames[0][0].landmarks[2].round().astype(int)
    assert mask[0, y, x] == 1 and ((mask > 0.05) & (mask < 0.95)).any()
    assert torch.equal(out[mask[:, None].expand_as(out) == 0], scene[mask[:, None].expand_as(out) == 0])
    none, _ = insert_faces(scene, astronaut, replace(faces, frames=((),)))
    assert torch.equal(none, scene)


def test_into_a_scene_of_twice_the_size_a_face_of_either_size_is_inserted(astronaut, faces):
    large = torch.nn.functional.interpolate(astronaut, scale_factor=2, mode="bicubic").clamp(0, 1)
    gray = torch.full_like(large, 0.5)
    (small_out, mask), (out, _) = (insert_faces(gray, source, faces) for source in (astronaut, large))
    assert mask.shape == (1, 1024, 1024) and torch.equal(small_out, out)
    with pytest.raises(UserError, match="Insert Face: source has 1 picture"):
        insert_faces(gray, astronaut[..., :300], faces)

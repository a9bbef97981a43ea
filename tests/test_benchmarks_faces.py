"""``bench faces``: damaged faces restored from albums, on the sample portrait and people bent from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.cli.benchmarks import faces, faces_cases, faces_figures, faces_methods, faces_pictures
from personal_restore.cli.benchmarks.faces import Target, plan
from personal_restore.cli.benchmarks.faces_figures import Row
from personal_restore.cli.main import _parser
from personal_restore.lib import samples
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.pictures.files import to_pil
from personal_restore.lib.vocabulary import Library, Person, Reference, UserError


def scores(psnr: float, ssim: float, truth: float) -> dict[str, float]:
    return {"psnr": psnr, "ssim": ssim, "truth": truth, "album": truth + 0.1, "kept": psnr, "moved": truth / 2}


def a_row(person: str = "Anna", file: str = "1.jpg", size: int = 48, family: str = "trial", **more) -> Row:
    found = {"damaged": scores(20, 0.5, 0.6), "scene": scores(22, 0.7, 0.5), "fusion": scores(21.5, 0.8, 0.4)}
    plain = dict(found=person, confidence=0.55, doubt="not sure: check", proposed="Bob", scores=found)
    return replace(Row("people", person, file, size, family, 0), **plain | more)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Two people with two pictures each: the portrait and one bent from it."""
    folder = tmp_path_factory.mktemp("album")
    people = samples.group_albums()
    for name, pictures in people.items():
        (folder / name).mkdir()
        for number, picture in enumerate(pictures[1:3]):
            to_pil(samples.shrink(picture[None], 240)[0]).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def embedder():
    return pytest.importorskip("dlib") and faces.by_name("dlib")


def test_a_face_gets_the_width_asked_for_with_its_landmarks(album):
    path = next(album.rglob("1.png"))
    large = faces_cases.subject_of(path)
    small = faces_cases.at_width(large, 48)
    assert small.width == pytest.approx(48, abs=0.5)
    height, width = small.picture.shape[-2:]
    assert width <= 3 * 48 + 2 and height <= 3.9 * 48
    x0, y0, x1, y1 = small.box
    assert all(x0 < x < x1 and y0 < y < y1 for x, y in small.landmarks)
    assert faces_cases.at_width(large, large.width * 1.2) is None, "nothing is enlarged"


def test_families_for_face_crops_shrink_with_the_face(album):
    large = faces_cases.subject_of(next(album.rglob("1.png")))
    landmarks = faces_cases.at_width(large, 48).landmarks
    for family, shrinks in (("codeformer", True), ("diffbir", True), ("trial", False), ("s3diff_x4", False)):
        drawn, used = FAMILIES[family](5), faces_cases.recipe_of(family, 5, landmarks)
        assert (used != drawn) == shrinks
    drawn, used = FAMILIES["codeformer"](5), faces_cases.recipe_of("codeformer", 5, landmarks)
    factor = used.steps[0].parameters["sigma_x"] / drawn.steps[0].parameters["sigma_x"]
    assert 0.1 < factor < 0.3, "a face of 48 pixels is about a fifth of the one in a crop of 512"


def test_a_sample_is_spread_over_sizes_families_and_pictures(tmp_path):
    targets = [Target("people", f"p{n // 3}", tmp_path / f"{n}.png") for n in range(12)]
    every = plan(targets, (24, 48), ("trial", "clean"), draws=2)
    assert len(every) == len({job.row.key for job in every}) == 12 * 4 * 2
    jobs = plan(targets, (24, 48), ("trial", "clean"), draws=1, most=20)
    assert len(jobs) == len({job.row.key for job in jobs}) == 20 and set(jobs) <= set(every)
    cells = [(job.size, job.family) for job in jobs]
    assert {cells.count(cell) for cell in cells} == {5}
    assert len({job.target.person for job in jobs}) == 4 and len({job.target for job in jobs}) >= 10
    assert jobs == plan(targets, (24, 48), ("trial", "clean"), draws=1, most=20)
    seeds = {job.row.key: job.seed for job in every}
    assert all(seeds[job.row.key] == job.seed for job in jobs), "the damage does not depend on what else is computed"


def test_a_face_that_became_worse_is_in_the_table():
    row = a_row()
    assert row.worse("fusion") == ["PSNR than scene"]
    assert row.worse("fusion", "damaged") == []
    cells = faces_figures.faces_summary([row])
    one = cells[0]
    assert one["methods"]["fusion"]["worse"] == {"PSNR": 1, "SSIM": 0, "distance": 0}
    assert (one["known"], one["known_in_doubt"], one["mistaken"], one["proposed_wrongly"]) == (1, 1, 0, 1)
    figures = {"cells": cells, "left_out": {"too small": 2}, "worst": [faces.described(row)]}
    text = faces.table(figures)
    assert "Anna/1.jpg 48 px trial" in text and "0.500 -> 0.400  PSNR than scene, not sure: check" in text
    assert "2 faces were left out: too small." in text and "1 known (1 in doubt)" in text


def test_ratio_and_errors_are_those_of_paired_means():
    rows = [
        a_row(
            file=f"{n}.jpg",
            scores={"scene": scores(20, 0.5, 0.4 + n / 10), "fusion": scores(20 + n, 0.5, 0.2 + n / 20)},
        )
        for n in range(3)
    ]
    found = faces_figures.method(rows, "fusion")
    assert found["ratio"] == 0.5 and found["ratio_error"] == 0 and found["nearer"] == 1
    assert found["psnr_gain"] == 1 and found["psnr_gain_error"] == pytest.approx(1 / 3**0.5, abs=1e-4)
    assert faces_figures.mean_and_error(np.array([2.0])) == (2.0, 0.0)


def test_undamaged_faces_are_told_apart_and_compared_with_themselves():
    rows = [a_row(), a_row(family="diffbir", found="-"), a_row(family="clean", found="Bob")]
    cells = {(one["size"], one["family"]): one for one in faces_figures.faces_summary(rows)}
    named = {(48, "trial"), (48, "diffbir"), (48, "clean")}
    assert set(cells) == named | {(size, name) for size in (48, "all") for name in ("all", "all found")}
    assert cells[48, "all found"]["faces"] == 1
    assert cells["all", "all"]["faces"] == 2 and cells["all", "all"]["found"] == 1
    assert cells[48, "clean"]["mistaken"] == 1
    text = faces.table({"cells": list(cells.values()), "left_out": {}, "worst": []})
    assert "from itself: PSNR 21.5 (least 21.5), distance 0.200" in text


def test_an_earlier_run_goes_on_and_a_torn_line_is_computed_again(tmp_path, monkeypatch):
    jobs = plan([Target("people", "Anna", tmp_path / f"{n}.png") for n in range(3)], (48,), ("trial",))
    asked = []

    def measure(job, known, methods, embedder, target):
        asked.append(job.row.key)
        return "too small" if job.target.path.name == "2.png" else replace(job.row, asked=methods, tiles=("truth",))

    monkeypatch.setattr(faces, "measure_job", measure)
    go = lambda methods, stamp: faces.run_jobs(jobs, None, methods, None, tmp_path, stamp, {})  # noqa: E731
    first = go(("scene",), "a")
    assert len(first) == 2 and len(asked) == 3
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"stamp": "a", "set": "peo')
    asked.clear()
    assert go(("scene",), "a") == first and asked == [jobs[2].row.key], "only what has no row"
    asked.clear()
    go(("scene", "fusion"), "a")
    assert len(asked) == 3, "another method"
    asked.clear()
    go(("scene",), "b")
    assert len(asked) == 3, "other weights"


def test_whose_albums_are_wrong(embedder):
    def person(name: str, *angles: float) -> Person:
        looks = [np.array([np.cos(a), np.sin(a)], np.float32) for a in angles]
        return Person(
            name, tuple(Reference(f"{n}.jpg", torch.zeros(3, 8, 8), np.zeros((5, 2)), e) for n, e in enumerate(looks))
        )

    library = Library((person("Anna", 0, 0.1), person("Bob", 2.0), person("Cleo", 0.3), person("Dan", 1.0)), "dlib")
    found = faces_methods.albums_for(library, "Anna", "0.jpg", 3)
    assert [one.name for one in found.person.references] == ["1.jpg"]
    assert found.lookalike.name == "Cleo" and found.wrong.name in {"Bob", "Cleo", "Dan"}
    assert faces_methods.albums_for(library, "Bob", "0.jpg", 3) is None, "no album is left"
    lonely = faces_methods.albums_for(Library(library.people[:1], "dlib"), "Anna", "0.jpg", 3)
    assert lonely.wrong is lonely.lookalike is None
    assert faces_methods.apply("wrong", None, lonely, embedder) is None


def test_pairs_are_read_from_a_list_without_the_same_shots(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    both = {"congress": str(tmp_path / "a.jpg"), "headshot": str(tmp_path / "b.jpg")}
    entries = [
        {"id": "A1", "correlation": 0.5} | both,
        {"id": "A2", "correlation": 0.9} | both,
        {"id": "A3", "correlation": None} | both,
        {"id": "A4", "correlation": 0.5} | both | {"headshot": str(tmp_path / "gone.jpg")},
    ]
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(entries))
    assert [pair.id for pair in faces.pairs_of((file,), tmp_path)] == ["A1"]
    file.write_text("{}")
    for given in ((file,), (file, file), (tmp_path / "none.json",)):
        with pytest.raises(UserError, match="--pairs"):
            faces.pairs_of(given, tmp_path)


def test_options_that_make_no_sense_are_clear_errors(tmp_path):
    (tmp_path / "Anna").mkdir()
    (tmp_path / "Anna" / "1.png").touch()
    with pytest.raises(UserError, match="two pictures"):
        faces.pictures_of(tmp_path)
    with pytest.raises(UserError, match="two pictures"):
        faces.pictures_of(tmp_path / "nowhere")
    fine = {"sizes": (48,), "families": ("trial",), "methods": ("scene",), "draws": 1, "most": 0}
    for wrong in ({"families": ("rain",)}, {"methods": ("magic",)}, {"draws": 0}, {"most": -1}, {"sizes": ()}):
        with pytest.raises(UserError, match=f"--{next(iter(wrong))}"):
            faces.check_options(**fine | wrong)


def test_the_command_line_has_the_defaults_of_the_bench():
    options = _parser().parse_args(["bench", "faces", "--photos", "x"])
    assert (options.sizes, options.families) == (faces.SIZES, faces.DAMAGE)
    options = _parser().parse_args(
        ["bench", "faces", "--pairs", "c", "s", "h", "--sizes", "24, 48", "--methods", "scene,old"]
    )
    assert options.sizes == (24, 48) and options.methods == ("scene", "old") and len(options.pairs) == 3


def test_sheets_choose_columns_and_spread_their_rows(tmp_path):
    rows = [
        a_row(file=f"{n}.jpg", size=size, tiles=("scene", "fusion", "truth", "album"))
        for size in (24, 48)
        for n in range(20)
    ]
    chosen = faces_pictures.grid_rows(rows, 6)
    assert [row.size for row in chosen] == [24] * 3 + [48] * 3
    assert faces_pictures.faces_sheet(tmp_path, chosen) is None, "no strip, no sheet"
    points, picture = np.array([[20, 30], [44, 30], [32, 42], [22, 52], [42, 52]], float), torch.rand(1, 3, 64, 64)
    shown = dict.fromkeys(("scene", "fusion", "truth"), picture)
    faces_pictures.save_strip(tmp_path, chosen[0], shown, points, torch.rand(3, 512, 512))
    assert faces_pictures.faces_sheet(tmp_path, chosen, ("truth", "album")).shape[1] == 2 * faces_pictures.TILE
    assert len({faces_pictures.strip_path(tmp_path, row) for row in rows}) == len(rows)


@pytest.mark.slow
def test_known_faces_are_benched_with_the_others_of_their_person(album, tmp_path, embedder):
    methods = tuple(name for name in faces_methods.METHODS if name != "gate")
    wanted = {"sizes": (56,), "families": ("trial",), "methods": methods, "most": 2}
    figures = faces.bench(album, tmp_path, **wanted)
    one = figures["cells"][0]
    assert one["faces"] == one["found"] == figures["faces"] == 2 and one["mistaken"] == 0
    assert one["methods"].keys() == set(methods)
    assert one["methods"]["scene"]["psnr"] > one["methods"]["damaged"]["psnr"]
    assert one["methods"]["fusion"]["truth"] < one["methods"]["scene"]["truth"], "the same portrait, cut differently"
    assert figures["pictures"] == ["grid.png", "worst.png"]
    before = (tmp_path / "rows.jsonl").read_bytes()
    assert faces.bench(album, tmp_path, **wanted) == figures
    assert (tmp_path / "rows.jsonl").read_bytes() == before, "nothing was computed again"
    assert "truth_help" in faces.table(figures)


def test_a_face_that_is_not_found_counts_with_its_scene(album, tmp_path, monkeypatch, embedder):
    large = faces_cases.subject_of(next(album.rglob("1.png")))
    small = faces_cases.at_width(large, 32)
    monkeypatch.setattr(faces_cases, "detect_faces", lambda photo: [])
    case = faces_cases.make_case(small, faces_cases.recipe_of("trial", 1, small.landmarks))
    assert case.index is None and case.face is None and case.code is None
    own = Person("Anna", ())
    everybody = Library((own,), "dlib")
    for name in ("old", "fusion", "wrong", "matched"):
        found = faces_methods.apply(name, case, faces_methods.Albums(own, everybody, own, own), embedder)
        assert torch.equal(found.picture, case.scene)
    assert found.refused

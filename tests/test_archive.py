"""``run.py restore`` on a folder of folders: mirrored, described, and taken up again whatever happened."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from personal_restore.cli import restore as command
from personal_restore.cli.archive import origin as origins
from personal_restore.cli.archive import photograph as one
from personal_restore.cli.archive import run as archive
from personal_restore.cli.archive.manifest import Entry, Manifest, Origin, parsed
from personal_restore.cli.main import main
from personal_restore.lib.pictures.mirror import LONGEST, mirrored, photographs
from personal_restore.lib.standin import host
from PIL import Image

from .conftest import ROOT
from .test_restore_files import GRAPH, picture

NAMES = "a.png", "b.jpg", "1931/b.jpg", "1931/june/c d.jpg"


@pytest.fixture(autouse=True)
def graph(tmp_path, monkeypatch) -> Path:
    """A workflow that gives the photograph back, so that only files matter."""
    monkeypatch.setattr(host, "folders", host.Folders(tmp_path / "none", tmp_path / "none"))
    monkeypatch.setattr(command, "folders", host.folders)
    (tmp_path / "copy.json").write_text(json.dumps(GRAPH))
    return tmp_path / "copy.json"


@pytest.fixture
def photos_folder(tmp_path) -> Path:
    return made(tmp_path / "photos", NAMES)


def made(folder: Path, names) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture((64, 40 + number)).save(folder / name)
    return folder


def given(tmp_path, folder, *options) -> list[str]:
    return ["restore", str(folder), "--workflow", str(tmp_path / "copy.json"), "--out", str(tmp_path / "out"), *options]


@pytest.fixture
def restored(tmp_path, monkeypatch):
    """restored(folder, *options) -> exit code and the photographs that were computed."""
    computed: list[str] = []
    real = one.prepared_photograph
    monkeypatch.setattr(
        one, "prepared_photograph", lambda path, *given: (computed.append(path.name), real(path, *given))[1]
    )

    def run(folder, *options: str) -> tuple[int, list[str]]:
        computed.clear()
        return main(given(tmp_path, folder, *options)), list(computed)

    return run


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tree(out: Path) -> dict[str, object]:
    """Every file's content; of the manifest everything but times."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    content: dict[str, object] = {name: path.read_bytes() for name, path in files.items() if name != "manifest.jsonl"}
    content["manifest.jsonl"] = [
        {name: value for name, value in line.items() if name not in ("seconds", "finished")}
        for line in lines(out / "manifest.jsonl")
    ]
    return content


def test_folders_are_mirrored_and_every_photograph_has_a_line(tmp_path, photos_folder, restored):
    assert restored(photos_folder) == (0, ["b.jpg", "c d.jpg", "a.png", "b.jpg"])
    out = tmp_path / "out"
    results = {path.relative_to(out).as_posix() for path in out.rglob("*.png")}
    assert results == {"a.png", "b.jpg.png", "1931/b.jpg.png", "1931/june/c d.jpg.png"}
    found = lines(out / "manifest.jsonl")
    assert [line["photograph"] for line in found] == sorted(NAMES) and {line["result"] for line in found} == results
    assert np.array_equal(np.asarray(Image.open(out / "a.png")), np.asarray(picture((64, 40))))
    for line in found:
        assert (out / "previews" / f"{line['result']}.jpg").is_file() and line["reason"] == "" and line["seconds"] > 0
        assert all(len(digest) == 16 for digest in (line["content"], *line["origin"].values()))
    assert lines(out / "failed.jsonl") == [] and not (out / ".unfinished").exists()


def test_what_is_up_to_date_is_not_computed_again(tmp_path, photos_folder, restored, capsys):
    restored(photos_folder)
    before = tree(tmp_path / "out")
    assert restored(photos_folder) == (0, [])
    assert "4 were up to date" in capsys.readouterr().out and tree(tmp_path / "out") == before
    for name in NAMES:
        os.utime(photos_folder / name, (1, 1))  # copied by a program that does not keep times
    assert restored(photos_folder) == (0, [])
    assert {line["modified"] for line in lines(tmp_path / "out" / "manifest.jsonl")} == {10**9}


def test_what_has_changed_is_computed_again_and_nothing_else(tmp_path, photos_folder, restored):
    restored(photos_folder)
    picture((80, 80)).save(photos_folder / "a.png")
    assert restored(photos_folder) == (0, ["a.png"])
    (tmp_path / "out" / "1931" / "b.jpg.png").unlink()
    assert restored(photos_folder) == (0, ["b.jpg"])
    made(photos_folder, ["new/e.png"])
    assert restored(photos_folder) == (0, ["e.png"])


def test_settings_graph_and_album_are_part_of_a_result(tmp_path, photos_folder, restored):
    restored(photos_folder)
    everything = sorted(Path(name).name for name in NAMES)

    def computed(*options: str) -> list[str]:
        return sorted(restored(photos_folder, *options)[1])

    assert computed("--set", "2.filename_prefix=y") == everything
    assert computed("--set", "2.filename_prefix=y") == []
    made(tmp_path / "album", ["Ann/1.png"])
    album = "--album", str(tmp_path / "album")
    assert computed(*album) == everything and computed(*album) == []
    (tmp_path / "album").rename(tmp_path / "people")  # the same album elsewhere
    album = "--album", str(tmp_path / "people")
    assert computed(*album) == []
    picture((99, 99)).save(tmp_path / "people" / "Ann" / "1.png")
    assert computed(*album) == everything and computed(*album, "--redo") == everything


def test_weights_are_part_of_a_result(tmp_path, photos_folder, restored, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "detector.onnx").write_bytes(b"one")
    restored(photos_folder)
    assert restored(photos_folder) == (0, [])
    (tmp_path / "models" / "detector.onnx").write_bytes(b"two")
    assert len(restored(photos_folder)[1]) == 4


def test_failures_are_listed_and_tried_again_on_demand_or_when_they_change(tmp_path, photos_folder, restored, capsys):
    (photos_folder / "bad.jpg").write_text("no picture")
    code, computed = restored(photos_folder)
    assert code == 1 and len(computed) == 5
    (failure,) = lines(tmp_path / "out" / "failed.jsonl")
    assert failure["photograph"] == "bad.jpg" and "not a picture" in failure["reason"]
    assert restored(photos_folder) == (0, [])
    assert restored(photos_folder, "--retry-failed") == (1, ["bad.jpg"])
    picture().save(photos_folder / "bad.jpg")
    assert restored(photos_folder) == (0, ["bad.jpg"])
    assert lines(tmp_path / "out" / "failed.jsonl") == []
    (photos_folder / "gone.jpg").write_text("no picture")
    restored(photos_folder)
    (photos_folder / "gone.jpg").unlink()
    restored(photos_folder)
    assert lines(tmp_path / "out" / "failed.jsonl") == []


def test_videos_in_a_folder_are_said_to_be_left_as_they_are(photos_folder, restored, capsys):
    (photos_folder / "1931/party.MOV").write_bytes(b"")
    restored(photos_folder)
    assert "1 videos in the folder are left as they are" in capsys.readouterr().out


def test_the_output_is_never_taken_for_input(tmp_path, photos_folder, restored, capsys):
    inside = "--out", str(photos_folder / "restored")
    assert restored(photos_folder, *inside) == (0, ["b.jpg", "c d.jpg", "a.png", "b.jpg"])
    assert restored(photos_folder, *inside)[1] == []
    assert len(restored(photos_folder)[1]) == 4  # into another folder: the first one's results are no photographs
    (photos_folder / "copy of a result.png").write_bytes((tmp_path / "out" / "a.png").read_bytes())
    assert restored(photos_folder)[1] == [] and "1 results of earlier runs" in capsys.readouterr().out
    for out in (photos_folder, tmp_path):
        before = sorted(photos_folder.rglob("*"))
        assert restored(photos_folder, "--out", str(out))[0] == 1
        assert "the photographs themselves are there" in capsys.readouterr().err
        assert sorted(photos_folder.rglob("*")) == before


def test_nothing_of_somebody_else_is_overwritten(tmp_path, photos_folder, restored, capsys):
    out = made(tmp_path / "out", ["a.png"])
    before = (out / "a.png").read_bytes()
    assert restored(photos_folder)[0] == 1
    (failure,) = lines(out / "failed.jsonl")
    assert failure["photograph"] == "a.png" and "not a result" in failure["reason"]
    assert (out / "a.png").read_bytes() == before
    for name in ("index.html", "failed.jsonl", "manifest.jsonl"):
        (tmp_path / name[:5]).mkdir()
        (tmp_path / name[:5] / name).write_text("mine")
        assert restored(photos_folder, "--out", str(tmp_path / name[:5])) == (1, [])
        assert (tmp_path / name[:5] / name).read_text() == "mine" and name in capsys.readouterr().err


def test_the_album_inside_the_folder_is_not_restored(tmp_path, photos_folder, restored):
    made(photos_folder, ["people/Ann/1.png"])
    assert len(restored(photos_folder, "--album", str(photos_folder / "people"))[1]) == 4


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(tmp_path, photos_folder, restored, monkeypatch, capsys):
    def full(*given) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(one, "save_result", full)
        code, computed = restored(photos_folder)
    assert code == 1 and len(computed) == 1 and "No space left on device" in capsys.readouterr().err
    assert lines(tmp_path / "out" / "manifest.jsonl") == [] and not list((tmp_path / "out").rglob("*.part"))
    assert len(restored(photos_folder)[1]) == 4


def test_a_disk_that_is_full_for_the_page_too_is_one_error_with_words(
    tmp_path, photos_folder, restored, monkeypatch, capsys
):
    def full(*given) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(archive, "write_page", full)
        assert restored(photos_folder)[0] == 1
    said = capsys.readouterr().err
    assert "Make room" in said and "Traceback" not in said
    assert restored(photos_folder) == (0, [])  # what was done is known


def test_two_runs_do_not_write_into_one_folder(tmp_path, photos_folder, restored, capsys):
    with archive.exclusive((tmp_path / "out").resolve() / "manifest.jsonl"):
        code = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *given(tmp_path, photos_folder)], capture_output=True, text=True
        )
    assert code.returncode == 1 and "another run is writing there" in code.stderr


def test_one_folder_alone_is_named(tmp_path, photos_folder, capsys):
    extra = str(photos_folder / "a.png")
    assert (
        main([*given(tmp_path, photos_folder)[:2], extra, *given(tmp_path, photos_folder)[2:]]) == 1
        and "Name one folder alone" in capsys.readouterr().err
    )
    assert main(given(tmp_path, photos_folder / "a.png", "--redo")) == 1 and "--redo" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(given(tmp_path, tmp_path / "empty")) == 1 and "no pictures to restore" in capsys.readouterr().err


def test_folders_are_checked_before_all_weights_are_read(tmp_path, photos_folder, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    read: list[Path] = []
    monkeypatch.setattr(origins, "content", lambda path: read.append(path) or "c")
    for folder, out in ((photos_folder, photos_folder), (tmp_path / "empty", tmp_path / "elsewhere")):
        assert main([*given(tmp_path, folder), "--out", str(out)]) == 1 and not read
    assert not (tmp_path / "elsewhere").exists()


def test_every_frame_of_an_animation_is_restored_and_of_pages_it_is_said(tmp_path, restored):
    first, *rest = (picture((32, 24)).rotate(angle) for angle in (0, 90, 180))
    (folder := tmp_path / "moving").mkdir()
    first.save(folder / "a.webp", save_all=True, append_images=rest, duration=[40, 80, 120], lossless=True)
    first.save(folder / "pages.tif", save_all=True, append_images=rest)
    assert restored(folder)[0] == 0
    animation = Image.open(tmp_path / "out" / "a.webp.png")
    assert animation.n_frames == 3
    for number, (frame, duration) in enumerate(zip((first, *rest), (40, 80, 120), strict=True)):
        animation.seek(number)
        assert animation.info["duration"] == duration
        assert np.array_equal(np.asarray(animation.convert("RGB")), np.asarray(frame))
    notes = {line["photograph"]: " ".join(line["notes"]) for line in lines(tmp_path / "out" / "manifest.jsonl")}
    assert "3 frames or pages, which are restored one by one" in notes["a.webp"]
    assert "3 frames or pages, of which only the first is restored" in notes["pages.tif"]
    assert Image.open(tmp_path / "out" / "pages.tif.png").n_frames == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_any_name_is_restored_and_found_again(tmp_path, photos_folder, restored):
    (photos_folder / "<").mkdir()
    odd = [
        b"gr\xfc\xdfe.jpg",
        b"new\nline.png",
        b"</script>&'\".jpg",
        "\u2028\u202e日本.png".encode(),
        b"#?%41.jpg",
        b"x" * 251 + b".jpg",
    ]
    for name in odd:
        picture().save(Path(os.fsdecode(os.fsencode(photos_folder) + b"/" + name)))
    assert restored(photos_folder)[0] == 0 and restored(photos_folder) == (0, [])
    found = [os.fsencode(line["photograph"]) for line in lines(tmp_path / "out" / "manifest.jsonl")]
    assert set(odd) < set(found)
    assert "</script>&'" not in (page := (tmp_path / "out" / "index.html").read_text("utf-8"))
    assert page.count("</script>") == 3


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.PNG", "a.jpg.png", "a.jpg.png.png", "b/a.tif", "x" * 251 + ".jpg"]
)
def test_results_have_names_of_their_own(name):
    others = [
        "a.jpg",
        "a.png",
        "a.PNG",
        "a.jpg.png",
        "a.jpg.png.png",
        "b/a.tif",
        "b/a.jpg",
        "x" * 251 + ".jpg",
        "x" * 250 + "y.jpg",
    ]
    assert [mirrored(other) for other in others].count(mirrored(name)) == 1
    assert len(mirrored(name).split("/")[-1]) <= LONGEST and mirrored(name).lower().endswith(".png")


def test_links_to_folders_and_hidden_folders_are_not_entered(tmp_path):
    made(tmp_path, ["a.png", ".hidden/b.png", "sub/c.png"])
    (tmp_path / "sub" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(photographs(tmp_path)) == ["a.png", "sub/c.png"]


def entry(name: str, **more) -> Entry:
    return Entry(name, 1, 2, "c", Origin("g", "w", "a"), **more)


def test_a_line_that_was_cut_off_is_as_if_it_was_not_there(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(entry("a").line + entry("b", reason="no").line[:-9])
    manifest = Manifest(tmp_path)
    assert manifest.get("a") == entry("a") and manifest.get("b") is None
    manifest.add(entry("c"))
    manifest.add(entry("a", result="r"))
    again = Manifest(tmp_path)
    assert [one.photograph for one in again] == ["a", "c"] and again.get("a").result == "r"
    manifest.close(tmp_path)
    assert (tmp_path / "manifest.jsonl").read_bytes() == entry("a", result="r").line + entry("c").line


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"photograph": 3}', b"[" * 9999, b'{"photograph": "a", "origin": 1}']
)
def test_a_line_of_something_else_is_no_entry(line):
    assert parsed(line) is None


@pytest.mark.slow
def test_workers_make_what_one_process_makes_and_survive_a_death(tmp_path, photos_folder):
    (photos_folder / "bad.jpg").write_text("no picture")
    start = [sys.executable, str(ROOT / "run.py"), *given(tmp_path, photos_folder)]
    assert subprocess.run(start, capture_output=True).returncode == 1
    expected = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "one")
    process = subprocess.Popen([*start, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed = False
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True) if not killed else ():
            if "spawn_main" in " ".join(child.cmdline()):
                time.sleep(0.5)
                child.kill()
                killed = True
        time.sleep(0.05)
    assert killed and process.returncode == 1 and tree(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["one process", "two workers"])
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_is_not(tmp_path, options):
    folder = made(tmp_path / "photos", [f"{number % 3}/{number}.png" for number in range(12)])
    (folder / "bad.jpg").write_text("no picture")
    start = [sys.executable, str(ROOT / "run.py"), *given(tmp_path, folder, *options)]
    subprocess.run(start, capture_output=True)
    expected = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "undisturbed")
    rng = random.Random(0)
    for _ in range(4):
        before = len(list((tmp_path / "out").rglob("*.jpg")))
        process = subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "out").rglob("*.jpg"))) == before and process.poll() is None:
            time.sleep(0.002)  # before that there is nothing to lose
        time.sleep(rng.random() * 0.1)
        process.kill()
        process.wait()
    assert subprocess.run(start, capture_output=True).returncode == 1
    assert tree(tmp_path / "out") == expected


def test_a_failure_of_a_photograph_that_is_gone_is_nowhere_and_of_an_unknown_one_stays(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(entry("a", reason="no").line + entry("b", reason="no").line)
    known, unknown = (Manifest(tmp_path) for _ in range(2))
    known.find(["a"])
    assert [one.photograph for one in known] == ["a"], "as the page, too, shows them"
    assert [one.photograph for one in unknown] == ["a", "b"], "the folder could not be read to its end"

"""The bundled workflows in a real ComfyUI and headless: the same pixels."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.cli import own
from personal_restore.lib.standin.host import folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.storage.names import shown_folder
from personal_restore.nodes import NODES
from personal_restore.tests import tiny_perfuse, tiny_published
from personal_restore.tests.bundled import QUICK_FIRST, SLOW, WITH_CORE, WORKFLOWS, bundled, node, then_and_now
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.comfyui
LONG = 1800  # seconds for a workflow that learns a person, or restores many times, on a machine that is busy with other things
# What the workflows that only train write.
TRAINED = {
    "train_bases": {"pfstorer base", "faces 512"},
    "face2scene_train": {"face2scene"},
    "face2scene_stages": {"fadex", "face2scene"},
}
# What has no preset that `few_steps` could change, as small as it can be.
SMALLEST = {
    "PR_TrainFace2Scene": {"steps": 2, "batch": 1, "crop": 64},
    "PR_BuildDataset": {"versions": 2, "operators": 1, "short_side": 200, "side": 256},
}


def saved(graph: dict) -> str:
    return next(id for id, node in graph.items() if node["class_type"] == "SaveImage")


def assert_same_pixels(comfyui, graph: dict, tmp_path, monkeypatch, **patience):
    _, pictures = comfyui.queue(graph, **patience)
    live = next(picture.path for picture in pictures if picture.node == saved(graph))
    monkeypatch.setattr(folders, "input", comfyui.base / "input")
    monkeypatch.setattr(folders, "output", tmp_path)
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    file = run_graph(graph, NODES).ui[saved(graph)]["images"][0]
    ours = tmp_path / file["subfolder"] / file["filename"]
    assert np.array_equal(*(np.asarray(Image.open(path)) for path in (live, ours)))


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_a_bundled_workflow_gives_the_same_pixels(comfyui, name, tmp_path, monkeypatch):
    patience = {"seconds": LONG} if name in SLOW else {}
    assert_same_pixels(comfyui, bundled(name), tmp_path, monkeypatch, **patience)


def test_a_folder_is_restored_run_by_run_until_nothing_is_left(comfyui, tmp_path, monkeypatch):
    """Then no node fails; the last run says so."""
    graph = bundled("restore_folder")
    for name in ("photographs/1.png", "photographs/sub/2.png", "album/Eileen/1.png"):
        comfyui.upload(sample(tmp_path).replace(tmp_path / Path(name).name), str(Path(name).parent))
    monkeypatch.setattr(folders, "input", comfyui.base / "input")
    monkeypatch.setattr(folders, "output", tmp_path / "ours")
    said = []
    for _ in range(3):
        shown, _ = comfyui.queue(graph)
        said.append(shown["42"]["text"][0])
        assert run_graph(graph, NODES).ui["42"]["text"][0] == said[-1]
    assert said == [
        "After this run, 1 of 2 are left.",
        "After this run, 0 of 2 are left.",
        "Nothing is left to do: 2 of 2 photographs have a result.",
    ]
    live = comfyui.base / "output" / "restored"
    for name in ("1.png", "sub/2.png"):
        assert json.loads((live / f"{name}.json").read_text("utf-8"))["faces"][0]["person"] == "Eileen"
        assert (live / name).read_bytes() == (tmp_path / "ours" / "restored" / name).read_bytes()


@pytest.mark.slow
def test_old_names_of_inputs_give_the_pixels_of_the_new_ones(comfyui, tmp_path, monkeypatch):
    then, now = then_and_now()
    assert comfyui.executed(then) == then.keys()
    assert comfyui.executed(now) == set(), "ComfyUI's cache should know it as the same graph"
    assert_same_pixels(comfyui, now, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "photo", "album"),
    [
        ("face2scene", "codeformer/00.jpg", ("pulid/lecun.jpg", "pulid/hinton.jpeg")),
        ("perfuse", "codeformer/04.jpg", ("diffbir/whole_img_Audrey_Hepburn.jpg",)),
    ],
)
def test_a_photograph_gives_the_same_pixels(comfyui, photos, name, photo, album, tmp_path, monkeypatch):
    uploaded = comfyui.upload(photos / photo)
    for number, picture in enumerate(album):
        folder = comfyui.base / "input" / "people" / f"person {number}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / picture, folder)
    graph = own.with_album(own.with_photo(bundled(name), Path(uploaded)), Path("people"))
    try:
        assert_same_pixels(comfyui, graph, tmp_path, monkeypatch)
    finally:
        shutil.rmtree(comfyui.base / "input" / "people")


def test_s3diff_without_its_weights_is_accepted_and_then_one_error_says_what_belongs_where(comfyui):
    """A checkpoint that is not in the list would be refused with no word about where to get it."""
    said = comfyui.error(bundled("s3diff_scene"))
    models = comfyui.base / "models"
    for file, licence, folder in (
        ("sd_turbo.safetensors", "Stability AI Community License", models / "checkpoints"),
        ("s3diff.pkl", "Apache-2.0", models / "personal_restore"),
        ("de_net.pth", "Apache-2.0", models / "personal_restore"),
    ):
        line = next(line for line in said.splitlines() if f"{file} is missing" in line)
        assert licence in line and f"It belongs in {shown_folder(folder)}." in line and "Download Weights" in line


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("pfstorer_stablesr", ["stablesr_000117.ckpt"]),
        ("dualpivot_diffbir", ["v2-1_512-ema-pruned.safetensors", "v1_face.pth", "face_swinir_v1.ckpt"]),
        ("gen2res_published", ["base_256.pt"]),
    ],
)
def test_a_workflow_on_a_published_base_is_accepted_and_then_one_error_says_what_is_missing(comfyui, name, files):
    said = comfyui.error(bundled(name))
    assert all(f"{file} is missing" in said for file in files) and said.count("It belongs in") == len(files)


@pytest.mark.slow
def test_the_trainings_on_many_faces_run_as_nodes(comfyui, tmp_path):
    """A dataset, a FaDeX on it, a base model and a generator, as small as they can be."""
    for number in range(2):
        comfyui.upload(sample(tmp_path).replace(tmp_path / f"{number}.png"), "faces")
    usual = {"photographs": "faces", "seed": 0, "steps": 1, "batch": 1, "learning_rate": 0.001, "preset": "own"}
    base = {"denoise": 0.3, "steps": 2, "control": 1.0, "cfg": 1.0}
    build = {"photographs": "faces", "name": "tiny", "versions": 2, "operators": 1, "short_side": 200, "side": 256}
    fadex = {"dataset": ["build", 0], "name": "tiny", "recipe": "ours", "epochs": 1, "window": 32}
    graph = {
        "build": {"class_type": "PR_BuildDataset", "inputs": build},
        "fadex": {
            "class_type": "PR_TrainFaDeX",
            "inputs": {name: value for name, value in usual.items() if name not in ("photographs", "steps")}
            | fadex
            | {"batch": 2},
        },
        "base": {"class_type": "PR_DiffusionRestorer", "inputs": base},
        "tune": {
            "class_type": "PR_TrainBaseModel",
            "inputs": usual | {"restorer": ["base", 0], "damage": "trial", "intact": 0.0},
        },
        "make": {"class_type": "PR_TrainGenerator", "inputs": usual | {"name": "tiny", "model": "small, 64 px"}},
    }
    for id, output in (("build", 1), ("fadex", 1), ("tune", 1), ("make", 0)):
        graph[f"show {id}"] = {"class_type": "PreviewAny", "inputs": {"source": [id, output]}}
    shown, _ = comfyui.queue(graph)
    said = {id: shown[f"show {id}"]["text"][0] for id in ("build", "fadex", "tune", "make")}
    assert '"let in": 2' in said["build"] and "tiny.safetensors, 2 steps" in said["fadex"]
    assert "base_model persona of everybody" in said["tune"] and "1 steps on 2 pictures" in said["make"]


def test_face2scene_without_its_weights_says_what_belongs_where(comfyui):
    said = comfyui.error(bundled("face2scene_sd_turbo"))
    assert "RealVisXL_V3.0.safetensors is missing" in said or "face2scene.safetensors" in said


def test_the_native_graph_is_core_s_own_and_says_which_model_is_missing(comfyui):
    """The checkpoint is refused by core; what does not need it runs as far as FaDeX, whose map is shown."""
    graph = bundled("face2scene_native")
    info = comfyui.object_info()
    for one in graph.values():
        named = info[one["class_type"]]["input"]
        assert one["inputs"].keys() - {"compare_view"} <= {**named["required"], **named.get("optional", {})}.keys()
        assert named["required"].keys() - {"compare_view"} <= one["inputs"].keys()
    assert "face2scene.safetensors" in comfyui.error(graph)


def around_core(comfyui, name: str) -> dict:
    """A workflow around core's models; skips the test where this core is too old for it."""
    graph = bundled(name)
    lacking = {one["class_type"] for one in graph.values()} - comfyui.object_info().keys()
    if lacking:
        pytest.skip(f"ComfyUI {comfyui.version} has no {', '.join(sorted(lacking))}")
    return graph


@pytest.mark.parametrize("name", WITH_CORE)
def test_a_workflow_around_core_s_models_lacks_only_the_files_that_its_note_names(comfyui, name):
    nodes = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))["nodes"]
    weights = next(one for one in nodes if one.get("title") == "The weights")
    named = set(re.findall(r"`([\w.-]+\.safetensors)`", weights["widgets_values"][0]))
    problems = [one for found in comfyui.refused(around_core(comfyui, name)).values() for one in found]
    assert {one["type"] for one in problems} == {"value_not_in_list"}, problems
    assert {one["extra_info"]["received_value"] for one in problems} == named and named


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_CORE)
def test_a_workflow_around_core_s_models_runs_with_their_pictures_and_masks_from_elsewhere(comfyui, name):
    """What the model gives comes from a node of core's that needs no weights, through the same socket."""
    graph = around_core(comfyui, name)
    titled = {one["_meta"]["title"]: id for id, one in graph.items()}
    if "The edit" in titled:
        photo = graph[node(graph, "PR_KeepPerson")]["inputs"]["photograph"]
        size = {"upscale_method": "lanczos", "width": 640, "height": 560, "crop": "center"}
        graph[titled["The edit"]] = {"class_type": "ImageScale", "inputs": {"image": photo, **size}}
    elif "The scene" in titled:
        graph[titled["The scene"]] = graph[titled["Twice the size"]]
    else:
        whole = {"value": 1.0, "width": 512, "height": 512}
        graph[titled["One mask per person"]] = {"class_type": "SolidMask", "inputs": whole}
        del graph[node(graph, "PR_DetectFaces")]["inputs"]["landmarks"]
    shown, pictures = comfyui.queue(graph)
    report = json.loads(shown[titled["Show the report"]]["text"][0])
    assert [face["person"] for face in report["faces"]] == ["Eileen Collins"]
    result = Image.open(next(picture.path for picture in pictures if picture.node == saved(graph)))
    if "The edit" in titled:
        assert result.size == (640, 560) and report["edits"][0]["registered"] and report["faces"][0]["put_back"]
    elif "The scene" in titled:
        quality = report["quality"]["face"]
        assert result.size == (1024, 1024) and quality["psnr_after"] > quality["psnr_before"] + 1
    else:
        assert report["used"]["masks"] == "head, limited to a segment in 1 of 1 faces"


def test_a_rerun_recomputes_only_what_changed(comfyui, tmp_path):
    """Another blend does not restore again; another picture in the album does."""
    graph = bundled("perfuse")
    Image.fromarray(np.asarray(Image.open(sample(tmp_path)))).save(comfyui.base / "input" / "rerun.png")
    (comfyui.base / "input" / "rerun").mkdir()
    shutil.copy(comfyui.base / "input" / "rerun.png", comfyui.base / "input" / "rerun" / "1.png")
    graph = own.with_album(own.with_photo(graph, Path("rerun.png")), Path("rerun"))
    blend = next(id for id, node in graph.items() if node["class_type"] == "PR_BlendFaces")
    restore = [id for id, node in graph.items() if node["class_type"] == "PR_RestoreFaces"]
    comfyui.queue(graph)
    graph[blend]["inputs"]["strength"] = 0.5
    ran = comfyui.executed(graph)
    assert blend in ran and not set(restore) & ran
    shutil.copy(comfyui.base / "input" / "rerun.png", comfyui.base / "input" / "rerun" / "2.png")
    assert "album" in comfyui.executed(graph)


def sample(folder: Path) -> Path:
    from personal_restore.lib.samples import photograph

    path = folder / "sample.png"
    pixels = (photograph()[0].permute(1, 2, 0) * 255).byte().numpy()[:256, 80:336]
    Image.fromarray(pixels).save(path)
    return path


def test_perfuse_as_published_gives_the_same_pixels_with_the_public_architectures(comfyui, tmp_path, monkeypatch):
    """With random weights. They go again, because other tests expect them to be missing."""
    pytest.importorskip("ultralytics")
    portrait = torch.from_numpy(np.asarray(Image.open(sample(tmp_path)))).movedim(-1, 0)[None] / 255
    models = comfyui.base / "models"
    (comfyui.base / "input" / "published").mkdir()
    small_photo = comfyui.base / "input" / "published.png"
    Image.open(sample(tmp_path)).crop((140, 10, 268, 138)).save(small_photo)
    shutil.copy(small_photo, comfyui.base / "input" / "published" / "1.png")
    graph = own.with_album(own.with_photo(bundled("perfuse_published"), Path("published.png")), Path("published"))
    files = tiny_perfuse.write_public_files(models / "personal_restore", models / "upscale_models", portrait)
    ours = tiny_perfuse.write_public_files(tmp_path / "models", tmp_path / "models" / "upscale_models", portrait)
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in ours]
    try:
        shown, _ = comfyui.queue(graph)
        used = json.loads(shown[next(id for id, one in graph.items() if one["class_type"] == "PreviewAny")]["text"][0])[
            "used"
        ]
        assert "RANSAC-Flow's networks" in used["alignment"] and "RealESRGAN_x2plus.pth" in used["scene restorer"]
        assert_same_pixels(comfyui, graph, tmp_path, monkeypatch)
    finally:
        for path in files:
            path.unlink()


def write_narrow_files(comfyui, name: str, tmp_path: Path, monkeypatch) -> None:
    """Where ComfyUI and the headless run look for them; the latter expects them from now on."""
    models = comfyui.base / "models"
    tiny_published.write_public_files(name, models / "personal_restore", models)
    tiny_published.write_public_files(name, tmp_path / "models", tmp_path / "models")
    for file in ("vocab.json", "merges.txt"):  # which ComfyUI has, and takes from nowhere else
        shutil.copy(comfyui.root / "comfy" / "sd1_tokenizer" / file, tmp_path / "models" / "clip")
    tiny_published.narrow(monkeypatch)
    tiny_published.few_steps(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pfstorer_stablesr", "dualpivot_diffbir", "gen2res_published", "s3diff_scene"])
def test_a_workflow_on_a_published_base_gives_the_same_pixels_with_narrow_files(
    narrow_comfyui, name, tmp_path, monkeypatch
):
    write_narrow_files(narrow_comfyui, name, tmp_path, monkeypatch)
    narrow_comfyui.upload(sample(tmp_path), "album/Somebody")
    face = tmp_path / "face.png"
    Image.open(sample(tmp_path)).crop((60, 10, 188, 138)).save(face)
    graph = own.with_album(own.with_photo(bundled(name), Path(narrow_comfyui.upload(face))), Path("album"))
    assert_same_pixels(narrow_comfyui, graph, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_training_on_a_published_base_gives_the_same_weights_with_narrow_files(
    narrow_comfyui, name, tmp_path, monkeypatch
):
    write_narrow_files(narrow_comfyui, name, tmp_path, monkeypatch)
    for number in range(2):
        narrow_comfyui.upload(sample(tmp_path).replace(tmp_path / f"{number}.png"), "photographs")
    graph = bundled(name)
    for one in graph.values():
        one["inputs"] |= SMALLEST.get(one["class_type"], {})
    narrow_comfyui.queue(graph)
    monkeypatch.setattr(folders, "input", narrow_comfyui.base / "input")
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    run_graph(graph, NODES)
    made = [path for path in (tmp_path / "models").glob("*/*.safetensors") if path.parent.name != "checkpoints"]
    assert {path.stem for path in made} == TRAINED[name]
    for path in made:
        theirs = narrow_comfyui.base / "models" / "personal_restore" / path.relative_to(tmp_path / "models")
        torch.testing.assert_close(load_file(theirs), load_file(path), rtol=0, atol=0)

"""The dataset of Face2Scene: what is let in and why not, what is written, going on after a kill, and training on it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from personal_restore.cli.main import main
from personal_restore.lib import samples
from personal_restore.lib.bridge import keep
from personal_restore.lib.degradation.recipe import Recipe
from personal_restore.lib.faces.detect import Detection, to_uint8
from personal_restore.lib.faces.embed import Classical, best_embedder
from personal_restore.lib.faces.library import library_from_images, load_library
from personal_restore.lib.pictures.files import read_picture, to_pil
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.storage.whole import exclusive
from personal_restore.lib.vocabulary import Library, UserError
from personal_restore.models.embedded import ready as embedded
from personal_restore.models.embedded import weights
from personal_restore.models.embedded.reference_restorer import ReferenceRestorer
from personal_restore.models.face2scene import network as face2scene
from personal_restore.nodes.stage_one import BuildDataset, opened_dataset
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.tests.places import CPU
from personal_restore.tests.test_training_face2scene import CONFIG as TRAINING
from personal_restore.tests.test_training_face2scene import task
from personal_restore.training import dataset, gates
from personal_restore.training import face2scene as stage
from personal_restore.training.fadex_on_faces import OperatorPairs
from personal_restore.training.gates import Gates, examine, laplacian_variance, pyiqa_scorers, square_window

GATES = Gates(short_side=400, side=256)
CONFIG = dataset.Config(gates=GATES, versions=2)
PORTRAIT = f"{samples.PERSON}/portrait.png"


@pytest.fixture(scope="module")
def tools() -> dataset.Tools:
    embedder, one_step = best_embedder(), embedded.restorer(keep)
    library = library_from_images(samples.sample_album(), samples.PERSON, embedder)
    return dataset.Tools(library, embedder, (one_step, ReferenceRestorer()), one_step, {})


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A good one of somebody who has an album, and some that are not good enough."""
    folder, portrait = tmp_path_factory.mktemp("photographs"), samples.photograph()
    blurred = cv2.GaussianBlur(to_uint8(portrait[0]), (0, 0), 6)
    for name, picture in (
        (PORTRAIT, portrait[0]),
        ("small.png", portrait[0, :, :300, :300]),
        ("nobody.png", portrait[0, :, -205:, :205].repeat_interleave(2, 1).repeat_interleave(2, 2)),
        ("blurred.png", torch.from_numpy(blurred).permute(2, 0, 1) / 255),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        to_pil(picture).save(folder / name)
    (folder / "fake.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def built(photographs, tools, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built") / "dataset"
    found = dataset.build_dataset(photographs, out, CONFIG, tools)
    assert found["photographs"] == 5 and found["let in"] == 1
    assert found["refused by"] == {"short_side": 1, "faces": 1, "sharpness": 1, "face_sharpness": 1, "file": 1}
    return out


def lines(out: Path) -> dict[str, dict]:
    return {line["file"]: line for line in dataset.read_manifest(out)}


def test_every_photograph_is_in_the_manifest_with_what_was_measured_and_why_it_was_refused(built):
    found = lines(built)
    good = found[PORTRAIT]
    assert good["refused"] == {} and good["measured"]["short_side"] == 512 and good["measured"]["faces"] == 1
    assert (
        30 < good["measured"]["face_size"] < 60
        and 0.02 < good["measured"]["face_share"] < 0.06
        and good["measured"]["sharpness"] > 100
    )
    assert set(good["skipped"]) >= {"musiq", "clipiqa", "maniqa"}
    assert found["small.png"]["refused"] == {"short_side": "the shorter side is 300, but at least 400 is required."}
    assert found["small.png"]["measured"] == {"short_side": 300}, "what fails a stage is not measured by the next"
    assert "number of faces is 0" in found["nobody.png"]["refused"]["faces"]
    assert found["blurred.png"]["refused"].keys() == {"sharpness", "face_sharpness"}
    assert "not a picture" in found["fake.jpg"]["refused"]["file"]
    assert str(built.parent) not in (built / dataset.MANIFEST).read_text()


def test_what_is_written_is_what_the_manifest_says(built, tools):
    line = lines(built)[PORTRAIT]
    folder = built / line["folder"]
    assert {path.name for path in folder.iterdir()} == {
        "clean.png",
        *(f"{a}_{b}.png" for a in ("damaged", "face") for b in (0, 1)),
    }
    assert [path.name for path in (built / dataset.PICTURES).iterdir()] == [folder.name]
    clean = read_picture(folder / "clean.png")
    assert clean.shape == (3, 256, 256)
    recipes = [Recipe.from_json(json.dumps(version["recipe"])) for version in line["versions"]]
    assert recipes[0] != recipes[1] and all(recipe.name.startswith("s3diff") for recipe in recipes)
    for number, recipe in enumerate(recipes):
        damaged = read_picture(folder / f"damaged_{number}.png")
        torch.testing.assert_close(dataset.rounded_to_bytes(recipe.apply(clean[None])[0]), damaged, atol=1e-6, rtol=0)
        better, worse = read_picture(folder / f"face_{number}.png").chunk(2, -1)
        places = cv2.matchTemplate(to_uint8(damaged), to_uint8(worse), cv2.TM_SQDIFF)
        y, x = np.unravel_index(places.argmin(), places.shape)
        # The face went through the same operator as the scene, being cut out of it.
        assert torch.equal(damaged[:, y : y + worse.shape[1], x : x + worse.shape[2]], worse)
        truth = clean[:, y : y + worse.shape[1], x : x + worse.shape[2]]
        assert psnr(better, truth) > psnr(worse, truth), "the face is restored"
        assert y <= line["box"][3] and x >= line["box"][0] - 1 and min(worse.shape[1:]) >= 30
    by = " + ".join(one.name for one in tools.references)
    assert [version["face"] for version in line["versions"]] == [by, by] and line["person"] == samples.PERSON


def test_without_an_album_the_true_face_fades_into_the_restored_one(photographs, tools, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(photographs / PORTRAIT, one)
    alone = replace(tools, library=Library())
    dataset.build_dataset(one, tmp_path / "out", replace(CONFIG, versions=1), alone)
    line = lines(tmp_path / "out")["portrait.png"]
    assert line["versions"][0]["face"] == dataset.TRUTH and line["person"] is None
    assert line["skipped"]["identity"] == "no album is known"
    truth, prediction = torch.ones(3, 512, 512), torch.zeros(3, 512, 512)
    out = dataset.isolated(truth, prediction)
    assert out[:, 200:312, 200:312].min() == 1 and out[:, 0].max() < 0.01 and out[..., -1].max() < 0.01
    assert (out[:, 1:] - out[:, :-1]).abs().max() < 0.03


def test_a_second_run_does_nothing_again_and_a_changed_photograph_is_done_anew(
    photographs, built, tools, tmp_path, monkeypatch
):
    photos, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photographs, photos)
    shutil.copytree(built, out)
    before = (out / dataset.MANIFEST).read_text()
    seen = []
    monkeypatch.setattr(dataset, "examine", lambda path, *rest: (seen.append(path.name), examine(path, *rest))[1])
    dataset.build_dataset(photos, out, CONFIG, tools)
    assert not seen and (out / dataset.MANIFEST).read_text() == before
    to_pil(torch.rand(3, 410, 410)).save(photos / "small.png")
    dataset.build_dataset(photos, out, CONFIG, tools)
    assert seen == ["small.png"] and lines(out)["small.png"]["measured"]["short_side"] == 410
    to_pil(torch.rand(3, 300, 300)).save(photos / PORTRAIT)
    assert dataset.build_dataset(photos, out, CONFIG, tools)["let in"] == 0
    assert not list((out / dataset.PICTURES).iterdir()), "what is no longer let in is gone"


def test_a_run_that_is_killed_leaves_nothing_half_and_ends_as_if_it_had_not_been(
    photographs, built, tools, tmp_path, monkeypatch
):
    out, version = tmp_path / "out", dataset._version

    def dies(number, *rest):
        if number == 1:
            raise KeyboardInterrupt
        return version(number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_version", dies)
        with pytest.raises(KeyboardInterrupt):
            dataset.build_dataset(photographs, out, CONFIG, tools)
    assert PORTRAIT not in lines(out) and not list((out / dataset.PICTURES).iterdir())
    with (out / dataset.MANIFEST).open("a") as file:
        file.write('{"file": "blurred.png", "refu')  # as if the power had failed
    dataset.build_dataset(photographs, out, CONFIG, tools)

    def whole(folder):
        return {p.relative_to(folder): p.read_bytes() for p in (folder / dataset.PICTURES).rglob("*.png")}

    assert whole(out) == whole(built) and lines(out) == lines(built)


def test_a_second_build_in_the_same_folder_is_told_at_once(photographs, built, tools):
    with exclusive(built), pytest.raises(UserError, match="another process is building there"):
        dataset.build_dataset(photographs, built, CONFIG, tools)


def test_another_configuration_wants_another_folder(photographs, built, tools, tmp_path):
    with pytest.raises(UserError, match="started with different values of versions. Choose another folder"):
        dataset.build_dataset(photographs, built, replace(CONFIG, versions=3), tools)
    with pytest.raises(UserError, match="is inside the photographs"):
        dataset.build_dataset(photographs, photographs / "dataset", CONFIG, tools)
    with pytest.raises(UserError, match="no pictures"):
        dataset.build_dataset(tmp_path, tmp_path / "out", CONFIG, tools)
    path = tmp_path / "config.json"
    path.write_text('{"gates": {"short_side": 720}, "versions": 3}')
    assert dataset.read_config(path) == dataset.Config(gates=Gates(short_side=720), versions=3)
    path.write_text('{"gates": {"beauty": 1}}')
    with pytest.raises(UserError, match="config.json is not a dataset configuration.*beauty"):
        dataset.read_config(path)


def test_quality_is_measured_last_and_refuses_too(photographs, tools):
    asked = []
    scorers = {name: lambda picture, name=name: asked.append(name) or 0.65 for name in ("musiq", "clipiqa", "maniqa")}

    def look(name):
        return examine(photographs / name, None, Library(), GATES, tools.embedder, scorers)

    assert look("blurred.png").refused and not asked
    found = look(PORTRAIT)
    assert asked == ["musiq", "clipiqa", "maniqa"] and found.refused.keys() == {"musiq"}
    assert {name: found.measured[name] for name in scorers} == dict.fromkeys(scorers, 0.65)


def test_a_face_too_small_or_too_large_for_the_square_is_refused_whatever_its_share(
    photographs, tools, astronaut, monkeypatch
):
    def look(**gates):
        return examine(photographs / PORTRAIT, None, Library(), replace(GATES, **gates), tools.embedder, {})

    small = look(side=150, face_share=0.0)
    assert small.refused.keys() == {"face_size"} and small.measured["face_size"] < 32
    huge = Detection(
        (-50.0, -20.0, 240.0, 300.0), np.array([[80, 90], [150, 90], [115, 130], [90, 170], [140, 170]]), 1.0
    )
    monkeypatch.setattr(gates, "detect_faces", lambda photo, **_: [huge])
    assert "larger than the square of 256" in look().refused["face_size"]


def test_a_name_with_a_strange_end_of_line_stays_one_line_of_the_manifest(tmp_path):
    lines = [{"file": "a\u2028b.jpg", "refused": {}}, {"file": "c\x85.jpg", "refused": {}}]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / dataset.MANIFEST).write_text(text, encoding="utf-8")
    assert dataset.read_manifest(tmp_path) == lines


def test_pyiqa_is_asked_as_its_manual_says_and_what_it_cannot_load_is_named(monkeypatch):
    """A stand-in: the package is optional, and its weights are large."""
    module = ModuleType("pyiqa")
    module.__spec__ = ModuleSpec("pyiqa", None)
    module.create_metric = lambda name, device: lambda batch: batch.mean((1, 2, 3)) * len(name)
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    found = {name: score(torch.full((3, 8, 8), 0.5)) for name, score in pyiqa_scorers(torch.device("cpu")).items()}
    assert found == {"clipiqa": 3.5, "maniqa": 3.0, "musiq": 2.5}

    def fails(name, device):
        raise OSError("no route")

    module.create_metric = fails
    with pytest.raises(UserError, match="pyiqa cannot load clipiqa .no route"):
        pyiqa_scorers(torch.device("cpu"))


def test_the_square_holds_the_face_and_the_blur_of_a_photograph_lowers_its_sharpness(astronaut):
    assert square_window((0, 10, 50, 90), (256, 700), 256) == (0, 0)
    assert square_window((600, 10, 690, 90), (256, 700), 256) == (444, 0)
    assert square_window((300, 10, 400, 90), (256, 700), 256) == (222, 0)
    grey = cv2.cvtColor(to_uint8(astronaut[0]), cv2.COLOR_RGB2GRAY)
    values = [laplacian_variance(cv2.GaussianBlur(grey, (0, 0), sigma)) for sigma in (0.3, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 30 > values[2]


def test_who_is_shown_must_look_like_the_album_that_the_folder_names(photos, tmp_path):
    """Real people: the album of one, a photograph of him that is not in it, and one of somebody else in his folder."""
    source = photos / "face_recognition"
    for name in ("obama_obama.jpg", "obama_obama2.jpg", "obama1.jpg"):
        (tmp_path / "Obama").mkdir(exist_ok=True)
        shutil.copy(source / name, tmp_path / "Obama")
    embedder = best_embedder()
    if embedder.proposes:
        pytest.skip("no identity network is installed; python run.py test installs one")
    library, gates = load_library(tmp_path, embedder), replace(GATES, sharpness=0.0)

    def look(path, name):
        return examine(path, name, library, gates, embedder, {})

    same, other = look(source / "obama1.jpg", "Obama"), look(source / "biden_biden2.jpg", "Obama")
    assert not same.refused and same.person.name == "Obama"
    assert "obama1.jpg" not in {one.name for one in same.person.references}, "no photograph is a reference of itself"
    assert other.refused.keys() == {"identity"} and "the similarity to Obama is" in other.refused["identity"]
    assert same.measured["identity"] > other.measured["identity"]
    stranger = look(source / "biden_biden2.jpg", None)
    assert (
        not stranger.refused and stranger.person is None and stranger.measured["identity"] == other.measured["identity"]
    )
    guess = examine(source / "obama1.jpg", "Obama", library, gates, Classical(), {})
    assert guess.person.name == "Obama" and "can only propose" in guess.skipped["identity"]


def test_items_are_crops_of_one_photograph_and_its_face_pair(built):
    data = dataset.Prepared(built, replace(TRAINING.data, crop=64), 8)
    item = data[3]
    assert item["clean"].shape == item["damaged"].shape == (2, 3, 64, 64)
    assert item["pair"].shape[:2] == (2, 6) and item["pair_size"].shape == (2, 2)
    assert all(torch.equal(data[3][name], one) for name, one in item.items()) and len(data) == 8
    assert not torch.equal(data[4]["clean"], item["clean"])
    for clean, damaged, pair, (height, width) in zip(
        *(item[name] for name in ("clean", "damaged", "pair", "pair_size")), strict=True
    ):
        assert psnr(clean, damaged) > 12 and psnr(pair[:3, :height, :width], pair[3:, :height, :width]) > 12
        assert pair[:, height:].abs().max() == 0 == pair[..., width:].abs().max()
    with pytest.raises(UserError, match="256 pixels wide, which is less than a crop of 512"):
        dataset.Prepared(built, replace(TRAINING.data, crop=512), 8)


def test_tokens_come_from_each_pictures_own_face_at_its_own_size(built):
    loss, item = task(), dataset.Prepared(built, replace(TRAINING.data, crop=64), 8)[0]
    batch = {name: one[None].clone() for name, one in item.items()}
    tokens = loss.tokens(batch)
    height, width = item["pair_size"][1].tolist()
    with torch.no_grad():
        alone = loss.mapnet(loss.frozen[1](item["pair"][1][None, :, :height, :width]).float())
    torch.testing.assert_close(tokens[1:], alone)
    batch["pair"][0, 0, :3] = 0.5
    changed = loss.tokens(batch)
    assert torch.equal(changed[1], tokens[1]) and not torch.equal(changed[0], tokens[0])


def test_face2scene_is_trained_on_it_and_says_so(built, tmp_path):
    config = replace(TRAINING, schedule=replace(TRAINING.schedule, steps=3))
    path = stage.train_face2scene(tmp_path / "run", config, tiny.turbo(), tiny.prompts(), [], CPU, prepared=built)
    about = face2scene.read_face2scene(path).provenance["data"]
    assert (
        about["let in"] == 1
        and about["gates"]["side"] == 256
        and about["faces restored by"] == {about["faces_with_album"]: 2}
    )


def test_stage_two_uses_and_keeps_a_fadex_of_its_own_with_mapnet_at_its_size(built, tmp_path):
    torch.manual_seed(0)
    sizes = {"widths": [4, 6, 8], "embedding": 16, "heads": 2, "stride": 2}
    extractor = weights.Extractor(**sizes, token_width=12)
    weights.save(tmp_path / "fadex.safetensors", "extractor", extractor, sizes | {"token_width": 12}, {})
    config = replace(TRAINING, schedule=replace(TRAINING.schedule, steps=2))
    given = {"prepared": built, "reader": tmp_path / "fadex.safetensors"}
    path = stage.train_face2scene(tmp_path / "run", config, tiny.turbo(), tiny.prompts(), [], CPU, **given)
    made = face2scene.read_face2scene(path)
    assert made.config["extractor"] == sizes | {"token_width": tiny.WIDTH}
    kept = made.tensors["extractor.fadex.E.0.weight"].float()
    torch.testing.assert_close(kept, extractor.fadex.E[0].weight.detach(), atol=1e-3, rtol=0)
    assert made.tensors["extractor.mapnet.embed.weight"].shape[:2] == (16, 8)


@pytest.mark.usefixtures("separate_folders")
def test_the_node_builds_what_the_command_builds_and_photographs_may_share_degradations(tmp_path):
    """The operator is the same, its noise is not."""
    for name in ("a", "b"):
        path = tmp_path / "photographs" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        to_pil(samples.photograph()[0]).save(path)
    name, report = BuildDataset.execute("photographs", "mine", versions=2, operators=1, short_side=400, side=256).args
    folder = opened_dataset(name)
    lines = dataset.read_manifest(folder)
    versions = [version for line in lines for version in line["versions"]]
    assert '"let in": 2' in report and [version["operator"] for version in versions] == [0] * 4
    assert len({json.dumps(version["recipe"]["steps"]) for version in versions}) == 1
    assert len({version["recipe"]["seed"] for version in versions}) == 4
    pairs = OperatorPairs(folder, 32, 0, 3)
    assert pairs.count == 4 and pairs[0]["pair"].shape == (2, 6, 32, 32)
    with pytest.raises(UserError, match="Build Dataset: the dataset .*started with different values of versions"):
        BuildDataset.execute("photographs", "mine", versions=1, operators=1, short_side=400, side=256)


def test_the_command_builds_without_faceme_and_says_so(photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "config.json").write_text('{"gates": {"short_side": 400, "side": 256}, "versions": 1}')
    arguments = [
        "dataset",
        "--photos",
        str(photographs),
        "--out",
        str(tmp_path / "out"),
        "--config",
        str(tmp_path / "config.json"),
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "restored without FaceMe" in said and "glintr100.onnx" in said and '"let in": 1' in said
    assert json.loads((tmp_path / "out" / dataset.SETTINGS).read_text())["faces_with_album"] == "one-step + album"
    assert main([*arguments, "--faces", "faceme"]) == 1 and main([*arguments, "--quality"]) == 1
    assert "mix.safetensors is missing" in capsys.readouterr().err

"""The bundled workflows, headless, from files to files."""

from __future__ import annotations

import copy
import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.cli import own
from personal_restore.cli.main import main
from personal_restore.cli.restore import restore as restored_graph
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.graph import GraphError, kinds
from personal_restore.lib.standin.host import allow_folder, folders
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.standin.validate import checked
from personal_restore.lib.storage.names import shown_folder
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.shared import sd_turbo
from personal_restore.models.shared.catalogue import entry
from personal_restore.nodes import NODES, training
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.tests.bundled import IN_COMFYUI_ONLY, NAMES, QUICK_FIRST, TRAINING, WORKFLOWS, bundled
from PIL import Image, ImageCms
from safetensors.torch import save_file

KNOWN = kinds((*CORE_NODES, *NODES))


def node(graph: dict, kind: str) -> str:
    return next(id for id, one in graph.items() if one["class_type"] == kind)


@pytest.fixture(autouse=True)
def separate_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(folders, "input", tmp_path)
    monkeypatch.setattr(folders, "output", tmp_path / "output")
    monkeypatch.setattr(folders, "allowed", [])


def picture(path: Path, photo: torch.Tensor, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((photo[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(path, **options)
    return path


@pytest.fixture
def small(astronaut) -> torch.Tensor:
    """The portrait at a size that restores in a second."""
    return astronaut[..., :256, 80:336]


def restore(*arguments) -> int:
    return main(["restore", *map(str, arguments)])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("name", NAMES)
def test_the_machine_twin_is_what_the_ui_workflow_says(name):
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text())
    assert to_api(workflow, KNOWN) == bundled(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_validates_and_has_a_thumbnail(name):
    if name in IN_COMFYUI_ONLY:
        with pytest.raises(GraphError) as refused:
            checked(bundled(name), KNOWN)
        assert all("runs only in ComfyUI" in problem for problem in refused.value.problems)
    else:
        assert checked(bundled(name), KNOWN)
    assert Image.open(WORKFLOWS / f"{name}.jpg").size[0] >= 256


# In no bundled workflow: they need weights that nobody has who has not fetched them, or change files that they name.
IN_NO_WORKFLOW = {
    "PR_DiffBIRRestorer": "needs DiffBIR's weights",
    "PR_StableSRRestorer": "needs StableSR's weights",
    "PR_InstantRestoreRestorer": "needs InstantRestore's weights",
    "PR_FaceModelRestorer": "needs the weights of a face restorer",
    "PR_UpscaleModelRestorer": "needs an upscale model",
    "PR_SegmentPeople": "needs YOLO's weights and a package under the AGPL",
    "PR_GenerationRestorer": "needs the published generator",
    "PR_NoiseToSigmas": "belongs to a checkpoint that is loaded by core",
    "PR_DownloadWeights": "would download",
    "PR_SaveLibrary": "would write biometric data of the sample into the user's models",
    "PR_LoadLibraryFile": "reads a file that the user has saved",
    "PR_ForgetPerson": "deletes from a file that the user has saved",
    "PR_LibraryFromImages": "its pictures are the user's; the sample brings a library",
    "PR_ImagesToFaces": "what is between it and Faces to Images are other packs' nodes",
}


def test_every_node_is_in_a_bundled_workflow_or_says_why_not():
    used = {one["class_type"] for name in NAMES for one in bundled(name).values()}
    unused = {node.define_schema().node_id for node in NODES} - used
    assert unused == IN_NO_WORKFLOW.keys(), "wire it into a workflow, or say here why not"


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_a_workflow_runs_as_it_is_twice_with_the_same_pixels(name, tmp_path):
    graph = bundled(name)
    shots = []
    for _ in range(2):
        results = run_graph(graph, NODES)
        file = results.ui[node(graph, "SaveImage")]["images"][0]
        shots.append(pixels(folders.output / file["subfolder"] / file["filename"]))
    assert np.array_equal(*shots)
    shown = results.ui[node(graph, "PreviewAny")]["text"][0]
    if name == "who_is_who":
        assert shown.startswith("0: Eileen Collins")
    elif name == "perfuse_group":
        report = json.loads(shown)
        assert [face["person"] for face in report["faces"]] == [None, "Eileen Collins", "Nobody Real"]
        assert shots[0].shape == (600, 1400, 3)
        assert report["quality"]["face"]["psnr_after"] > report["quality"]["face"]["psnr_before"] + 2
    elif name == "keep_the_person":
        face = json.loads(shown)["faces"][0]
        assert face["put_back"] and face["person"] == "Eileen Collins" and shots[0].shape == (630, 680, 3)
        assert face["to_album"][1] < face["to_album"][0] and face["to_photograph"][1] < face["to_photograph"][0]
    elif name == "perfuse_context_ablation":
        saved = [
            pixels(folders.output / f"context_{context}_00001_.png").astype(int)
            for context in ("off", "target", "lq", "reflect")
        ]
        off, target, lq, reflect = (np.abs(picture - saved[1]) for picture in saved)
        assert off.max() > 25 and off.max() > 2 * lq.max() and off.sum() > 3 * reflect.sum() and target.max() == 0
    elif name in TRAINING and not shown.startswith("{"):
        assert "persona of Eileen Collins" in shown
        kept = {path.name for path in (tmp_path / "models" / "personas").glob("*.safetensors")}
        expected = {
            "dualpivot_train": {"dual pivot sample.safetensors"},
            "pfstorer_train": {"pfstorer sample.safetensors"},
        }
        assert kept == expected.get(name, set())
        if name == "compare_personas":
            assert shots[0].shape == (512, 5 * 512 + 4 * 8, 3)
            faces = [shots[0][:, x : x + 512] for x in range(0, 2600, 520)]
            assert not any(np.array_equal(a, b) for a, b in itertools.combinations(faces, 2))
    elif name in TRAINING:
        report = json.loads(shown)
        assert np.isfinite(report["quality"]["psnr_after"]) and shots[0].shape == (512, 512, 3)
    elif name == "evaluate":
        head, row = (line.split() for line in shown.splitlines()[:2])
        damaged = results.ui[[id for id, one in graph.items() if one["class_type"] == "PreviewAny"][1]]["text"][0]
        values, before = row[2:], damaged.splitlines()[1].split()[2:]
        assert head[::2][:3] == ["psnr", "ssim", "identity_dlib"] or "identity_dlib" in shown
        assert float(values[0]) > float(before[0]) + 1 and float(values[1]) > float(before[1]) + 0.1
    elif name == "degradation_lab":
        figures = json.loads(shown)
        scores = {picture: one["psnr"] for picture, one in figures["quality"].items()}
        assert scores["restored"] > scores["damaged"] + 1
        assert figures["estimated_damage"].keys() == figures["true_damage"].keys()
    else:
        report = json.loads(shown)
        assert report["faces"][0]["person"] == "Eileen Collins"
        for quality in (report["quality"], report["quality"]["face"]):
            assert quality["psnr_after"] > quality["psnr_before"] + 1
            assert quality["ssim_after"] > quality["ssim_before"] + 0.1


@pytest.mark.parametrize("workflow", ["perfuse", "face2scene"])
@pytest.mark.parametrize("restorer", ["PR_EmbeddedRestorer", "PR_ReferenceRestorer", "PR_DiffusionRestorer", "persona"])
def test_any_restorer_goes_into_the_shell_without_rewiring(restorer, workflow):
    graph = bundled(workflow)
    slot = node(graph, "PR_ReferenceRestorer")
    few = {"denoise": 0.1, "steps": 2, "control": 1.0, "cfg": 1.0, "prompt": "", "skip_guidance": 0.0}
    given = {"PR_ReferenceRestorer": {"agreement": 0.8}, "PR_EmbeddedRestorer": {}}.get(restorer, few)
    graph[slot] = {"class_type": restorer, "inputs": given}
    if restorer == "persona":
        album = [node(graph, "PR_Sample"), 1]
        learn = {"restorer": ["base", 0], "library": album, "person": "", "method": "album", "steps": 1, "seed": 0}
        graph["base"] = {"class_type": "PR_DiffusionRestorer", "inputs": few}
        graph["learn"] = {"class_type": "PR_TrainPersona", "inputs": learn}
        worn = {"restorer": ["base", 0], "persona": ["learn", 0], "strength": 1.0, "person": ""}
        graph[slot] = {"class_type": "PR_ApplyPersona", "inputs": worn}
    assert run_graph(graph, NODES).ui[node(graph, "SaveImage")]["images"]


def test_each_known_person_of_the_group_is_restored_and_the_stranger_gets_the_general_restoration():
    graph = bundled("perfuse_group")
    blend, known = (
        node(graph, "PR_BlendFaces"),
        [i for i, n in graph.items() if n["class_type"] == "PR_RestoreFaces"][1:],
    )

    def run(*people):
        changed = copy.deepcopy(graph)
        for id, name in zip(known, people, strict=True):
            changed[id]["inputs"]["people"] = name
        file = run_graph(changed, NODES).ui[node(graph, "SaveImage")]["images"][0]
        return pixels(folders.output / file["filename"]).astype(int)

    assert graph[blend]["inputs"]["grain"] == 0
    both, first, strangers = (
        run("Eileen Collins", "Nobody Real"),
        run("Eileen Collins", "strangers"),
        run("strangers", "strangers"),
    )
    stranger, eileen, other = (slice(x, x + 466) for x in (0, 467, 934))
    assert np.array_equal(both[:, stranger], strangers[:, stranger])
    assert np.array_equal(both[:, eileen], first[:, eileen]) and not np.array_equal(
        first[:, eileen], strangers[:, eileen]
    )
    assert np.array_equal(first[:, other], strangers[:, other]) and not np.array_equal(both[:, other], first[:, other])


def test_a_group_of_ones_own_is_restored_with_an_album_of_ones_own(tmp_path, small):
    photo = picture(tmp_path / "photo.png", small)
    picture(tmp_path / "album" / "Somebody" / "1.png", small)
    assert restore(photo, "--album", tmp_path / "album", "--workflow", "perfuse_group", "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "photo_report.json").read_text())
    assert report["faces"][0]["person"] == "Somebody" and pixels(tmp_path / "out" / "photo_restored.png").shape == (
        512,
        512,
        3,
    )


def test_face2scene_s_stages_give_the_pixels_of_their_sum_and_the_scene_is_saved_beside_the_faces(small, tmp_path):
    graph = own.with_photo(bundled("face2scene"), allow_folder(picture(tmp_path / "photo.png", small)))
    whole = copy.deepcopy(graph)
    pair, mapnet, gauge = (node(whole, f"PR_{kind}") for kind in ("FacePair", "MapNet", "DamageGauge"))
    given = {name: whole[pair]["inputs"][name] for name in ("image", "faces", "face", "one_for_all")}
    whole["sum"] = {"class_type": "PR_EstimateDegradation", "inputs": given | {"extractor": "embedded"}}
    for one in whole.values():
        for name, value in one["inputs"].items():
            if value in ([mapnet, 0], [gauge, 1]):
                one["inputs"][name] = ["sum", 0 if value[0] == mapnet else 2]
    shots = []
    for one in (graph, whole):
        results = run_graph(one, NODES)
        files = [results.ui[id]["images"][0] for id, n in one.items() if n["class_type"] == "SaveImage"]
        shots.append([pixels(folders.output / file["filename"]) for file in files])
    assert [len(one) for one in shots] == [2, 2]
    for ours, theirs in zip(*shots, strict=True):
        assert np.array_equal(ours, theirs)
    blended, scene = shots[0]
    assert np.array_equal(blended[-40:], scene[-40:]) and not np.array_equal(blended, scene)


def test_of_several_saved_pictures_the_one_titled_restored_is_the_result():
    graph = {
        "sample": {"class_type": "PR_Sample", "inputs": {}},
        "small": {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["sample", 0], "upscale_method": "area", "scale_by": 0.25},
        },
        "compare": {
            "class_type": "ImageCompare",
            "inputs": {"image_a": ["sample", 0], "image_b": ["small", 0], "compare_view": 0},
        },
    }
    for id, source, name in (("first", "sample", "The scene alone"), ("second", "small", "Restored")):
        inputs = {"images": [source, 0], "filename_prefix": id}
        graph[id] = {"class_type": "SaveImage", "inputs": inputs, "_meta": {"title": name}}
    ran = list(run_graph(graph, NODES).ui)
    assert ran.index("first") < ran.index("second")
    assert restored_graph(graph).after.size == (128, 128)


def test_an_edit_of_ones_own_gets_the_people_of_the_photograph_back(tmp_path, astronaut, small):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = picture(tmp_path / "photo.png", small, icc_profile=profile)
    edit = picture(tmp_path / "edit.png", astronaut[..., 40:260, 90:330])
    picture(tmp_path / "album" / "Somebody" / "1.png", small)
    ask = (photo, "--album", tmp_path / "album", "--workflow", "keep_the_person", "--out", tmp_path / "out")
    assert restore(*ask, "--edit", edit) == 0
    report = json.loads((tmp_path / "out" / "photo_report.json").read_text())
    assert report["edits"][0]["registered"] and [face["put_back"] for face in report["faces"]] == [True]
    assert pixels(tmp_path / "out" / "photo_restored.png").shape == (220, 240, 3)
    with Image.open(tmp_path / "out" / "photo_restored.png") as done:
        assert "icc_profile" not in done.info and "the result has no color profile, as the edit" in report["notes"]
    assert restore(*ask) == 1, "the sample's edit is none of this photograph"
    assert restore(photo, "--edit", edit, "--out", tmp_path / "out") == 1


def test_strength_zero_gives_the_photograph_back_bit_for_bit(tmp_path, small):
    photo = picture(tmp_path / "photo.png", small)
    assert restore(photo, "--strength", 0, "--out", tmp_path / "out") == 0
    assert np.array_equal(pixels(tmp_path / "out" / "photo_restored.png"), pixels(photo))


def test_scene_only_leaves_out_the_faces_and_faces_only_leave_the_scene(small, tmp_path):
    graph = own.with_photo(bundled("perfuse"), allow_folder(picture(tmp_path / "photo.png", small)))
    blend = node(graph, "PR_BlendFaces")
    scene = graph[blend]["inputs"]["scene"][0]

    def run(scene_strength, face_strength):
        changed = copy.deepcopy(graph)
        changed[scene]["inputs"]["strength"], changed[blend]["inputs"]["strength"] = scene_strength, face_strength
        file = run_graph(changed, NODES).ui[node(graph, "SaveImage")]["images"][0]
        return pixels(folders.output / file["filename"]).astype(int)

    original = pixels(tmp_path / "photo.png").astype(int)
    faces, only_scene = run(0.0, 1.0), run(1.0, 0.0)
    assert np.array_equal(faces[-40:], original[-40:]) and not np.array_equal(faces, original)
    assert not np.array_equal(only_scene[-40:], original[-40:])


def test_a_photograph_without_a_face_is_restored_as_a_scene_and_says_so(tmp_path, astronaut):
    photo = picture(tmp_path / "no face.png", astronaut[..., 300:, :128])
    assert (
        restore(photo, "--out", tmp_path / "a") == restore(photo, "--out", tmp_path / "b", "--workflow", "perfuse") == 0
    )
    report = json.loads((tmp_path / "a" / "no face_report.json").read_text())
    assert report["faces"] == [] and report["damage"] is None
    assert np.array_equal(
        pixels(tmp_path / "a" / "no face_restored.png"), pixels(tmp_path / "b" / "no face_restored.png")
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_grey_transparent_and_palette_pictures_are_restored(tmp_path, small, mode):
    path = tmp_path / f"{mode}.png"
    Image.open(picture(path, small)).convert(mode).save(path)
    assert restore(path, "--out", tmp_path / "out") == 0
    assert pixels(tmp_path / "out" / f"{mode}_restored.png").shape == (256, 256, 3)


def test_a_face_of_thirty_pixels_does_not_stop_anything(tmp_path, astronaut):
    tiny = torch.nn.functional.interpolate(astronaut, scale_factor=0.33, mode="area")
    assert restore(picture(tmp_path / "tiny.png", tiny), "--out", tmp_path / "out") == 0


def test_an_album_with_a_text_file_and_an_empty_album_are_no_reason_to_stop(tmp_path, small):
    photo = picture(tmp_path / "photo.png", small)
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "notes.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    assert restore(photo, "--album", tmp_path / "album", "--out", tmp_path / "out") == 0
    assert restore(photo, "--album", tmp_path / "empty", "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "photo_2_restored.png").is_file(), "nothing is overwritten"


def test_a_text_file_as_photograph_is_a_clear_error_and_the_others_go_on(tmp_path, small, capsys):
    (tmp_path / "fake.jpg").write_text("no picture")
    good = picture(tmp_path / "good.png", small)
    assert restore(tmp_path / "fake.jpg", good, "--out", tmp_path / "out") == 1
    assert "fake.jpg: not a picture that can be opened" in capsys.readouterr().err
    assert (tmp_path / "out" / "good_restored.png").is_file()


def test_unicode_and_spaces_in_paths_and_names(tmp_path, small):
    photo = picture(tmp_path / "été à la mer" / "grand-mère №1.png", small)
    picture(tmp_path / "álbum 家族" / "Zoë 山" / "bild 1.png", small)
    assert restore(photo, "--album", tmp_path / "álbum 家族", "--out", tmp_path / "out put") == 0
    report = json.loads((tmp_path / "out put" / "grand-mère №1_report.json").read_text())
    assert report["faces"][0]["person"] == "Zoë 山"
    assert str(tmp_path) not in (tmp_path / "out put" / "grand-mère №1_report.json").read_text()


def test_orientation_is_applied_and_exif_and_profile_are_kept(tmp_path, small):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a day at the sea"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lying = torch.rot90(small, 1, (2, 3))[..., :200, :]
    photo = picture(tmp_path / "turned.jpg", lying, exif=exif, icc_profile=profile, quality=95)
    before = photo.read_bytes()
    assert restore(photo, "--out", tmp_path / "out") == 0
    assert photo.read_bytes() == before
    with Image.open(tmp_path / "out" / "turned_restored.png") as done:
        assert done.size == (200, 256)
        assert done.getexif()[0x010E] == "a day at the sea" and 0x0112 not in done.getexif()
        assert done.info["icc_profile"] == profile


def test_mirrored_orientation_is_applied_too(tmp_path, small):
    exif = Image.Exif()
    exif[0x0112] = 2
    photo = picture(tmp_path / "mirrored.jpg", small, exif=exif, quality=95)
    assert restore(photo, "--strength", 0, "--out", tmp_path / "out") == 0
    mirrored = pixels(photo)[:, ::-1].astype(int)
    assert np.abs(pixels(tmp_path / "out" / "mirrored_restored.png") - mirrored).mean() < 1


def test_a_missing_album_or_a_senseless_strength_is_a_clear_error(tmp_path, small, capsys):
    photo = picture(tmp_path / "photo.png", small)
    assert restore(photo, "--album", tmp_path / "nowhere") == 1
    assert "nowhere: the folder does not exist" in capsys.readouterr().err
    assert restore(photo, "--strength", 2) == 1
    assert "between 0 and 1" in capsys.readouterr().err


def test_any_value_of_a_workflow_can_be_set(tmp_path, small, capsys):
    photo = picture(tmp_path / "photo.png", small)
    assert restore(photo, "--out", tmp_path / "out", "--set", "PR_MatchFaces.override=0=Somebody") == 1
    assert "there is no 'Somebody' in the library" in capsys.readouterr().err


def test_an_album_of_ones_own_takes_the_place_of_the_samples_people(tmp_path):
    graph = own.with_album(bundled("perfuse_group"), tmp_path)
    passes = {
        node["inputs"]["people"]: node["inputs"]["strength"]
        for node in reversed(list(graph.values()))
        if node["class_type"] == "PR_RestoreFaces"
    }
    assert passes == {"": 1.0, "known": 1.0}
    assert sum(node["inputs"].get("strength") == 0 for node in graph.values()) == 1
    assert not any("Eileen" in str(node["inputs"]) for node in graph.values())


@pytest.fixture
def tiny_public_files(tmp_path, monkeypatch) -> Path:
    """SD-Turbo as one file and S3Diff's two, narrow and random, where the workflow looks for them."""
    folder = tmp_path / "models"
    (folder / "checkpoints").mkdir(parents=True)
    stability = tiny.single_file(tiny.turbo(), tiny.text_encoder(), sd_turbo.TEXT_PREFIXES[1])
    save_file(stability, folder / "checkpoints" / "sd_turbo.safetensors")
    tiny.write_public_files(folder)
    monkeypatch.setenv("PR_MODELS_DIR", str(folder))
    monkeypatch.setattr(
        sd_turbo, "load_sd_turbo", partial(sd_turbo.load_sd_turbo, unet_config=tiny.UNET, vae_config=tiny.VAE)
    )
    monkeypatch.setattr(sd_turbo, "embed_prompts", partial(sd_turbo.embed_prompts, config=tiny.TEXT))
    return folder


def test_s3diff_restores_a_scene_from_the_public_files(tiny_public_files, tmp_path, small):
    """With its own prompts, and no node of ComfyUI's core that loads or samples."""
    photo = picture(tmp_path / "photo.png", small)
    out = tmp_path / "out"

    def change(text):
        return ("--set", f"PR_S3DiffRestorer.{text}")

    for options in ((), change("cfg=1"), change("scale=2"), ("--seed", 1), ("--strength", 0)):
        assert restore(photo, "--workflow", "s3diff_scene", "--out", out, *options) == 0
    report = json.loads((out / "photo_report.json").read_text())
    assert report["faces"] == [] and "S3Diff" in report["seconds"]
    usual, unguided, large, seeded, untouched = (pixels(path) for path in in_order(out))
    assert usual.shape == (256, 256, 3) and large.shape == (512, 512, 3)
    for changed in (unguided, seeded, untouched):
        assert not np.array_equal(usual, changed)
    assert np.array_equal(untouched, pixels(photo))


def test_face2scene_is_trained_in_a_graph_stopped_and_taken_up_again(tiny_public_files, small, tmp_path, monkeypatch):
    """What comes out restores in the node; the number of steps is what the graph says, in one piece or in two."""
    for number in range(2):
        picture(tmp_path / "photographs" / f"{number}.png", small.roll(number, -1))
    graph = bundled("face2scene_train")
    (id,) = (id for id, one in graph.items() if one["class_type"] == "PR_TrainFace2Scene")
    graph[id]["inputs"] |= {"steps": 3, "batch": 1, "crop": 64}
    made = tiny_public_files / "face2scene" / "face2scene.safetensors"
    monkeypatch.setattr(training, "SAVE_EVERY", 1)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "progress", lambda total: stop)
        with pytest.raises(KeyboardInterrupt):
            run_graph(graph, NODES)
    assert not made.exists()
    graph[id]["inputs"]["crop"] = 128
    with pytest.raises(
        Exception,
        match="'face2scene' was started with different values of data.crop. Restore the old settings, choose another name",
    ):
        run_graph(graph, NODES)
    graph[id]["inputs"]["crop"] = 64
    assert "3 steps" in run_graph(graph, NODES).ui["4"]["text"][0]
    assert not (made.parent / "training" / made.stem).exists()
    graph[id]["inputs"]["photographs"] = "empty"  # fails before anything is learnt, and so commits to nothing
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="no pictures"):
        run_graph(graph, NODES)
    graph[id]["inputs"]["photographs"] = "photographs"
    run_graph(graph, NODES)
    weights = face2scene.read_face2scene(made)
    assert weights.provenance["config"]["schedule"]["steps"] == 3 and weights.provenance["data"] == "2 photographs"
    scene = bundled("s3diff_scene")
    slot = node(scene, "PR_S3DiffRestorer")
    scene[slot] = {"class_type": "PR_Face2SceneRestorer", "inputs": {"checkpoint": "sd_turbo.safetensors", "model": made.name,
                   "cfg": 1.0, "scale": 1}}  # fmt: skip
    assert run_graph(scene, NODES).ui[node(scene, "SaveImage")]["images"]


def test_s3diff_converted_to_one_file_restores_the_same(tiny_public_files, tmp_path, small, capsys):
    photo, out = picture(tmp_path / "photo.png", small[..., :128, :128]), tmp_path / "out"
    assert restore(photo, "--workflow", "s3diff_scene", "--out", out) == 0
    assert main(["models", "convert", "s3diff"]) == 0
    for name in ("s3diff.pkl", "de_net.pth"):
        (tiny_public_files / name).unlink()
    assert restore(photo, "--workflow", "s3diff_scene", "--out", out) == 0
    before, after, *_ = in_order(out)
    assert np.array_equal(pixels(before), pixels(after))
    assert main(["models", "convert", "s3diff"]) == 1 and "s3diff.pkl is missing" in capsys.readouterr().err


def in_order(folder: Path) -> list[Path]:
    return [folder / f"photo{number}_restored.png" for number in ("", "_2", "_3", "_4", "_5")]


def test_s3diff_without_its_weights_is_one_error_that_says_what_belongs_where(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path / "models"))
    photo = picture(tmp_path / "photo.png", small)
    assert restore(photo, "--workflow", "s3diff_scene", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    for file, size, licence, folder in (
        ("sd_turbo.safetensors", "5.2 GB", "Stability AI Community License", tmp_path / "models" / "checkpoints"),
        ("s3diff.pkl", "138 MB", "Apache-2.0", tmp_path / "models"),
        ("de_net.pth", "9 MB", "Apache-2.0", tmp_path / "models"),
    ):
        line = next(line for line in said.splitlines() if f"{file} is missing" in line)
        assert all(
            part in line
            for part in (size, licence, f"It belongs in {shown_folder(folder)}.", "python run.py models get")
        )
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*restored*"))


def test_the_canvas_says_which_weights_s3diff_needs_and_where_they_go():
    notes = " ".join(
        node["widgets_values"][0]
        for node in json.loads((WORKFLOWS / "s3diff_scene.json").read_text())["nodes"]
        if node["type"] == "MarkdownNote"
    )
    for name in ("sd-turbo", "s3diff", "s3diff-degradation"):
        weights = entry(name)
        for part in (weights.file, weights.size, weights.repository, f"models/{weights.folder}", weights.licence, name):
            assert part in notes, part

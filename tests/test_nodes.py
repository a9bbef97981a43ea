"""The nodes themselves: what they accept from other packs, batches, and that they explain themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.lib.faces.detect import scrfd_file
from personal_restore.lib.faces.embed import arcface_file
from personal_restore.lib.standin import host
from personal_restore.lib.standin.io import object_info
from personal_restore.lib.standin.runner import run_graph
from personal_restore.lib.storage.personas import save_persona
from personal_restore.lib.vocabulary import DegradationCode, Library, Persona, UserError
from personal_restore.models.shared import sd_turbo
from personal_restore.nodes import NODES, library_files, sources
from personal_restore.nodes import faces as node_faces
from personal_restore.nodes import fusion as node_fusion
from personal_restore.nodes import personas as node_personas
from personal_restore.nodes.degradation import Degrade
from personal_restore.nodes.estimate import EstimateDegradation
from personal_restore.nodes.face2scene import CodeToConditioning, Face2SceneRestorer
from personal_restore.nodes.faces import DetectFaces, FacesToImages, ImagesToFaces, MatchFaces
from personal_restore.nodes.fusion import BlendFaces, ColorFix
from personal_restore.nodes.generation import RestorationByGeneration
from personal_restore.nodes.library_files import ForgetPerson, LoadLibraryFile, SaveLibrary
from personal_restore.nodes.masks import MaskFaces
from personal_restore.nodes.report import Report
from personal_restore.nodes.restore import EmbeddedRestorer, RestoreFaces, RestoreScene
from personal_restore.nodes.s3diff import S3DiffRestorer, embedded_prompt
from personal_restore.nodes.sources import LibraryFromImages, Sample
from personal_restore.tests import tiny_s3diff as tiny
from PIL import Image


@pytest.fixture(scope="module")
def image(astronaut) -> torch.Tensor:
    return astronaut[..., :256, 80:336].movedim(1, -1).contiguous()


@pytest.fixture(scope="module")
def faces(image):
    return DetectFaces.execute(image, 0.0).args[0]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_input_and_output_explains_itself(node):
    schema = node.define_schema()
    assert schema.node_id.startswith("PR_") and schema.description and schema.search_aliases
    info = object_info(node)
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    assert all(options["tooltip"] for _, options in inputs.values())
    assert all(info["output_tooltips"])


def test_optional_inputs_come_last():
    """The frontend shows them last, and saved workflows keep widget values by position."""
    for node in NODES:
        optional = [bool(item.optional) for item in node.define_schema().inputs]
        assert optional == sorted(optional), node.__name__


def test_faces_go_out_as_images_and_come_back(faces):
    crops, masks, boxes = FacesToImages.execute(faces, True).args
    assert crops[0].shape == (1, 512, 512, 3) and masks[0].shape == (1, 512, 512)
    assert boxes[0].keys() == {"x", "y", "width", "height"}
    half = torch.nn.functional.interpolate(crops[0].movedim(-1, 1), (256, 256), mode="area").movedim(1, -1)
    back = ImagesToFaces.execute([faces], [half]).args[0]
    assert back.frames[0][0].restored.shape == (3, 512, 512) and back.frames[0][0].box == faces.frames[0][0].box
    with pytest.raises(UserError, match="2 crop.*1 face"):
        ImagesToFaces.execute([faces], [half, half])


def test_without_a_face_the_round_trip_goes_on(image):
    nothing = DetectFaces.execute(torch.rand_like(image), 0.0).args[0]
    crops, masks, _ = FacesToImages.execute(nothing, True).args
    assert len(crops) == 1 and masks[0].max() == 0
    assert len(ImagesToFaces.execute([nothing], crops).args[0]) == 0


@pytest.mark.parametrize("shape", ["one", "list", "list of lists"])
def test_boxes_of_core_nodes_are_accepted(image, faces, shape):
    x0, y0, x1, y1 = faces.frames[0][0].box
    box = {"x": round(x0), "y": round(y0), "width": round(x1 - x0), "height": round(y1 - y0)}
    boxes = {"one": box, "list": [box], "list of lists": [[box]]}[shape]
    found = DetectFaces.execute(image, 0.0, boxes=boxes).args[0]
    offset = np.abs(found.frames[0][0].landmarks - faces.frames[0][0].landmarks)
    assert len(found) == 1 and offset.max() < 6


def test_landmarks_of_core_nodes_are_accepted(image, faces):
    points = np.zeros((478, 2))
    points[[468, 473, 1, 61, 291]] = faces.frames[0][0].landmarks
    mesh = {"bbox_xyxy": np.array(faces.frames[0][0].box), "landmarks_xy": points, "score": 0.9}
    found = DetectFaces.execute(image, 0.0, landmarks={"frames": [[mesh]], "image_size": (256, 256)}).args[0]
    np.testing.assert_allclose(found.frames[0][0].landmarks, faces.frames[0][0].landmarks)


def test_a_batch_keeps_its_photographs_apart(image):
    batch = torch.cat([image, torch.full_like(image, 0.5), image.flip(2)])
    faces, report = DetectFaces.execute(batch, 0.0).args
    assert [len(frame) for frame in faces.frames] == [1, 0, 1] and report.count("\n") == 3
    restorer = EmbeddedRestorer.execute().args[0]
    with torch.inference_mode():
        restored = RestoreFaces.execute(batch, faces, restorer, 1.0, 0).args[0]
        out, mask = BlendFaces.execute(batch, restored, 1.0, "", "target", "wavelet").args
    assert out.shape == batch.shape and mask.shape == (3, 256, 256)
    assert torch.equal(out[1], batch[1]) and not torch.equal(out[2], batch[2])


def test_grey_and_transparent_images_pass_every_stage(image):
    restorer = EmbeddedRestorer.execute().args[0]
    for picture in (image.mean(-1, keepdim=True), torch.cat([image, image[..., :1]], -1)):
        faces = DetectFaces.execute(picture, 0.0).args[0]
        with torch.inference_mode():
            assert RestoreScene.execute(picture, restorer, 1.0, 0).args[0].shape == image.shape
        assert len(faces) == 1


def test_faces_of_another_picture_are_a_clear_error(image, faces):
    with pytest.raises(UserError, match="256x256.*200x256"):
        EstimateDegradation.execute(image[:, :, :200], faces, -1)


def test_no_restored_face_gives_no_code_and_says_so(image, faces):
    code, report, gauge = EstimateDegradation.execute(image, faces, -1).args
    assert gauge.shape[-1] == 3 and code is None and "without a degradation code" in report


def test_an_empty_library_leaves_everybody_a_stranger(faces):
    matched, report = MatchFaces.execute(faces, Library(), 0.0, "").args
    assert matched.frames[0][0].person is None and "nobody known" in report


def test_with_the_photograph_the_faces_are_shown_to_be_clicked_on(image, faces, monkeypatch, tmp_path):
    monkeypatch.setattr(host, "folders", host.Folders(tmp_path, tmp_path))
    twice = torch.cat([image, image.flip(2)])
    both = DetectFaces.execute(twice, 0.0).args[0]
    library = Sample.execute().args[1]
    shown = MatchFaces.execute(both, library, 0.0, "0=nobody", twice, "1=0.5").ui
    assert shown["pr_people"] == ["Eileen Collins"] and len(shown["pr_pictures"]) == 2
    (first,), (second,) = (picture["faces"] for picture in shown["pr_pictures"])
    assert first["label"] == "0 ?" and not first["known"] and first["strength"] == 1.0
    assert second["number"] == 1 and second["strength"] == 0.5
    left, _, width, _ = first["box"]
    assert second["box"][0] == pytest.approx(1 - left - width, abs=0.05), "mirrored, in fractions of the photograph"
    for picture in shown["pr_pictures"]:
        assert Image.open(host.folders.temp / picture["file"]["filename"]).size == (256, 256)
    (text,) = shown["files"]
    assert (host.folders.temp / text["filename"]).read_text("utf-8").splitlines()[0].startswith("0: nobody")
    assert MatchFaces.execute(both, library, 0.0, "").ui is None
    with pytest.raises(UserError, match="Match Faces: the faces were found in 2 picture"):
        MatchFaces.execute(both, library, 0.0, "", image)


def test_a_face_of_strength_zero_is_left_to_the_scene(image, faces):
    left = MatchFaces.execute(faces, Library(), 0.0, "", None, "0=0").args[0]
    half = MatchFaces.execute(faces, Library(), 0.0, "", None, "0=0.5").args[0]
    restorer = EmbeddedRestorer.execute().args[0]
    with torch.inference_mode():
        assert RestoreFaces.execute(image, left, restorer, 1.0, 0).args[0].frames[0][0].restored is None
        restored = RestoreFaces.execute(image, half, restorer, 1.0, 0).args[0]
        whole = RestoreFaces.execute(image, faces, restorer, 1.0, 0).args[0]
        by_half, by_whole = (
            (BlendFaces.execute(image, one, 1.0, "", "target", "none").args[0] - image).abs().mean()
            for one in (restored, whole)
        )
    assert 0 < by_half < 0.7 * by_whole
    with pytest.raises(UserError, match="Match Faces: strengths names face 3"):
        MatchFaces.execute(faces, Library(), 0.0, "", None, "3=1")


def test_people_from_images_are_added_to_a_library(image):
    _, library, _ = Sample.execute().args
    merged, report = LibraryFromImages.execute(image, "Somebody", library).args
    assert [person.name for person in merged.people] == ["Eileen Collins", "Somebody"] and "Somebody: 1" in report


def test_a_recipe_repeats_what_a_family_drew(image):
    first, recipe, _ = Degrade.execute(image, "trial", 5).args
    again, _, _ = Degrade.execute(image, "light", 0, recipe).args
    assert torch.equal(first, again)


def test_the_colour_fix_wants_equal_sizes_only_where_it_must(image):
    smaller = image[:, :100]
    assert ColorFix.execute(image, smaller, "adain").args[0].shape == image.shape
    with pytest.raises(UserError, match="same size"):
        ColorFix.execute(image, smaller, "wavelet")


def test_the_report_is_json_and_ignores_a_truth_of_another_picture(image):
    made = Report.execute(image * 0.9, image, truth=image)
    right, (file,) = json.loads(made.args[0]), made.ui["files"]
    assert json.loads((host.folders.temp / file["filename"]).read_text("utf-8")) == right and file["type"] == "temp"
    assert right["quality"]["psnr_after"] == 100 and right["faces"] == [] and right["damage"] is None
    wrong = json.loads(Report.execute(image, image, truth=1 - image).args[0])
    assert wrong["quality"] is None and "different picture" in wrong["quality_note"]


def test_progress_counts_the_faces(image, faces):
    seen = []
    with host.reporting(lambda done, total: seen.append((done, total))), torch.inference_mode():
        RestoreFaces.execute(image, faces, EmbeddedRestorer.execute().args[0], 1.0, 0)
    assert seen[-1] == (1, 1)


def test_nodes_run_in_a_graph_without_any_file():
    graph = {
        "1": {"class_type": "PR_Sample", "inputs": {}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}},
        "3": {"class_type": "PR_DetectFaces", "inputs": {"image": ["1", 0], "threshold": 0.0}},
    }
    assert "score" in run_graph(graph, NODES).ui["2"]["text"][0]


def test_restoration_by_generation_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    with pytest.raises(UserError, match="base_256.pt is missing.*Adobe Research License.*gen2res"):
        RestorationByGeneration.execute(0.2, 0.0)


def imported(code: str) -> str:
    """What a fresh process prints that imports the pack as ComfyUI does when it starts."""
    code = f"import run, sys, time\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    ).stdout


def test_the_pack_imports_no_slow_library():
    """ComfyUI imports every pack when it starts."""
    loaded = imported("run.load_package(); import personal_restore.nodes; print(*sys.modules)")
    slow = {"diffusers", "transformers", "insightface", "ultralytics", "matplotlib", "accelerate", "spandrel", "dlib"}
    slow |= {"torchvision", "kornia", "scipy"}
    assert not slow & set(loaded.split())


def test_s3diff_says_what_is_missing_and_which_prompts_do_not_fit(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    text = torch.rand(1, 77, 1024)
    with pytest.raises(UserError, match="s3diff.pkl is missing.*Apache-2.0"):
        S3DiffRestorer.execute("none found", [[text, {}]], [[text, {}]], 1.07, 1)
    with pytest.raises(UserError, match="so long"):
        S3DiffRestorer.execute("none found", [[text.repeat(1, 2, 1), {}]], [[text, {}]], 1.07, 1)
    with pytest.raises(UserError, match="positive is empty"):
        embedded_prompt([], "positive")
    assert torch.equal(embedded_prompt([[text, {}]], "positive"), text)
    with pytest.raises(UserError, match="negative has 768 values"):
        embedded_prompt([[text[..., :768], {}]], "negative")


@pytest.fixture
def trained(monkeypatch, tmp_path) -> str:
    """A trained Face2Scene in the models folder, and a tiny SD-Turbo in the place of the checkpoint."""
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "sd_turbo.safetensors").touch()
    monkeypatch.setattr(sd_turbo, "load_sd_turbo", lambda path: tiny.turbo())
    return tiny.write_face2scene(tmp_path / "face2scene" / "mine.safetensors").name


def test_a_trained_face2scene_restores_with_the_code_of_its_own_extractor_only(trained, image, faces):
    restorer = Face2SceneRestorer.execute("sd_turbo.safetensors", trained, 1.1, 1).args[0]
    faces = faces.map(lambda face: replace(face, restored=face.crop))
    code = EstimateDegradation.execute(image, faces, -1, trained).args[0]
    assert code.space.startswith("face2scene-") and code.tokens.shape == (1, 21, tiny.WIDTH)
    guided, blind = (RestoreScene.execute(image, restorer, 1.0, 0, one).args[0] for one in (code, None))
    assert guided.shape == image.shape and not torch.equal(guided, blind)
    theirs = EstimateDegradation.execute(image, faces, -1).args[0]
    with pytest.raises(UserError, match="'personal-restore-embedded-3', but the restorer 'Face2Scene' needs"):
        RestoreScene.execute(image, restorer, 1.0, 0, theirs)
    with pytest.raises(UserError, match="'face2scene-.*', but the restorer 'one-step' needs"):
        RestoreScene.execute(image, EmbeddedRestorer.execute().args[0], 1.0, 0, code)


def test_face2scene_says_which_models_there_are(trained, image, faces):
    with pytest.raises(UserError, match="Face2Scene Restorer: .*'yours'. Known: mine.safetensors.*Train Face2Scene"):
        Face2SceneRestorer.execute("sd_turbo.safetensors", "yours", 1.1, 1)
    with pytest.raises(UserError, match="no checkpoint 'x'. Known: sd_turbo.safetensors"):
        Face2SceneRestorer.execute("x", trained, 1.1, 1)
    options = [item for item in EstimateDegradation.define_schema().inputs if item.id == "extractor"][0].options
    assert options["options"] == ["embedded", trained]


def test_a_code_goes_behind_the_text_of_native_conditioning():
    text, tokens = torch.rand(1, 77, 1024), torch.rand(1, 21, 1024)
    conditioning = [[text, {"pooled_output": text[:, 0]}], [text.repeat(2, 1, 1), {}]]
    code = DegradationCode(torch.zeros(1, 256, 4, 4), tokens, "face2scene-0")
    first, second = CodeToConditioning.execute(conditioning, 0.5, code).args[0]
    assert torch.equal(first[0], torch.cat([text, 0.5 * tokens], 1)) and first[1].keys() == {"pooled_output"}
    assert second[0].shape == (2, 98, 1024) and conditioning[0][0].shape == (1, 77, 1024)
    assert CodeToConditioning.execute(conditioning, 1.0, None).args[0] is conditioning
    assert CodeToConditioning.execute(conditioning, 0.0, code).args[0] is conditioning
    narrow = DegradationCode(torch.zeros(1, 128, 4, 4), tokens[..., :192], "personal-restore-embedded-2")
    with pytest.raises(UserError, match="192 numbers wide, but the encoded prompt is 1024"):
        CodeToConditioning.execute(conditioning, 1.0, narrow)


def test_people_are_kept_brought_back_and_forgotten(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    library = Sample.execute().args[1]
    assert "Eileen Collins: 4" in SaveLibrary.execute(library, "family").args[0]
    before = LoadLibraryFile.fingerprint_inputs("family")
    again, text = LoadLibraryFile.execute("family").args
    assert [person.name for person in again.people] == ["Eileen Collins"] and "Eileen Collins: 4" in text
    assert ForgetPerson.execute("family", "Eileen Collins").args[0] == "The library is empty."
    assert not list(tmp_path.rglob("*.safetensors")) and LoadLibraryFile.fingerprint_inputs("family") != before
    with pytest.raises(UserError, match="Forget|no library"):
        LoadLibraryFile.execute("family")


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.define_schema().node_id)
def test_a_seed_stays_what_it_is(node):
    """Left alone, the frontend would draw another one after every run: nothing would be cached, no training taken up again."""
    seeds = [item for item in node.define_schema().inputs if item.id == "seed"]
    assert all(item.options["control_after_generate"] is False for item in seeds)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_value_that_is_no_number_is_said_with_its_place(image, faces, value):
    broken = image.clone()
    broken[0, 5, 7, 1] = value
    mask = torch.zeros(1, 256, 256)
    mask[0, 5, 7] = value
    for use in (
        lambda: DetectFaces.execute(broken, 0.0),
        lambda: BlendFaces.execute(broken, faces, 1.0, "", "target", "wavelet"),
        lambda: BlendFaces.execute(image, faces, 1.0, "", "target", "wavelet", mask=mask),
        lambda: Degrade.execute(broken, "trial", 0),
        lambda: MaskFaces.execute(faces, "face", mask),
    ):
        with pytest.raises(UserError, match="1 value.*not numbers.*x 7, y 5"):
            use()


def test_every_folder_of_models_is_searched(tmp_path, monkeypatch):
    """As with a user's extra_model_paths.yaml, which names several folders for one kind of file."""
    folders = [tmp_path / "first", tmp_path / "second"]
    (folders[1] / "pack").mkdir(parents=True)
    for name in ("det_10g.onnx", "w600k_r50.onnx"):
        (folders[1] / "pack" / name).touch()
    assert scrfd_file(folders).name == "det_10g.onnx" and arcface_file(iter(folders)).name == "w600k_r50.onnx"
    (folders[0]).mkdir()
    (folders[0] / "det_2.onnx").touch()
    assert scrfd_file(folders).parent == folders[0]

    asked = []
    for module in (sources, node_faces, node_fusion, library_files, node_personas):
        monkeypatch.setattr(module, "weight_folders", lambda kind: asked.append(kind) or folders)
    monkeypatch.setattr(sources, "best_embedder", lambda given: asked.append(list(given)))
    monkeypatch.setattr(node_fusion, "find_networks", lambda given: asked.append(list(given)))
    Sample.execute()
    assert asked[-1] == folders and set(asked[:-1]) == {"personal_restore"}


def test_libraries_and_personas_are_found_in_every_folder(tmp_path, monkeypatch):
    folders = [tmp_path / "first", tmp_path / "second"]
    for module in (library_files, node_personas):
        monkeypatch.setattr(module, "weight_folders", lambda kind: folders)
    SaveLibrary.execute(Library(), "family")
    (folders[0] / "libraries").rename(tmp_path / "moved")
    folders[1].mkdir()
    (tmp_path / "moved").rename(folders[1] / "libraries")
    assert LoadLibraryFile.execute("family").args[0].people == ()
    assert LoadLibraryFile.fingerprint_inputs("family") != LoadLibraryFile.fingerprint_inputs("friends")
    persona = Persona("album", "base", {"x": torch.ones(1)}, {})
    save_persona(persona, folders[1] / "personas", "Ann")
    assert node_personas.LoadPersona.execute("Ann").args[0].base == "base"
    node_personas.SavePersona.execute(persona, "Ann", False)
    assert (folders[0] / "personas" / "Ann.safetensors").is_file()

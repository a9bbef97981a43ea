"""The papers' measures: each that runs here against an independent computation, and what is said of the others."""

from __future__ import annotations

import csv
import gc
import importlib.util
import io
import json
import weakref

import numpy as np
import pytest
import torch
from personal_restore.cli.main import main
from personal_restore.lib.degradation.families import FAMILIES
from personal_restore.lib.faces.detect import detect_faces, dlib_file, make_face, to_uint8
from personal_restore.lib.measure import FACES, Metric, face_error, measure_pictures
from personal_restore.lib.pictures.files import read_picture
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared import iqa
from personal_restore.models.shared.catalogue import entry
from personal_restore.nodes.layout import to_image
from personal_restore.nodes.measure import Measure
from PIL import Image

QUICK = "psnr", "ssim", "landmarks"


@pytest.fixture(scope="module")
def pair(astronaut) -> tuple[torch.Tensor, torch.Tensor]:
    """A damaged portrait and the original, ``[3, 320, 320]``."""
    truth = astronaut[0, :, :320, 60:380]
    return FAMILIES["mild"](3).apply(truth[None])[0], truth


def test_psnr_and_ssim_are_scikit_image_s(pair):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    result, truth = (one.permute(1, 2, 0).double().numpy() for one in pair)
    row = measure_pictures({"a": pair[0]}, {"a": pair[1]}, {}, ("psnr", "ssim")).rows["a"]
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(truth, result, data_range=1), abs=1e-6)
    theirs = structural_similarity(
        truth, result, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert row["ssim"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("shift", [0, 4, 9])
def test_the_landmark_error_of_a_shifted_face_is_the_shift(pair, shift):
    """In percent of the distance of the eyes, which is measured here on the landmarks."""
    truth = pair[1]
    row = measure_pictures({"a": truth.roll(shift, -1)}, {"a": truth}, {}, ("landmarks",)).rows["a"]
    points = detect_faces(truth)[0].landmarks
    assert row["landmarks"] == pytest.approx(100 * shift / np.hypot(*(points[0] - points[1])), abs=1.5)


def test_the_identity_distance_is_nearly_that_of_dlib_s_own_pipeline(pair):
    """dlib aligns by its own five points and by its own chip; the distances agree and have the same order."""
    dlib = pytest.importorskip("dlib")
    shapes, network = (
        dlib_file(f"{name}.dat")
        for name in ("shape_predictor_5_face_landmarks", "dlib_face_recognition_resnet_model_v1")
    )
    if shapes is None or network is None:
        pytest.skip("dlib's models (face_recognition_models) are not installed")
    predictor, model = dlib.shape_predictor(str(shapes)), dlib.face_recognition_model_v1(str(network))
    truth = pair[1]
    found = detect_faces(truth)[0]

    def described(picture: torch.Tensor) -> np.ndarray:
        box = dlib.rectangle(*(round(side) for side in found.box))
        pixels = to_uint8(picture)
        return np.array(model.compute_face_descriptor(pixels, predictor(pixels, box)))

    ours, theirs = [], []
    for family in ("clean", "mild", "trial"):
        damaged = FAMILIES[family](14).apply(truth[None])[0]
        ours.append(face_error("identity_dlib", make_face(damaged, found), make_face(truth, found)))
        theirs.append(float(np.linalg.norm(described(damaged) - described(truth))))
    assert np.abs(np.subtract(ours, theirs)).max() < 0.15 and ours == sorted(ours) and theirs == sorted(theirs)


def test_faces_only_measures_the_box_of_the_true_face(pair):
    result, truth = pair
    found = measure_pictures({"a": result}, {"a": truth}, {}, QUICK, faces_only=True)
    assert list(found.rows) == ["a, face 0"] and not found.missing
    x0, y0, x1, y1 = (round(side) for side in detect_faces(truth)[0].box)
    error = (result - truth)[:, y0:y1, x0:x1].double().square().mean()
    assert found.rows["a, face 0"]["psnr"] == pytest.approx(float(-10 * error.log10()), abs=1e-3)


def test_without_a_truth_only_what_needs_none_is_measured_and_the_rest_says_why(pair):
    blind = {"brightness": Metric(lambda: lambda picture: float(picture.mean()), False, "higher")}
    found = measure_pictures({"a": pair[0]}, {}, blind)
    assert found.rows == {"a": {"brightness": pytest.approx(float(pair[0].mean()))}}
    assert found.missing == dict.fromkeys(("psnr", "ssim", *FACES), "It compares with the truth, and there is none.")


def test_a_face_that_the_result_lost_leaves_its_row_empty(pair):
    found = measure_pictures({"a": torch.full_like(pair[1], 0.5)}, {"a": pair[1]}, {}, QUICK)
    assert "landmarks" not in found.rows["a"] and "No face was found" in found.missing["landmarks"]


def test_table_csv_and_json_say_the_same(pair):
    results = {"one": pair[0], "two, and more": pair[1]}
    found = measure_pictures(results, {"one": pair[1], "two, and more": pair[1]}, {}, (*QUICK, "identity_arcface"))
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    told = json.loads(found.to_json())
    assert [row[""] for row in rows] == list(results) == list(told["rows"])
    for row in rows:
        for name in QUICK:
            assert float(row[name]) == told["rows"][row[""]][name] == found.rows[row[""]][name]
    assert told["mean"]["psnr"] == pytest.approx(np.mean([row["psnr"] for row in found.rows.values()]))
    lines = found.table().splitlines()
    assert lines[1].split()[:2] == ["one", f"{found.rows['one']['psnr']:.4g}"] and lines[3].startswith("mean")
    if "identity_arcface" in found.missing:
        assert rows[0]["identity_arcface"] == "" and told["rows"]["one"]["identity_arcface"] is None
        assert found.missing["identity_arcface"] in found.table()


def test_wrong_names_and_sizes_are_refused(pair):
    with pytest.raises(UserError, match="no measure 'psnrr'. Known: psnr, ssim"):
        measure_pictures({"a": pair[0]}, {}, {}, ("psnrr",))
    with pytest.raises(UserError, match="a is 320x320 px, but its truth is 320x300 px"):
        measure_pictures({"a": pair[0]}, {"a": pair[1][:, :300]}, {}, QUICK)
    with pytest.raises(UserError, match="1 results, but 2 truths"):
        Measure.execute(to_image(pair[0][None]), False, "", to_image(torch.stack(pair)))


def test_learned_measures_without_their_files_name_the_package_or_each_file(pair, tmp_path):
    found = measure_pictures(
        {"a": pair[0]},
        {"a": pair[1]},
        iqa.learned_metrics(lambda kind: [tmp_path], torch.device("cpu")),
        [*iqa.LEARNED, *iqa.IMPOSSIBLE],
    )
    assert not found.rows["a"] and found.missing.keys() == iqa.LEARNED.keys() | iqa.IMPOSSIBLE.keys()
    for name, one in iqa.LEARNED.items():
        if importlib.util.find_spec("pyiqa") is None:
            assert "pyiqa" in found.missing[name] and "pip install" in found.missing[name]
        else:
            for file in one.files:
                assert f"{file} (license: {entry(file).licence})" in found.missing[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in iqa.LEARNED if name != "niqe"])
def test_a_learned_measure_is_pyiqa_s_network_with_the_weights_of_our_files(name, tmp_path, monkeypatch, pair):
    """On random weights: built from the files, it gives what the network gave from which they were saved. Nothing is downloaded."""
    pyiqa = pytest.importorskip("pyiqa", reason="needs the extra metrics")
    import torchvision

    def refuse(*_, **__):
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr("pyiqa.utils.download_util.download_url_to_file", refuse)
    torch.manual_seed(0)
    one = iqa.LEARNED[name]
    places = [tmp_path / entry(file).place for file in one.files]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
    behind = {"lpips": torchvision.models.alexnet, "dists": torchvision.models.vgg16}
    if name in behind:
        torch.save(behind[name](weights=None).state_dict(), places[1])
    with iqa._without_downloads(one.pyiqa, places[1:]):
        net = pyiqa.create_metric(one.pyiqa, device="cpu", **one.options).eval()
    own = net.net.state_dict()
    if name in behind:
        wanted = "lin" if name == "lpips" else ("alpha", "beta")
        own = {key: value for key, value in own.items() if key.startswith(wanted)}
        torch.save(own, places[0])
    else:
        torch.save({"params": own}, places[0])
    score = iqa.learned_metrics(lambda kind: [tmp_path], torch.device("cpu"))[name].load()
    pictures = [one[:, :256, :256] for one in pair[: 1 + one.reference]]
    torch.manual_seed(1)
    expected = float(net(*(picture[None] for picture in pictures)))
    torch.manual_seed(1)
    assert score(*pictures) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_file_of_another_network_is_refused_by_name(tmp_path):
    pytest.importorskip("pyiqa", reason="needs the extra metrics")
    path = tmp_path / entry("musiq").place
    path.parent.mkdir(parents=True)
    torch.save({"something.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match=r"musiq_koniq_ckpt-e95806b9.pth does not fit pyiqa's musiq \("):
        iqa.learned_metrics(lambda kind: [tmp_path], torch.device("cpu"))["musiq"].load()


def test_the_command_measures_files_and_folders(pair, tmp_path, capsys):
    for folder, picture in (("results", pair[0]), ("truths", pair[1])):
        (tmp_path / folder).mkdir()
        name = "photo_restored.png" if folder == "results" else "photo.png"
        Image.fromarray(to_uint8(picture)).save(tmp_path / folder / name)
    wanted = ["--metrics", "psnr,ssim", "--csv", str(tmp_path / "a.csv"), "--json", str(tmp_path / "a.json")]
    for result, truth in (("results", "truths"), ("results/photo_restored.png", "truths/photo.png")):
        assert main(["measure", str(tmp_path / result), "--truth", str(tmp_path / truth), *wanted]) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith("photo")
        told = json.loads((tmp_path / "a.json").read_text())
        assert told["rows"]["photo"]["psnr"] > 20 and (tmp_path / "a.csv").read_text().startswith(",psnr,ssim\nphoto,")
    assert main(["measure", str(tmp_path / "results"), "--truth", str(tmp_path / "nowhere")]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_the_command_holds_one_pair_at_a_time_and_refuses_two_files_of_one_name(tmp_path, capsys, monkeypatch):
    for folder in ("results", "truths"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            Image.new("RGB", (24, 24), (40 * number, 90, 120)).save(tmp_path / folder / f"{number}.png")
    held: list[weakref.ref] = []
    most = 0

    def read(path):
        nonlocal most
        gc.collect()
        held.append(weakref.ref(picture := read_picture(path)))
        most = max(most, sum(one() is not None for one in held))
        return picture

    monkeypatch.setattr("personal_restore.lib.pictures.files.read_picture", read)
    command = ["measure", str(tmp_path / "results"), "--truth", str(tmp_path / "truths"), "--metrics", "psnr"]
    assert main(command) == 0 and capsys.readouterr().out.count("100") == 5
    assert len(held) == 16 and most <= 4, "the pair, and the pair before"
    Image.new("RGB", (24, 24)).save(tmp_path / "results" / "3_restored.jpg")
    assert main(command) == 1 and "3.png and 3_restored.jpg" in capsys.readouterr().err

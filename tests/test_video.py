"""Videos and bursts: faces followed from frame to frame, one decision per shot, and files that keep what they had."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import torch
from personal_restore.cli.benchmarks import clip as flicker
from personal_restore.cli.main import main
from personal_restore.cli.video.graph import graph_alone, graphs_for_shots
from personal_restore.cli.video.shot import Plan, Shots
from personal_restore.cli.video.source import FolderSource, Frame, VideoSource
from personal_restore.lib.degradation.shot import MeanCode
from personal_restore.lib.faces.detection import Detection
from personal_restore.lib.faces.embed import DlibFace
from personal_restore.lib.faces.match import Match
from personal_restore.lib.faces.track import Sighting, Tracker, identities, lasting, placed
from personal_restore.lib.pictures.cuts import SHORTEST, Cuts
from personal_restore.lib.pictures.mark import is_marked
from personal_restore.lib.samples import PERSON
from personal_restore.lib.standin.host import folders
from personal_restore.lib.vocabulary import DegradationCode, UserError
from personal_restore.tests.bundled import bundled
from PIL import Image

from .test_restore_files import GRAPH, picture

RATE = Fraction(30000, 1001)


class Space:
    """An embedding space of three directions, one per face."""

    name, threshold, alone, sure, proposes = "dlib", DlibFace.threshold, DlibFace.alone, DlibFace.sure, False
    similarity = staticmethod(lambda faces, references: np.clip(faces @ references.T, 0, 1))


def seen(x: float, who: int = 0, y: float = 10.0) -> Sighting:
    """A face of 20 pixels."""
    landmarks = np.array([[x + 6, y + 8], [x + 14, y + 8], [x + 10, y + 12], [x + 7, y + 16], [x + 13, y + 16]])
    return Sighting(Detection((x, y, x + 20, y + 20), landmarks, 0.9), np.eye(3)[who][None])


def tracked(frames) -> list:
    tracker = Tracker(Space())
    for frame in frames:
        tracker.add(frame)
    return tracker.tracks


def test_two_faces_that_cross_keep_their_tracks():
    frames = [[seen(2 * t, 0), seen(40 - 2 * t, 1)][:: -1 if t % 2 else 1] for t in range(20)]
    tracks = tracked(frames)
    assert [track.frames for track in tracks] == [list(range(20))] * 2
    for track, who, direction in zip(tracks, (0, 1), (2, -2), strict=True):
        assert track.looks[0].argmax() == who
        assert all(np.diff([one.box[0] for one in track.detections]) == direction)


def test_a_face_that_is_lost_for_some_frames_is_filled_in_and_one_that_returns_later_is_another():
    tracks = tracked([[seen(t)] if t not in range(5, 9) else [] for t in range(30)])
    assert len(tracks) == 1
    first, detections = placed(tracks[0])
    assert first == 0 and np.allclose([one.box[0] for one in detections], range(30))
    assert len(tracked([[seen(0)] if not 5 <= t < 25 else [] for t in range(40)])) == 2


def test_a_face_elsewhere_is_another_and_one_of_a_single_frame_is_a_false_alarm():
    tracks = tracked([[seen(t), *([seen(200)] if t == 3 else [])] for t in range(10)])
    assert [len(track.frames) for track in tracks] == [10, 1]
    assert lasting(tracks, 10) == tracks[:1] and lasting(tracks, 1) == tracks


def test_smoothed_landmarks_follow_the_motion_and_jump_less():
    rng = np.random.default_rng(0)
    true = [seen(3 * t + 0.05 * t * t) for t in range(40)]
    noisy = [
        Sighting(
            Detection(one.detection.box, one.detection.landmarks + rng.normal(0, 1, (5, 2)), 0.9),
            one.looks,
        )
        for one in true
    ]
    _, detections = placed(tracked([[one] for one in noisy])[0])
    found = np.stack([one.landmarks for one in detections])
    wanted, given = (np.stack([one.detection.landmarks for one in ones]) for ones in (true, noisy))
    rms = [float(np.sqrt(np.square(one - wanted).mean())) for one in (given, found)]
    assert rms[0] == pytest.approx(1, abs=0.1) and rms[1] < 0.6 * rms[0]
    jumps = [np.abs(np.diff(one - wanted, axis=0)).mean() for one in (given, found)]
    assert jumps[1] < 0.4 * jumps[0]


def test_one_decision_per_track_and_nobody_twice_at_the_same_time():
    people = ["Ann", "Bob"]
    tracks = tracked([[seen(0, 0), seen(100, 1), seen(200, 2)] for _ in range(5)])
    found = identities(tracks, np.array([[0.55, 0.2], [0.2, 0.65], [0.65, 0.2]]), people, 0.4, 0.9)
    assert [match.person for match in found] == [None, "Bob", "Ann"]
    later = tracked([[seen(0)]] * 5 + [[]] * 20 + [[seen(0)]] * 5)
    found = identities(later, np.array([[0.7, 0.1], [0.65, 0.1]]), people, 0.5, 0.6)
    assert [match.person for match in found] == ["Ann", "Ann"]
    assert identities([], np.zeros((0, 1)), ["Ann"], 0.5, 0.6) == []
    assert identities(later, np.zeros((2, 0)), [], 0.5, 0.6) == [Match(), Match()]


def test_noise_is_averaged_out_of_the_embedding_of_a_track():
    rng = np.random.default_rng(0)
    true = np.eye(64)[0]
    noisy = [true + rng.normal(0, 0.2, 64) for _ in range(20)]
    units = [one / np.linalg.norm(one) for one in noisy]
    (track,) = tracked([[Sighting(seen(0).detection, unit[None])] for unit in units])
    assert track.looks.shape == (1, 64) and track.looks[0] @ true > 0.9 > 0.7 > max(unit @ true for unit in units)


def test_the_code_of_a_shot_is_the_mean_of_all_faces():
    def code(value: float, side: int) -> DegradationCode:
        return DegradationCode(
            torch.full((1, 8, side, side), value), torch.full((1, 21, 4), value), "s", {"blur_sigma": value}
        )

    mean = MeanCode()
    assert mean.code is None
    first = code(1.0, 9)
    mean.add(DegradationCode(first.map, first.tokens, "s", first.scalars, frames=(first, None, code(2.0, 5))))
    mean.add(code(6.0, 7))
    found = mean.code
    assert found is not None and found.scalars == {"blur_sigma": 3.0} and not found.frames and found.space == "s"
    assert torch.equal(found.tokens, torch.full((1, 21, 4), 3.0)) and torch.equal(
        found.map, torch.full((1, 8, 1, 1), 3.0)
    )


def scene(kind: int, t: int) -> np.ndarray:
    """Frames of 96 x 64 pixels that pan; another color per kind."""
    y, x = np.mgrid[:64, :96]
    wave = 128 + 60 * np.sin((x + 2 * t) / 9 + y / 7)
    return np.stack([wave, 255 - wave, np.full_like(wave, 60)], 2)[..., [[0, 1, 2], [1, 2, 0]][kind]].astype(np.uint8)


def test_a_cut_begins_a_shot_and_a_pan_or_a_flash_does_not():
    frames = [scene(0, t) for t in range(20)] + [scene(1, t) for t in range(20)]
    frames[5] = np.full_like(frames[5], 255)
    assert SHORTEST > 5
    cuts = Cuts()
    assert [t for t, frame in enumerate(frames) if cuts.begins(frame)] == [0, 20]


def video(path: Path, frames, sound: bool = True) -> Path:
    """H.264 with BT.709 colors; there is a pause after the third frame."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "8"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.colorspace = "yuv420p", 1
        heard = file.add_stream("aac", rate=44100, layout="mono") if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p", dst_colorspace=1)
            frame.pts, frame.time_base = number + 4 * (number > 2), 1 / RATE
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if heard:
            wave = np.sin(np.arange(44100) / 16).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(0.3 * wave, format="fltp", layout="mono")
            samples.rate, samples.pts = 44100, 0
            file.mux([*heard.encode(samples), *heard.encode(None)])
    return path


def given(path: Path, *options: str) -> list[str]:
    out = path.parent / "out"
    return ["restore", str(path), "--workflow", str(path.parent / "copy.json"), "--out", str(out), *options]


@pytest.fixture(autouse=True)
def workflow(tmp_path, monkeypatch) -> None:
    """One that gives every frame back."""
    monkeypatch.setattr(folders, "allowed", [])
    (tmp_path / "copy.json").write_text(json.dumps(GRAPH))


def times(source: VideoSource) -> list[Fraction]:
    return [frame.time * source.time_base for frame in source.frames()]


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.dts is not None]


def test_a_video_keeps_its_times_its_sound_and_its_colors(tmp_path):
    frames = [scene(0, t) for t in range(14)] + [scene(1, t) for t in range(5)]
    path = video(tmp_path / "clip.mov", frames)
    assert main(given(path)) == 0
    made = tmp_path / "out" / "clip_restored.mp4"
    before, after = VideoSource(path), VideoSource(made)
    assert times(after) == times(before) and len(times(before)) == 19 and after.colors == before.colors
    assert sound_of(made) == sound_of(path) != []
    for one, other in zip(before.frames(), after.frames(), strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).mean() < 2
    report = json.loads((tmp_path / "out" / "clip_report.json").read_text())
    assert [shot["frames"] for shot in report["shots"]] == [14, 5]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip_report.json", "clip_restored.mp4"]
    assert main(given(path)) == 0 and (tmp_path / "out" / "clip_2_restored.mp4").is_file()


def test_a_run_that_is_stopped_goes_on_after_the_last_shot(tmp_path, monkeypatch, capsys):
    path = video(tmp_path / "clip.mp4", [scene(t // 14 % 2, t) for t in range(3 * 14)], sound=False)
    done: list[int] = []
    real = Shots.restore

    def stopping(self, frames: Iterator[Frame], plan: Plan):
        for number, pair in enumerate(real(self, frames, plan)):
            if len(done) == 20:
                raise KeyboardInterrupt
            done.append(number)
            yield pair

    with monkeypatch.context() as during:
        during.setattr(Shots, "restore", stopping)
        main(given(path))
    out = tmp_path / "out"
    assert not list(out.glob("clip*")) and len(done) == 20
    counted: list[int] = []
    monkeypatch.setattr(
        Shots, "restore", lambda self, frames, plan: (counted.append(plan.count), real(self, frames, plan))[1]
    )
    assert main(given(path)) == 0 and counted == [14, 14]
    assert len(times(VideoSource(out / "clip_restored.mp4"))) == 42 and not list(out.glob(".clip*"))


def test_a_burst_is_a_folder_of_frames_in_the_order_of_their_numbers(tmp_path, capsys):
    (folder := tmp_path / "burst").mkdir()
    for number in (9, 10, 1):
        picture((40 + number, 30)).save(folder / f"f{number}.png")
    assert [file.name for file in FolderSource(folder).files] == ["f1.png", "f9.png", "f10.png"]
    assert main(given(folder, "--clip")) == 0
    made = tmp_path / "out" / "burst_restored"
    assert {file.name: Image.open(file).size for file in made.iterdir()} == {
        f"f{number}.png": (40 + number, 30) for number in (1, 9, 10)
    }
    assert all(map(is_marked, made.iterdir())) and (tmp_path / "out" / "burst_report.json").is_file()
    assert np.array_equal(np.asarray(Image.open(made / "f9.png")), np.asarray(picture((49, 30))))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clip", "--workers", "2"], "--workers is for a folder of photographs"),
        (["--no-tracking"], "--no-tracking is for a video"),
        (["--clip", "--edit", "edit.png"], "--edit edit.png was made of one photograph"),
    ],
)
def test_options_that_do_not_go_together_are_said(tmp_path, options, said, capsys):
    (folder := tmp_path / "burst").mkdir()
    picture().save(folder / "1.png")
    assert main(given(folder, *options)) == 1 and said in capsys.readouterr().err


def test_what_is_no_video_is_said(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert main(given(tmp_path / "a.mp4")) == 1
    assert "a.mp4 cannot be read as a video" in capsys.readouterr().err


def portrait_frames(astronaut, count: int) -> list[np.ndarray]:
    whole = (astronaut[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    small = np.asarray(Image.fromarray(whole[20:270, 90:340]).resize((150, 150), Image.Resampling.BOX))
    rng = np.random.default_rng(0)
    noisy = [small[2:146, t : 144 + t] + rng.normal(0, 9, (144, 144, 3)) for t in range(count)]
    return [frame.clip(0, 255).astype(np.uint8) for frame in noisy]


def test_a_face_is_tracked_known_and_restored_with_one_code_for_the_shot(astronaut, monkeypatch):
    frames = [Frame(torch.from_numpy(one)[None].float() / 255) for one in portrait_frames(astronaut, 3)]
    graphs = graphs_for_shots(bundled("face2scene"))
    shots = Shots(graphs)
    plan = shots.look(iter(frames))
    assert plan.count == 3 and [len(faces) for faces in plan.faces] == [1, 1, 1]
    (track,) = plan.tracks
    assert track["frames"] == 3 and len({match for faces in plan.faces for _, match in faces}) == 1
    assert track["person"] == PERSON
    (code,) = plan.codes.values()
    assert code is not None and 4 < code.scalars["noise_sigma"] < 20
    for frame, result in shots.restore(iter(frames[:1]), Plan(1, plan.faces[:1], plan.codes)):
        assert result.shape == frame.image.shape and not torch.equal(result, frame.image)


def test_the_damage_is_read_off_every_face_and_what_only_finds_faces_is_not_done_again():
    graphs = graphs_for_shots(bundled("face2scene"))

    def inputs(graph: dict, kind: str) -> list[dict]:
        return [node["inputs"] for node in graph.values() if node["class_type"] == kind]

    assert {one.get("which", "every face") for one in inputs(graphs.alone, "PR_RestoreFaces")} == {
        "every face",
        "the largest",
    }
    assert not any("which" in one for one in inputs(graphs.read, "PR_RestoreFaces"))
    assert len(inputs(graphs.alone, "PR_RestoreScene")) == 2 and len(inputs(graphs.finish, "PR_RestoreScene")) == 1


def test_a_workflow_that_cannot_be_tracked_is_refused():
    graph = bundled("face2scene")
    match = next(node for node in graph.values() if node["class_type"] == "PR_MatchFaces")
    match["inputs"]["override"] = "0=nobody"
    with pytest.raises(UserError, match="override and strengths are for one photograph"):
        graphs_for_shots(graph)
    graph |= {"more": next(node for node in graph.values() if node["class_type"] == "PR_DetectFaces")}
    with pytest.raises(UserError, match="several nodes.*--no-tracking"):
        graphs_for_shots(graph)
    assert any(node["class_type"] == "Shot_Take" for node in graph_alone(graph).values())


def test_the_motion_of_the_camera_is_no_flicker_and_noise_is():
    motions = [flicker._motion(number, 60, 128) for number in (10, 11, 12)]
    true, damaged = zip(*(flicker._frames(motion, 128, seed) for seed, motion in enumerate(motions)), strict=True)
    still, noisy = (flicker._changes(list(frames), motions) for frames in (true, damaged))
    assert still["change"] < still["raw"] / 3, "what is left is resampling"
    assert noisy["change"] > 2 * still["change"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    def more(count: int) -> int:
        (folder := tmp_path / f"{count}").mkdir()
        for number in range(count):
            Image.fromarray(np.roll(scene(0, 0), number, 1)).resize((384, 256)).save(folder / f"{number}.png")
        before = psutil.Process().memory_info().rss
        assert main(given(folder, "--clip")) == 0
        return psutil.Process().memory_info().rss - before

    more(20)
    assert more(300) < 100e6 < 300 * 384 * 256 * 3 * 4 / 3, "a third of what the frames would need"

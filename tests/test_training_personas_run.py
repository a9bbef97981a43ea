"""Personas from the command line: the node's own, bit for bit, killed or not, by one process or by several."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from personal_restore.cli.main import main
from personal_restore.lib import samples
from personal_restore.lib.faces import embed
from personal_restore.lib.faces.embed import Classical
from personal_restore.lib.faces.library import load_library
from personal_restore.lib.pictures.files import to_pil
from personal_restore.lib.storage.personas import load_persona
from personal_restore.lib.vocabulary import Conditions, Persona, UserError
from personal_restore.models.embedded import ready as embedded
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.nodes.personas import LoadPersona, TrainPersona
from personal_restore.tests.tiny_base import BASE, small_base
from personal_restore.training.personas import run as stage
from personal_restore.training.personas.methods import METHODS, Settings
from personal_restore.training.personas.prior import prior
from personal_restore.training.personas.trainer import train_task
from PIL import Image

QUICK = {"steps": 3, "rank": 2, "damage": "mild"}
ROOT = Path(__file__).resolve().parent.parent
# The command line on the small base of the tests, in a process of its own; every process keeps what it has learnt.
SCRIPT = f"""
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("run", {str(ROOT / "run.py")!r})
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)
run.load_package()
from personal_restore.cli.main import main
from personal_restore.lib.storage.personas import save_persona
from personal_restore.models.embedded import ready as embedded
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.tests.tiny_base import BASE, small_base
from personal_restore.training.personas import run as persona, trainer

def make(*given, **more):
    made = original(*given, **more)
    save_persona(made, more.get("folder", given[6] if len(given) > 6 else None), "process " + os.environ.get("RANK", "0"))
    return made

original, persona.make_persona = persona.make_persona, make
net = small_base()
embedded.diffusion = lambda keep: DiffusionRestorer(lambda: net, BASE, 32, denoise=0.2, steps=2)
trainer.SAVE_EVERY = 5
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def albums(tmp_path_factory) -> Path:
    """A folder with two people; among the pictures of the first one is a wall."""
    folder = tmp_path_factory.mktemp("albums")
    for name, pictures in zip(("Eileen", "Nobody"), samples.group_albums().values(), strict=True):
        (folder / name).mkdir()
        for number, picture in enumerate(pictures[:3]):
            to_pil(picture).save(folder / name / f"{number}.png")
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(folder / "Eileen" / "wall.png")
    return folder


@pytest.fixture(scope="module")
def restorer() -> DiffusionRestorer:
    net = small_base()
    return DiffusionRestorer(lambda: net, BASE, 32, denoise=0.2, steps=2)


@pytest.fixture(scope="module")
def found():
    """`load_library`, which looks for the faces of a folder once."""
    return functools.cache(load_library)


@pytest.fixture
def command(tmp_path, albums, restorer, found, monkeypatch):
    """command(settings, ...) teaches the small base Eileen and gives main's return code; the models are in tmp_path."""
    monkeypatch.setattr(stage, "load_library", found)
    embedder = Classical()
    monkeypatch.setattr(embed, "best_embedder", lambda models: embedder)
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    monkeypatch.setattr(embedded, "diffusion", lambda keep: restorer)

    def run(settings: dict, *more: str) -> int:
        (tmp_path / "config.json").write_text(json.dumps(QUICK | settings))
        return main(
            ["persona", "--photos", str(albums / "Eileen"), "--config", str(tmp_path / "config.json"), *map(str, more)]
        )

    return run


def same(one: Persona, other: Persona) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in one.tensors.items()
    )


@pytest.mark.parametrize(
    ("method", "more"),
    [("dual_pivot", {"in_context": True, "prior_weight": 0.5, "noun": "woman", "seed": 3}), ("adapter", {})],
)
def test_it_is_the_persona_of_the_node_and_load_persona_finds_it(
    command, found, tmp_path, albums, restorer, method, more
):
    assert command(more, "--method", method, "--others", albums / "Nobody") == 0
    made = LoadPersona.execute("Eileen").args[0]
    library = found(albums, embed.best_embedder(tmp_path))
    library = replace(library, people=tuple(replace(one, noun=more.get("noun", "person")) for one in library.people))
    settings = {name: value for name, value in (QUICK | more).items() if name not in ("steps", "seed", "noun")}
    with torch.inference_mode():
        node = TrainPersona.execute(
            restorer, "Eileen", method, 3, more.get("seed", 0), library, **settings, preview_every=0
        ).args[0]
    assert same(made, node)
    assert replace(made, tensors={}) == replace(node, tensors={})


def test_every_stage_leaves_a_curve_and_what_it_will_take_is_said_before(command, tmp_path, caplog):
    with caplog.at_level("INFO"):
        assert command({"steps": 4}, "--name", "Eileen C", "--out", tmp_path / "mine") == 0
    said = "\n".join(caplog.messages)
    assert "wall.png, no face was found" in said and "Eileen C: 3 pictures, about" in said and "of memory" in said
    assert load_persona(tmp_path / "mine", "Eileen C").provenance["person"] == "Eileen C"
    folder = tmp_path / "mine" / "training" / "Eileen C"
    for name in ("textual_pivot", "model_pivot"):
        lines = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4] and all(line["noise"] > 0 for line in lines)
        assert Image.open(folder / name / "curve.png").size == (840, 480)
    assert not list(folder.glob("*.safetensors")), "nothing unfinished is left"


def test_stopped_it_keeps_what_was_learnt_and_goes_on_to_the_same_persona(command, tmp_path, monkeypatch):
    command({}, "--name", "whole")
    note = stage.Journal.note

    def stops(self, step, terms):
        note(self, step, terms)
        if self.folder.name == "model_pivot" and step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.Journal, "note", stops)
        assert command({}) == 130
    folder = tmp_path / "personas"
    assert load_persona(folder, "Eileen unfinished").provenance["steps"] == "5 of 6"
    seen = []
    monkeypatch.setattr(stage.Journal, "note", lambda self, step, terms: seen.append(step) or note(self, step, terms))
    command({})
    assert seen == [3]
    assert same(load_persona(folder, "Eileen"), load_persona(folder, "whole"))
    assert not list(folder.glob("*unfinished*"))
    lines = (folder / "training" / "Eileen" / "model_pivot" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_what_cannot_be_learnt_from_is_said(command, tmp_path, albums, capsys):
    (tmp_path / "walls").mkdir()
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(tmp_path / "walls" / "wall.png")
    for more, words in (
        (("--photos", tmp_path / "walls"), "walls: no picture in the folder has a usable face"),
        (("--photos", albums), "contains Eileen, Nobody"),
        (("--others", tmp_path / "walls"), "--others"),
        (("--control", "x.pth"), "Provide one with --base"),
        (("--stablesr", "x.ckpt", "--prediction", "noise", "--base", "x"), "has its own control"),
        (("--method", "magic", "--photos", tmp_path / "nowhere"), "no method 'magic'"),
        (("--name", "../up"), "cannot be the name of a persona"),
        (("--base", tmp_path / "absent.safetensors"), "absent.safetensors: the file does not exist"),
    ):
        assert command({}, *more) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", '{"stops": 3}', '{"steps": 0}', '{"steps": "x"}', '{"damage": "none"}', '{"rank": -1}'),
        *('{"batch": 2.5}', '{"learning_rate": "1e-4"}', '{"gate": "x"}', '{"seed": null}', '{"low_memory": 1}'),
    ],
)
def test_what_is_no_configuration_is_a_clear_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json is not a training configuration"):
        stage.read_config(stage.SMALL, tmp_path / "config.json")


def test_class_pictures_are_faces_of_a_folder(albums, caplog):
    settings, embedder = Settings("textual_pivot", prior_weight=1.0), Classical()
    gather = functools.partial(stage.gather, albums / "Eileen", embedder=embedder)
    assert gather(None, albums / "Nobody", settings)[1].class_pictures.shape == (3, 3, 512, 512)
    caplog.clear()
    gather(albums / "Nobody", albums / "Nobody", replace(settings, prior_weight=0.0))
    assert [line.split()[0] for line in caplog.messages if "has no effect" in line] == ["--others", "--class-pictures"]


def test_without_a_folder_the_base_makes_the_class_pictures_once(restorer, tmp_path):
    first = prior(restorer, "person", tmp_path / "new", Conditions())
    assert first.shape == (8, 3, 32, 32) and first.std() > 0.01
    broken = replace(restorer, load=None)  # what is kept needs no network
    assert torch.equal(prior(broken, "person", tmp_path / "new", Conditions()), first)
    assert not torch.equal(prior(restorer, "word", tmp_path / "new", Conditions()), first)


@pytest.mark.slow
def test_killed_it_goes_on_to_the_persona_of_an_uninterrupted_training(command, tmp_path, albums):
    command({"steps": 30}, "--method", "album", "--name", "whole")
    arguments = ["persona", "--photos", str(albums / "Eileen"), "--config", str(tmp_path / "config.json"),
                 "--method", "album", "--out", str(tmp_path / "killed")]  # fmt: skip
    log = tmp_path / "killed" / "training" / "Eileen" / "album" / "log.jsonl"
    victim = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stderr=subprocess.DEVNULL)
    while not (log.is_file() and len(log.read_text().splitlines()) >= 12):
        assert victim.poll() is None
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not list((tmp_path / "killed").glob("*.safetensors"))
    again = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert "resuming at step" in again.stderr
    assert same(load_persona(tmp_path / "killed", "Eileen"), load_persona(tmp_path / "personas", "whole"))
    whole = tmp_path / "personas" / "training" / "whole" / "album" / "log.jsonl"
    assert len(lines := log.read_text().splitlines()) == 30
    for line, other in zip(lines, whole.read_text().splitlines(), strict=True):
        assert json.loads(line) == pytest.approx(json.loads(other))


@pytest.mark.slow
def test_two_processes_learn_from_batches_of_their_own_and_hold_the_same_weights(tmp_path, albums, restorer):
    settings = Settings("album", 40, rank=2, damage="mild", prior_weight=0.0)
    (tmp_path / "config.json").write_text(json.dumps({"steps": 40, "rank": 2, "damage": "mild"}))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(tmp_path / "script.py"), "persona",
         "--photos", str(albums / "Eileen"), "--config", str(tmp_path / "config.json"), "--method", "album",
         "--out", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("album persona of Eileen") == 1
    folder = tmp_path / "out" / "training" / "Eileen"
    made = load_persona(tmp_path / "out", "Eileen")
    assert all(same(load_persona(folder, f"process {number}"), made) for number in (0, 1))
    assert made.provenance["processes"] == 2
    # One process on the batches of both.
    _, material = stage.gather(albums / "Eileen", None, None, restorer, settings, embed.best_embedder())
    task = METHODS["album"][0](deepcopy(restorer.load()), material, settings)
    weight, loss = task.losses["noise"]
    both = replace(
        task,
        batch=lambda step: [task.batch(2 * step), task.batch(2 * step + 1)],
        losses={"noise": (weight, lambda batches: sum(map(loss, batches)) / 2)},
    )
    seen = []
    train_task(both, settings.steps, lambda step, steps, losses: seen.append(losses["noise"]))
    for name, value in both.learnt().items():
        torch.testing.assert_close(made.tensors[name], value, rtol=1e-3, atol=1e-4)
    running = json.loads((folder / "album" / "log.jsonl").read_text().splitlines()[-1])["noise"]
    smooth = seen[0]
    for value in seen:
        smooth = 0.98 * smooth + 0.02 * value
    assert running == pytest.approx(smooth, rel=1e-3)
    assert np.mean(seen[-10:]) < np.mean(seen[:10])

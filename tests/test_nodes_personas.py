"""The nodes of personas, from training to a face that wears one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.diffusion.noise_schedule import linear_schedule, stable_diffusion_schedule
from personal_restore.lib.standin import host
from personal_restore.lib.storage.whole import exclusive
from personal_restore.lib.vocabulary import (
    Abilities,
    Face,
    Faces,
    Library,
    Person,
    Reference,
    Similarity,
    UserError,
    abilities,
)
from personal_restore.models.faceme.restorer import FaceMeRestorer
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.nodes import personas as nodes
from personal_restore.nodes.generation import GenerativeAlbum, NoiseToSigmas
from personal_restore.nodes.personas import ApplyPersona, LoadPersona, SavePersona, TrainPersona
from personal_restore.nodes.restore import EmbeddedRestorer, ReferenceDetail, RestoreFaces
from personal_restore.tests.tiny_base import BASE, small_base
from personal_restore.training.personas.methods import METHODS

LINEAR, LATENT = linear_schedule(), stable_diffusion_schedule()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    return tmp_path / "personas"


@pytest.fixture(scope="module")
def restorer() -> DiffusionRestorer:
    net = small_base()
    return DiffusionRestorer(lambda: net, BASE, 32, denoise=0.2, steps=2)


def reference(crop: torch.Tensor) -> Reference:
    return Reference("a.png", crop, torch.zeros(5, 2, dtype=torch.float64).numpy())


@pytest.fixture
def library(astronaut) -> Library:
    crops = [astronaut[0, :, y : y + 128, 160:288] for y in (40, 50, 60)]
    eileen = Person("Eileen", tuple(map(reference, crops)), "woman")
    return Library((eileen, Person("Neil", (reference(crops[0].flip(-1)),))))


def trained(restorer, library, method="album", person="Eileen", **more):
    with torch.inference_mode():  # as ComfyUI executes every node
        return TrainPersona.execute(restorer, person, method, 2, 0, library, rank=2, **more).args


@pytest.fixture
def face(astronaut) -> Face:
    matrix = torch.tensor([[1.0, 0, -160], [0, 1, -40]], dtype=torch.float64).numpy()
    crop = astronaut[0, :, 40:168, 160:288]
    points = torch.zeros(5, 2, dtype=torch.float64).numpy()
    return Face((160, 40, 288, 168), points, 1.0, Similarity(matrix, 128), crop, torch.ones(1, 128, 128))


def test_a_persona_goes_from_training_through_a_file_into_the_face_restorer(folder, restorer, library, astronaut, face):
    persona, report = trained(restorer, library, "dual_pivot")
    assert "Eileen" in report and "a photo of a sks woman" in report and "contains no photograph" in report
    assert "Saved E.safetensors" in SavePersona.execute(persona, "E", False).args[0]
    loaded = LoadPersona.execute("E").args[0]
    known = Faces(((replace(face, person="Eileen"), replace(face, person="Neil")),), astronaut.shape[-2:])
    image = astronaut.movedim(1, -1)
    outs = {}
    for name, worn in {
        "plain": restorer,
        "off": ApplyPersona.execute(restorer, loaded, 0.0, "").args[0],
        "all": ApplyPersona.execute(restorer, loaded, 1.0, "").args[0],
        "one": ApplyPersona.execute(restorer, loaded, 1.0, " Eileen ").args[0],
    }.items():
        faces = RestoreFaces.execute(image, known, worn, 1.0, 0).args[0]
        outs[name] = [one.restored for one in faces.frames[0]]
    same = {name: [torch.equal(a, b) for a, b in zip(outs[name], outs["plain"], strict=True)] for name in outs}
    assert same == {"plain": [True, True], "off": [True, True], "all": [False, False], "one": [False, True]}


def test_two_personas_in_a_row_serve_two_people(folder, restorer, library, astronaut, face):
    eileen, neil = (trained(restorer, library, person=name)[0] for name in ("Eileen", "Neil"))
    first = ApplyPersona.execute(restorer, eileen, 1.0, "Eileen").args[0]
    both = ApplyPersona.execute(first, neil, 1.0, "Neil").args[0]
    image = astronaut.movedim(1, -1)

    def restored(worn, person):
        faces = Faces(((replace(face, person=person),),), astronaut.shape[-2:])
        return RestoreFaces.execute(image, faces, worn, 1.0, 0).args[0].frames[0][0].restored

    assert torch.equal(restored(both, "Eileen"), restored(first, "Eileen"))
    assert torch.equal(restored(both, None), restored(restorer, None))
    assert not torch.equal(restored(both, "Neil"), restored(restorer, "Neil"))


def test_cancel_keeps_what_was_learnt_and_the_next_run_goes_on(folder, restorer, library):
    class Cancelled(BaseException):
        """What ComfyUI raises is no Exception of ours."""

    def cancel(done, total):
        if done == 1:
            raise Cancelled

    with host.reporting(cancel), pytest.raises(Cancelled):
        trained(restorer, library)
    left = LoadPersona.execute("Eileen unfinished").args[0]
    assert left.provenance["steps"] == "1 of 2"
    seen = []
    with host.reporting(lambda done, total: seen.append(done)):
        resumed = trained(restorer, library)[0]
    assert seen == [0, 2], "the first picture, then on from where it was"
    assert not list(folder.glob("*unfinished*")), "nothing of a person remains beside what was finished"
    whole = trained(restorer, library)[0]
    assert all(torch.equal(resumed.tensors[name], value) for name, value in whole.tensors.items())


def test_every_so_many_steps_the_face_as_it_is_restored_by_now_is_shown(folder, restorer, library, monkeypatch):
    """The preview does not change what is learnt, and none is made where none is wanted."""
    shown = []
    monkeypatch.setattr(nodes, "progress", lambda: lambda done, total, preview=None: shown.append((done, preview)))
    for method in ("dual_pivot", "adapter"):
        shown.clear()
        watched = trained(restorer, library, method, preview_every=2)[0]
        sheets = {done: picture for done, picture in shown if picture is not None}
        total = 2 * len(METHODS[method])
        assert sorted(sheets) == list(range(0, total + 1, 2))
        assert [done for done, picture in shown if picture is None] == list(range(1, total + 1))
        before, after = (np.asarray(sheets[done]) for done in (2, total))
        face = slice(192, 384)  # the middle of three pictures
        assert sheets[total].size == (3 * 192, 192 + 72 + 20)
        assert method == "adapter" or not np.array_equal(before[:192, face], after[:192, face])
        assert np.array_equal(before[:192, :192], after[:192, :192]), "the damaged face stays the same"
        shown.clear()
        alone = trained(restorer, library, method, preview_every=0)[0]
        assert all(picture is None for _, picture in shown)
        assert all(torch.equal(alone.tensors[name], value) for name, value in watched.tensors.items())


def test_what_it_will_take_is_said_before_it_starts(folder, restorer, library, caplog):
    with caplog.at_level("INFO"):
        trained(restorer, library, "dual_pivot")
    said = [line for line in caplog.messages if "of memory" in line]
    assert len(said) == 1 and caplog.messages.index(said[0]) < next(
        place for place, line in enumerate(caplog.messages) if line.startswith("Train Persona 1/4")
    )


def test_the_switches_reach_the_training(folder, restorer, library):
    settings = trained(restorer, library, low_memory=True, damage="mild")[0].provenance["settings"]
    assert settings["low_memory"] is True and settings["damage"] == "mild"


def test_photographs_leave_with_the_persona_only_when_asked(folder, restorer, library):
    persona = trained(restorer, library, "adapter", keep_photographs=True)[0]
    assert "CONTAINS 3" in SavePersona.execute(persona, "with", True).args[0]
    assert "contains no photograph" in SavePersona.execute(persona, "without", False).args[0]
    assert "reference" not in LoadPersona.execute("without").args[0].tensors
    assert "reference" not in trained(restorer, library, "adapter")[0].tensors


def test_the_prior_and_pictures_in_the_graph(folder, restorer, library, astronaut):
    images = astronaut[..., 40:104, 180:244].movedim(1, -1)
    persona = TrainPersona.execute(restorer, "", "textual_pivot", 1, 0, images=images, prior_weight=1.0, rank=2).args[0]
    assert persona.provenance["person"] == "images" and "textual_pivot.prior" in persona.provenance["losses"]


def test_other_people_serve_the_model_pivot(folder, restorer, library):
    on_others, on_own = (trained(restorer, library, "model_pivot", others=others)[0] for others in (True, False))
    name = next(name for name in on_own.tensors if name.endswith("lora_B.weight") and on_own.tensors[name].any())
    assert not torch.equal(on_others.tensors[name], on_own.tensors[name])


def test_one_damaged_face_gives_an_album_that_can_be_learnt(folder, restorer, astronaut):
    image = astronaut[..., 40:72, 180:212].movedim(1, -1)
    with torch.inference_mode():
        images = GenerativeAlbum.execute(replace(restorer, control=0.0), image, 3, 0.3, 20, 5).args[0]
    assert images.shape == (3, 32, 32, 3) and not torch.equal(images[0], images[1])
    again = GenerativeAlbum.execute(replace(restorer, control=0.0), image, 1, 0.3, 20, 6).args[0]
    assert torch.equal(again[0], images[1])
    large = astronaut[..., 40:104, 180:244].movedim(1, -1)
    album = GenerativeAlbum.execute(replace(restorer, control=0.0), large, 1, 0.3, 20, 6).args[0]
    assert album.shape == (1, 32, 32, 3), "in the size of the restorer"
    persona = TrainPersona.execute(restorer, "Somebody", "album", 1, 0, images=images, rank=2).args[0]
    assert persona.provenance["person"] == "Somebody" and persona.provenance["pictures"] == 3
    with pytest.raises(UserError, match="cannot generate"):
        GenerativeAlbum.execute(ReferenceDetail.execute(0.8).args[0], image, 1, 0.3, 20, 0)


def test_who_cannot_generate_or_be_taught_says_so_beforehand(folder, restorer, library, astronaut):
    """Both have what only looked like the ability: a persona hides the restorer's settings, FaceMe has settings of its own."""
    persona = trained(restorer, library)[0]
    worn = ApplyPersona.execute(restorer, persona, 1.0, "").args[0]
    faceme = FaceMeRestorer(lambda: None, lambda crop: np.zeros(512))
    image = astronaut[..., 40:72, 180:212].movedim(1, -1)
    for one in (worn, faceme):
        assert not abilities(one).generates and not abilities(one).teachable
        with pytest.raises(UserError, match="cannot generate.*without Apply Persona"):
            GenerativeAlbum.execute(one, image, 1, 0.3, 20, 0)
        with pytest.raises(UserError, match="cannot be trained"):
            trained(one, library)
    assert abilities(worn).base == abilities(restorer).base == BASE and abilities(restorer).generates
    assert abilities(ReferenceDetail.execute(0.8).args[0]) == Abilities(takes_references=True)
    with pytest.raises(UserError, match="'FaceMe' cannot use a persona"):
        ApplyPersona.execute(faceme, persona, 1.0, "")


def test_sigmas_for_stable_diffusion_start_at_the_same_ratio_and_end_at_none():
    """Test 26: 200, 300 and 600 steps of the linear schedule are 260, 419 and 840 of Stable Diffusion's."""
    for denoise, first in ((0.2, 0.719), (0.3, 1.234), (0.6, 6.135)):
        sigmas = NoiseToSigmas.execute(denoise, 50).args[0]
        assert sigmas.shape == (51,) and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
        assert float(sigmas[0]) == pytest.approx(first, rel=0.01)
    assert len(NoiseToSigmas.execute(0.001, 1000).args[0]) == LATENT.steps_as_noisy_as(LINEAR, 1) + 1


def test_what_cannot_be_meant_is_said(folder, restorer, library):
    with pytest.raises(UserError, match="contains: Eileen, Neil"):
        trained(restorer, library, person="Buzz")
    with pytest.raises(UserError, match="connect images"):
        TrainPersona.execute(restorer, "", "album", 1, 0)
    embedded = EmbeddedRestorer.execute().args[0]
    with pytest.raises(UserError, match="cannot be trained"):
        trained(embedded, library)
    persona = trained(restorer, library)[0]
    with pytest.raises(UserError, match="cannot use a persona"):
        ApplyPersona.execute(embedded, persona, 1.0, "")


def test_the_methods_on_the_node_are_those_there_are():
    assert list(nodes.METHODS) == list(METHODS)


def test_a_second_training_in_the_same_folder_is_told_at_once(folder, restorer, library):
    with exclusive(folder / "training"), pytest.raises(UserError, match="another training is running"):
        trained(restorer, library)
    trained(restorer, library)

"""The bench of personas: who is learnt from what, and what is compared with what."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from personal_restore.cli.benchmarks import persona_shapes, personas
from personal_restore.lib.vocabulary import Library, Person, Reference, UserError
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.tests.tiny_base import BASE, small_base


class Colours:
    """Stands in for dlib's network, which takes a second per face."""

    def embed(self, crop: torch.Tensor) -> np.ndarray:
        mean = crop.mean((1, 2)).numpy()
        return mean / np.linalg.norm(mean)


@pytest.fixture
def people(astronaut, monkeypatch) -> Library:
    def person(name: str, corner: int) -> Person:
        crops = [astronaut[0, :, y : y + 128, corner : corner + 128] for y in (40, 60, 80)]
        return Person(name, tuple(Reference(f"{i}.png", c, np.zeros((5, 2))) for i, c in enumerate(crops)))

    library = Library((person("a", 160), person("b", 260)))
    net = small_base()
    base = DiffusionRestorer(lambda: net, BASE, 32, denoise=0.1, steps=2)
    monkeypatch.setattr(personas, "by_name", lambda name: Colours())
    monkeypatch.setattr(personas, "load_library", lambda photos, embedder: library)
    monkeypatch.setattr(personas.embedded, "diffusion", lambda keep: base)
    return library


def test_the_held_back_photograph_is_never_learnt_and_everybody_is_compared(people, tmp_path, monkeypatch):
    learnt = []
    make = personas.make_persona

    def spy(net, base, material, settings, name):
        learnt.append((name, len(material.pictures)))
        return make(net, base, material, settings, name)

    monkeypatch.setattr(personas, "make_persona", spy)
    figures = personas.bench(tmp_path, ["album"], 1, 1, tmp_path / "out")
    assert learnt == [("a", 2), ("b", 2)] and figures["people"] == {"a": 2, "b": 2}
    assert list(figures["rows"]) == ["damaged", "one step", "no persona", "album, own", "album, other's"]
    assert figures["rows"]["album, own"] != figures["rows"]["no persona"]
    assert all(score["distance"] >= 0 for row in figures["rows"].values() for score in row.values())
    assert "of 2 people" in personas.table(figures)
    assert (tmp_path / "out" / "personas.png").is_file() and (tmp_path / "out" / "personas.json").is_file()


def test_one_person_or_an_unknown_method_is_a_clear_error(people, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no method magic"):
        personas.bench(tmp_path, ["magic"], 1, 1, tmp_path)
    monkeypatch.setattr(personas, "load_library", lambda photos, embedder: Library(people.people[:1]))
    with pytest.raises(UserError, match="two people"):
        personas.bench(tmp_path, ["album"], 1, 1, tmp_path)


@pytest.mark.slow
def test_the_shapes_go_on_where_time_was_up_and_are_plotted(people, tmp_path, monkeypatch):
    monkeypatch.setattr(persona_shapes, "NOISE", (0, 100))
    monkeypatch.setattr(persona_shapes, "EVERY", (0, 50))
    monkeypatch.setattr(persona_shapes, "STRIDES", 3)
    out = tmp_path / "out"
    nothing = persona_shapes.bench(tmp_path, 1, 0.0, out)
    assert not nothing["complete"] and not any(
        values for shape in nothing["shapes"].values() for values in shape.values()
    )
    trained = []
    make = persona_shapes.make_persona
    monkeypatch.setattr(
        persona_shapes, "make_persona", lambda *given, **more: trained.append(given[3]) or make(*given, **more)
    )
    figures = persona_shapes.bench(tmp_path, 1, 60.0, out)
    assert figures["complete"] and figures["about"]["people"] == {"a": 2, "b": 2}
    assert {name: len(shape["a"]) for name, shape in figures["shapes"].items()} == {
        "noise": 4, "guidance": 2, "pivots": 4, "gates": 5,
    }  # fmt: skip
    noise, gates = figures["shapes"]["noise"]["a"], figures["shapes"]["gates"]["a"]
    assert noise["base 0"] == noise["album 0"] and noise["base 100"] != noise["album 100"]
    assert gates["ViCo (gamma 1)"]["gamma"] == 1 and 0 < gates["learnt gamma"]["gamma"] < 0.1
    assert sum(settings.method == "adapter" for settings in trained) == 8 and len(trained) == 2 * 8
    for name in figures["shapes"]:
        assert (out / f"shape_{name}.png").is_file()
    assert "Not complete" not in persona_shapes.table(figures) and "Not complete" in persona_shapes.table(nothing)
    trained.clear()
    file = out / "shapes.json"
    known = json.loads(file.read_text())
    del known["shapes"]["pivots"]["b"]["A"], known["shapes"]["gates"]["b"]["learnt gamma"]
    file.write_text(json.dumps(known))
    assert persona_shapes.bench(tmp_path, 1, 60.0, out) == figures
    assert not trained, "what was learnt is kept, too"
    assert persona_shapes.bench(tmp_path, 2, 0.0, out)["shapes"] != figures["shapes"], "other steps are another run"

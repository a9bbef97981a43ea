"""What a person who waits for a graph is told."""

from __future__ import annotations

import io
import sys

from personal_restore.cli.photograph import summary_line
from personal_restore.cli.progress import GraphProgress


def told(progress: GraphProgress) -> None:
    with progress:
        progress.node("Detect Faces", 0, 2)
        progress.step(1, 2)
        progress.node("Restore Faces", 1, 2)


def test_where_nobody_watches_every_node_gets_a_line(capsys):
    told(GraphProgress())
    assert capsys.readouterr() == ("[1/2] Detect Faces\n[2/2] Restore Faces\n", "")


def test_in_a_terminal_one_bar_moves_and_is_gone_at_the_end(monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = GraphProgress()
    progress._bar.mininterval = 0
    told(progress)
    frames = terminal.getvalue().split("\r")
    assert any("Detect Faces" in one and "25%" in one for one in frames) and any("50%" in one for one in frames)
    assert "\n" not in terminal.getvalue() and not frames[-1].strip() and capsys.readouterr().out == ""


def test_the_last_line_says_who_was_recognized_how_much_the_album_gave_and_what_is_doubtful():
    faces = [
        {"person": "Ada", "album": {"a.jpg": 0.25, "b.jpg": 0.061}, "doubt": ""},
        {"person": "Bo", "album": {}, "doubt": "not sure: check"},
        {"person": "Cy"},
        {"person": None, "album": None},
    ]
    line = summary_line({"faces": faces, "damage": {"words": "noise"}})
    people = "Ada (31% of the face from the album), Bo (0% of the face from the album, not sure: check), Cy"
    assert line == f"faces: {people}, 1 not recognized; damage: noise"


def test_the_last_line_says_who_an_unrecognized_face_may_be_and_how_to_say_so():
    doubt = "perhaps Bo (0.44), but 0.50 is needed: say who it is"
    faces = [{"person": "Ada"}, {"person": None, "doubt": doubt}, {"person": None, "doubt": ""}]
    hint = 'name faces with --set "PR_MatchFaces.override=NUMBER=NAME, ..."'
    assert summary_line({"faces": faces}) == f"faces: Ada, 2 not recognized (face 1: {doubt}; {hint})"

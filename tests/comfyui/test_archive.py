"""A folder through a real ComfyUI server: what this machine makes without it, byte for byte."""

from __future__ import annotations

import shutil
import threading
import time

import pytest
from personal_restore.lib.samples import photograph
from personal_restore.nodes.layout import to_image
from PIL import Image

from ..test_archive import given, graph, lines, made, restored, tree  # noqa: F401

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]
pytest.importorskip("requests", reason="requests is not installed: pip install requests")


def test_a_server_makes_what_this_machine_makes(comfyui, tmp_path, restored, capsys):  # noqa: F811
    folder = made(tmp_path / "photos", ["a.jpg", "1931/ü <&>.png", "1931/b.jpg"])
    portrait = (to_image(photograph())[0].numpy() * 255).astype("uint8")
    Image.fromarray(portrait).save(folder / "1931" / "portrait.jpg")
    (folder / "bad.png").write_text("no picture")
    made(tmp_path / "album", ["Ann ü/1.png"])
    options = "--album", str(tmp_path / "album")
    assert restored(folder, *options)[0] == 1
    expected = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "here")
    dead = "http://127.0.0.1:9"
    assert restored(folder, *options, "--servers", f"{dead},127.0.0.1:{comfyui.port}")[0] == 1
    assert f"{dead} does not answer" in capsys.readouterr().out
    assert tree(tmp_path / "out") == expected
    assert (comfyui.base / "input" / "personal_restore").is_dir() and not list((comfyui.base / "output").iterdir())


def test_two_servers_share_the_work_and_one_that_is_killed_loses_nothing(comfyui, mortal_comfyui, tmp_path, restored):  # noqa: F811
    folder = made(tmp_path / "photos", [f"{number % 3}/{number}.jpg" for number in range(24)])
    (folder / "bad.png").write_text("no picture")
    assert restored(folder)[0] == 1
    expected, out = tree(tmp_path / "out"), tmp_path / "out"
    out.rename(tmp_path / "here")
    mortal, process = mortal_comfyui
    both = "--servers", f"127.0.0.1:{comfyui.port},127.0.0.1:{mortal.port}"
    before = [len(server.get("/history")) for server in (comfyui, mortal)]
    assert restored(folder, *both)[0] == 1 and tree(out) == expected
    shares = [len(server.get("/history")) - done for server, done in zip((comfyui, mortal), before, strict=True)]
    assert sum(shares) == 24 and min(shares) > 4

    def kill() -> None:
        while len(list(out.rglob("previews/*/*.jpg"))) < 6:
            time.sleep(0.01)
        process.kill()

    shutil.rmtree(out)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert restored(folder, *both)[0] == 1 and tree(out) == expected
    killer.join(0)
    assert process.wait(10) == -9 and len(comfyui.get("/history")) - before[0] - shares[0] > 12


def test_what_a_node_raises_there_is_the_reason_here(comfyui, tmp_path, restored):  # noqa: F811
    folder = made(tmp_path / "photos", ["a.jpg"])
    assert restored(folder, "--servers", f"127.0.0.1:{comfyui.port}", "--set", '2.images=["1", 1]')[0] == 1
    (failure,) = lines(tmp_path / "out" / "failed.jsonl")
    assert failure["reason"].startswith("ComfyUI refuses the workflow. ")

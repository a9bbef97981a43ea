"""A folder restored by ComfyUI servers: spread over them, and nothing lost when one dies. tests/comfyui/test_archive.py has real ones."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from personal_restore.cli.main import main

from .test_archive import NAMES, given, graph, lines, made, photos_folder, restored, tree  # noqa: F401

pytest.importorskip("requests", reason="requests is not installed: pip install requests")


PNGS = "a.png", "1/b.png", "1/2/c.png", "1/2/d.png"


class Stub(ThreadingHTTPServer):
    """Answers like ComfyUI to a graph that gives its photograph back. ``dies`` after that many prompts, with the last unanswered."""

    daemon_threads = True

    def __init__(self, dies: int | None = None, hangs: bool = False, refuses: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.dies, self.hangs, self.refuses = dies, hangs, refuses
        self.files: dict[str, bytes] = {}
        self.prompts: dict[str, dict] = {}
        self.stopped: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def is_dead(self) -> bool:
        return self.dies is not None and len(self.prompts) >= self.dies

    def handle_error(self, *given) -> None:
        """Nothing is printed."""


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, *given) -> None:
        """Nothing is printed."""

    def answer(self, value, code: int = 200) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        server, url = self.server, urlsplit(self.path)
        if server.is_dead:
            return self.connection.close()
        prompt = url.path.rsplit("/", 1)[-1]
        if url.path == "/view":
            return self.answer(server.files[parse_qs(url.query)["filename"][0]])
        if url.path == "/queue":
            return self.answer({"queue_running": [[0, one] for one in server.prompts] if server.hangs else []})
        if not url.path.startswith("/history/") or server.hangs:
            return self.answer({})
        name = server.prompts[prompt]["photograph"]["inputs"]["image"]
        file = {"filename": name, "subfolder": "", "type": "temp"}
        outputs = {"2": {"images": [file]}, "3": {"a_images": [file]}}
        return self.answer({prompt: {"status": {"status_str": "success", "messages": []}, "outputs": outputs}})

    def do_POST(self) -> None:
        server, content = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            parts = content.split(b"--" + self.headers["Content-Type"].split("boundary=")[1].encode())
            fields = {}
            for part in parts[1:-1]:
                head, body = part[2:-2].split(b"\r\n\r\n", 1)
                fields[head.split(b'name="')[1].split(b'"')[0].decode()] = (head, body)
            name = fields["image"][0].split(b'filename="')[1].split(b'"')[0].decode()
            folder = fields["subfolder"][1].decode()
            server.files[f"{folder}/{name}"] = fields["image"][1]
            return self.answer({"name": name, "subfolder": folder, "type": "input"})
        asked = json.loads(content)
        if self.path == "/prompt" and server.refuses:
            fault = {"message": server.refuses, "details": "x"}
            return self.answer({"error": "no", "node_errors": {"1": {"class_type": "K", "errors": [fault]}}}, 400)
        if self.path == "/prompt":
            assert asked["prompt"]["2"]["class_type"] == "PreviewImage"
            server.prompts[prompt := str(len(server.prompts))] = asked["prompt"]
            return self.answer({"prompt_id": prompt})
        server.stopped.append(self.path)
        return self.answer(b"")


@pytest.fixture
def stub() -> Iterator:
    made: list[Stub] = []

    def start(**given) -> Stub:
        made.append(Stub(**given))
        return made[-1]

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


def test_servers_make_what_this_machine_makes(tmp_path, restored, stub):  # noqa: F811
    folder = made(tmp_path / "photos", PNGS)  # which every decoder reads alike
    assert restored(folder)[0] == 0
    expected = tree(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "here")
    made(tmp_path / "album", ["Ann/1.png"])
    first, second = stub(), stub()
    assert restored(folder, "--servers", f"{first.url}, {second.url}")[0] == 0
    assert tree(tmp_path / "out") == expected
    assert first.prompts and second.prompts and len(first.prompts) + len(second.prompts) == len(PNGS)
    assert restored(folder) == (0, [])  # the same manifest, wherever it was done


def test_the_album_is_uploaded_once(tmp_path, photos_folder, restored, stub):  # noqa: F811
    made(tmp_path / "album", ["Ann/1.png", "Ann/sub/1.png"])
    server = stub()
    assert restored(photos_folder, "--servers", server.url, "--album", str(tmp_path / "album"))[0] == 0
    album = [name.split("/")[2:] for name in server.files if "/album " in name]
    assert sorted(album) == [["Ann", "1.png"], ["Ann", "sub", "1.png"], ["album.txt"]]
    (node,) = [node for node in server.prompts["0"].values() if node["class_type"] == "PR_LoadLibrary"]
    assert node["inputs"]["folder"].startswith("personal_restore/album ")


def test_a_server_that_dies_is_left_out_and_its_photograph_goes_to_another(tmp_path, photos_folder, restored, stub):  # noqa: F811
    dying, other = stub(dies=1), stub()
    assert restored(photos_folder, "--servers", f"{dying.url},{other.url}")[0] == 0
    assert len(lines(tmp_path / "out" / "manifest.jsonl")) == len(NAMES) == len(other.prompts)


def test_without_a_server_the_run_ends_with_words_and_goes_on_later(tmp_path, photos_folder, restored, stub, capsys):  # noqa: F811
    dead = stub(dies=0)
    assert restored(photos_folder, "--servers", dead.url) == (1, []) and "does not answer" in capsys.readouterr().err
    assert restored(photos_folder, "--servers", stub(dies=2).url)[0] == 1
    assert "Nothing is left that could restore" in capsys.readouterr().err
    assert len(lines(tmp_path / "out" / "manifest.jsonl")) == 1
    assert len(restored(photos_folder, "--servers", f"{dead.url},{stub().url}")[1]) == 3
    assert "It is left out" in capsys.readouterr().out
    assert (
        main(given(tmp_path, photos_folder, "--servers", "ftp://x")) == 1
        and "not an address" in capsys.readouterr().err
    )


def test_what_a_server_refuses_is_the_reason(tmp_path, photos_folder, restored, stub):  # noqa: F811
    assert restored(photos_folder, "--servers", stub(refuses="Value not in list").url)[0] == 1
    reasons = {failure["reason"] for failure in lines(tmp_path / "out" / "failed.jsonl")}
    assert reasons == {"ComfyUI refuses the workflow. K: Value not in list (x)"}


def test_what_runs_on_a_server_is_stopped_with_the_run(tmp_path, photos_folder, stub):  # noqa: F811
    from personal_restore.cli.archive.manifest import Origin
    from personal_restore.cli.archive.photograph import Job
    from personal_restore.cli.archive.servers import Server

    server = stub(hangs=True)
    copy = json.loads((tmp_path / "copy.json").read_text())
    job = Job(photos_folder, tmp_path / "out", copy, tmp_path / "none", Origin("", "", ""))
    lane, ended = Server(job, server.url), []

    def work() -> None:
        try:
            lane.restore("a.png")
        except Exception as error:
            ended.append(str(error))

    thread = threading.Thread(target=work)
    (tmp_path / "out" / ".unfinished").mkdir(parents=True)
    thread.start()
    while not server.prompts:
        time.sleep(0.01)
    time.sleep(0.05)
    lane.close()
    thread.join(10)
    assert ended == [f"{server.url} was stopped."] and server.stopped == ["/queue", "/interrupt"]

"""A real ComfyUI with this pack in it: as a server on a free port, and as a process that runs scripts."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PACK = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("PR_FOLDER", "Odd folder, v1.2 (é)")
# A folder with another comfyui-frontend-package than the installed one: pip install --no-deps --target FOLDER comfyui-frontend-package
FRONTEND = os.environ.get("PR_FRONTEND")
START_SECONDS, RUN_SECONDS = 300, 300  # long, for a machine that is busy with other things

# Starting takes seconds, so that one process runs the scripts of all tests, each in a namespace of its own.
INTERPRETER = """
import contextlib, json, pathlib, sys, traceback
root, pack, base = sys.argv[1:4]
sys.argv = ["main.py", "--cpu", "--base-directory", base]
sys.path[:0] = [root, pack]
answers = sys.stdout
with contextlib.redirect_stdout(sys.stderr):
    import comfy.options
    comfy.options.enable_args_parsing()
    import torch, folder_paths, nodes, comfy.model_management, comfy.utils, comfy_api.latest
    import run
    run.load_package()
    from personal_restore.lib import bridge
    for line in sys.stdin:
        try:
            exec(json.loads(line), dict(globals()))
            answer = ""
        except BaseException:
            answer = traceback.format_exc()
        print(json.dumps(answer), file=answers, flush=True)
"""

# The pack's entry in ComfyUI, after which its loaders of published files take narrow ones, and published presets have few steps.
NARROW = f"""
import sys
sys.path.append({str(PACK)!r})
import pytest, run
run.load_package()
from personal_restore import comfy_entrypoint
from personal_restore.tests import tiny_published
tiny_published.narrow(patch := pytest.MonkeyPatch())
tiny_published.few_steps(patch)
"""


def pytest_report_header() -> str:
    where = {"path": [FRONTEND]} if FRONTEND else {}
    found = importlib.metadata.distributions(name="comfyui-frontend-package", **where)
    return f"ComfyUI's frontend: {next((one.version for one in found), 'none')}"


def found_comfyuis() -> list[Path]:
    """``COMFYUI_PATH``, else those of comfy-cli's default folder, else one beside the project."""
    if named := os.environ.get("COMFYUI_PATH"):
        candidates = [Path(named)]
    else:
        candidates = sorted((Path.home() / "comfy").glob("ComfyUI*")) or [PACK.parent / "ComfyUI"]
    return [path for path in candidates if (path / "comfyui_version.py").is_file()]


@dataclass
class Picture:
    """One file that a SaveImage or PreviewImage has written."""

    node: str
    path: Path


@dataclass
class Server:
    """A running server. ``version`` is ComfyUI's, ``base`` the folder with its input and output."""

    root: Path
    base: Path
    port: int

    @property
    def version(self) -> str:
        return (self.root / "comfyui_version.py").read_text().split('"')[1]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """Of all nodes by their ids, or of one."""
        return self.get(f"/object_info/{node}")[node] if node else self.get("/object_info")

    def upload(self, path: Path, subfolder: str = "") -> str:
        """Puts a file into the input folder; returns what LoadImage calls it."""
        target = self.base / "input" / subfolder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        return target.relative_to(self.base / "input").as_posix()

    def queue(self, graph: dict[str, Any], seconds: int = RUN_SECONDS) -> tuple[dict[str, Any], list[Picture]]:
        """Runs a graph to its end; what the nodes showed, by id, and the pictures in the order of their node and batch.
        Fails the test where that takes more seconds."""
        outputs = self._history(graph, seconds)["outputs"]
        pictures = [
            Picture(node, self.base / picture["type"] / picture["subfolder"] / picture["filename"])
            for node, shown in outputs.items()
            for picture in shown.get("images", ())
        ]
        return outputs, pictures

    def executed(self, graph: dict[str, Any]) -> set[str]:
        """Runs a graph to its end; the ids of the nodes that were not in ComfyUI's cache."""
        messages = self._history(graph)["status"]["messages"]
        cached = next(message["nodes"] for event, message in messages if event == "execution_cached")
        return graph.keys() - set(cached)

    def error(self, graph: dict[str, Any]) -> str:
        """Runs a graph to the node that raises; what the user is told."""
        messages = self._run(graph)["status"]["messages"]
        return next(message["exception_message"] for event, message in messages if event == "execution_error")

    def refused(self, graph: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """What ComfyUI's validation says against a graph, by node. Outputs that are not concerned run to their end."""
        answer = self._post(graph)
        if "prompt_id" in answer:
            self._wait(answer["prompt_id"])
        return {id: told["errors"] for id, told in answer["node_errors"].items()}

    def _history(self, graph: dict[str, Any], seconds: int = RUN_SECONDS) -> dict[str, Any]:
        """Fails the test where ComfyUI refuses the graph or a node raises."""
        history = self._run(graph, seconds)
        if history["status"]["status_str"] != "success":
            pytest.fail(f"a node failed in ComfyUI {self.version}:\n{history['status']['messages']}", pytrace=False)
        return history

    def _run(self, graph: dict[str, Any], seconds: int = RUN_SECONDS) -> dict[str, Any]:
        """Fails the test where ComfyUI refuses the graph."""
        answer = self._post(graph)
        if "prompt_id" not in answer:
            pytest.fail(f"ComfyUI {self.version} refuses the graph: {answer}", pytrace=False)
        return self._wait(answer["prompt_id"], seconds)

    def _post(self, graph: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"prompt": graph, "client_id": uuid.uuid4().hex}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/prompt", body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def _wait(self, prompt_id: str, seconds: int = RUN_SECONDS) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not (done := self.get(f"/history/{prompt_id}")):
            if time.monotonic() > end:
                pytest.fail(f"ComfyUI {self.version} has not finished after {seconds} s:\n{self.log()[-3000:]}")
            time.sleep(0.1)
        return done[prompt_id]

    @property
    def folder(self) -> str:
        """The name of the pack's folder."""
        return FOLDER

    def log(self) -> str:
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    def loading_log(self) -> str:
        """What was logged while the pack was loaded, libraries that it imports included."""
        before, loading = self.log().split(f"Trying to load custom node {self.base / 'custom_nodes' / FOLDER}")
        return loading.split("Import times for custom nodes")[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _command(root: Path, base: Path, port: int) -> list[str]:
    options = ["--cpu", "--listen", "127.0.0.1", "--base-directory", str(base), "--disable-auto-launch"]
    options += ["--disable-api-nodes", "--verbose", "DEBUG"]
    if FRONTEND:
        options += ["--front-end-root", str(Path(FRONTEND).resolve() / "comfyui_frontend_package" / "static")]
    database = ["--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    return [sys.executable, str(root / "main.py"), "--port", str(port), *options, *database]


@pytest.fixture(scope="session", params=found_comfyuis() or [None], ids=lambda path: path.name if path else "none")
def comfyui_root(request: pytest.FixtureRequest) -> Path:
    """The folder of every ComfyUI that is there, one after the other."""
    if request.param is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH, or put it into ~/comfy/ComfyUI or beside this project")
    script = "import aiohttp, alembic, av, comfyui_frontend_package, comfy_kitchen, torchaudio, torchsde, transformers"
    check = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if check.returncode:
        reason = check.stderr.strip().splitlines()[-1]
        pytest.skip(f"{sys.executable} cannot run ComfyUI ({reason}): pip install -r {request.param}/requirements.txt")
    return request.param


@pytest.fixture(scope="session")
def comfyui(comfyui_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _running(comfyui_root, tmp_path_factory.mktemp("comfyui")) as (server, _):
        yield server


@pytest.fixture
def mortal_comfyui(comfyui_root: Path, tmp_path: Path) -> Iterator[tuple[Server, subprocess.Popen]]:
    """Another server, and its process, which the test may kill."""
    (tmp_path / "mortal").mkdir()
    with _running(comfyui_root, tmp_path / "mortal") as started:
        yield started


@pytest.fixture(scope="module")
def narrow_comfyui(comfyui_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose pack takes the files of `tiny_published` for the published ones."""
    with _running(comfyui_root, tmp_path_factory.mktemp("narrow"), NARROW) as (server, _):
        yield server


@contextmanager
def _running(root: Path, base: Path, entry: str = "") -> Iterator[tuple[Server, subprocess.Popen]]:
    """entry: the script by which ComfyUI enters the pack, if not the pack's own."""
    for name in ("custom_nodes", "input", "output"):
        (base / name).mkdir()
    pack = base / "custom_nodes" / FOLDER
    if entry:
        pack.mkdir()
        (pack / "__init__.py").write_text(entry, encoding="utf-8")
    else:
        pack.symlink_to(PACK, target_is_directory=True)
    server = Server(root, base, _free_port())
    with (base / "server.log").open("wb") as log:
        process = subprocess.Popen(_command(root, base, server.port), cwd=root, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(server, process)
            yield server, process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"ComfyUI {server.version} did not start:\n{server.log()[-3000:]}", pytrace=False)


@pytest.fixture(scope="session")
def inside(comfyui_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """inside(script) runs Python where ComfyUI's modules and the pack are imported, and fails the test if it raises."""
    base = tmp_path_factory.mktemp("inside")
    (base / "input").mkdir()
    command = [sys.executable, "-c", INTERPRETER, str(comfyui_root), str(PACK), str(base)]
    with (
        (base / "errors.log").open("wb") as errors,
        subprocess.Popen(
            command, cwd=comfyui_root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):

        def run(script: str) -> None:
            process.stdin.write(json.dumps(textwrap.dedent(script)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            error = json.loads(answer) if answer else (base / "errors.log").read_text(errors="replace")[-3000:]
            if error or not answer:
                pytest.fail(error, pytrace=False)

        yield run
        process.stdin.close()

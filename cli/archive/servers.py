"""Running ComfyUI servers that restore, through their HTTP API."""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from PIL import Image

from ...lib.pictures.files import pictures_below
from ...lib.pictures.opening import large_pictures
from ...lib.standin.graph import Graph
from ...lib.standin.runner import Results
from ...lib.vocabulary import UserError
from ..own import with_photo
from ..restore import Restored, report_of, shown_file
from .lanes import spread
from .manifest import Entry
from .photograph import Job, Lost, entry_of, failed

FOLDER = "personal_restore"  # in a server's input folder
PATIENCE, PAUSE = 60, 0.2  # seconds for an answer, and between two looks at what has finished
Answer = dict[str, Any]


def servers(job: Job, urls: list[str], photographs: Iterator[str]) -> Generator[Entry]:
    """Restores on these servers; one that does not answer is said and left out. Raises UserError if none does."""
    ready, silent = [], []
    for url in urls:
        server = Server(job, url)
        try:
            server.prepare()
            ready.append(server)
        except Lost as error:
            silent.append(str(error))
            print(f"{error} It is left out.", flush=True)
    if not ready:
        raise UserError("; ".join(silent))
    with large_pictures():  # for all threads, because Pillow's limit is one for the whole process
        yield from spread(ready, photographs)


class Server:
    """One server. It takes one photograph at a time, so that the others get their share; ComfyUI itself keeps album and networks."""

    def __init__(self, job: Job, url: str) -> None:
        self._job = job
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise UserError(f"--servers {url}: this is not an address like http://127.0.0.1:8188.")
        self._name = uuid.uuid4().hex
        self._album = f"{FOLDER}/album {job.origin.album}"
        self._running = ""
        self._closed = threading.Event()

    def prepare(self) -> None:
        """Uploads the album. Raises Lost if the server does not answer."""
        self._call("GET", "/system_stats")
        self._upload(b"The pictures beside this file are an album.", "album.txt", self._album)
        for path in pictures_below(self._job.album):
            beside = path.relative_to(self._job.album).parent.as_posix()
            self._upload(path.read_bytes(), path.name, self._album if beside == "." else f"{self._album}/{beside}")

    def restore(self, photograph: str) -> Entry:
        return entry_of(self._job, photograph, self._run)

    def again(self) -> None:
        return None

    def lost(self, photograph: str, reason: str) -> Entry:
        return failed(self._job, photograph, reason)

    def close(self) -> None:
        self._closed.set()
        with suppress(Lost):  # then there is nothing to stop
            self.cancel()

    def cancel(self) -> None:
        """Takes what it is doing out of the server's queue, or stops it there."""
        if prompt := self._running:
            self._call("POST", "/queue", json={"delete": [prompt]})
            if any(prompt in one for one in self._call("GET", "/queue").get("queue_running", ())):
                self._call("POST", "/interrupt", json={"prompt_id": prompt})

    def _run(self, source: Path) -> Restored:
        image = self._upload(source.read_bytes(), f"{self._name}{source.suffix}", FOLDER)
        graph = self._graph(image)
        outputs = self._outputs(graph)
        before = self._picture(outputs, graph, "ImageCompare", "a_images")
        after = self._picture(outputs, graph, "SaveImage", "images")
        return Restored(before, after, report_of(Results(outputs), graph))

    def _graph(self, image: str) -> Graph:
        """The graph with the uploaded photograph and album."""
        graph = with_photo(self._job.graph, Path(image))
        for node in graph.values():
            if node["inputs"].get("folder") == str(self._job.album):
                node["inputs"]["folder"] = self._album
        return graph

    def _outputs(self, graph: Graph) -> dict[str, Answer]:
        """Queues the graph, and waits for what its nodes show. Raises UserError with what ComfyUI says is wrong with it."""
        # Previews go into the server's temp folder, which it empties itself.
        shown = {
            id: node
            if node["class_type"] != "SaveImage"
            else node | {"class_type": "PreviewImage", "inputs": {"images": node["inputs"]["images"]}}
            for id, node in graph.items()
        }
        asked = self._call("POST", "/prompt", json={"prompt": shown, "client_id": self._name})
        prompt = self._running = asked["prompt_id"]
        try:
            if asked.get("node_errors"):  # ComfyUI runs the rest of a graph of which a part is wrong
                self.cancel()
                raise UserError(_refusal(asked))
            while prompt not in (history := self._call("GET", f"/history/{prompt}")):
                waiting = self._call("GET", "/queue")
                listed = any(
                    prompt in one for kind in ("queue_running", "queue_pending") for one in waiting.get(kind, ())
                )
                if not listed and prompt not in self._call("GET", f"/history/{prompt}"):
                    raise Lost(f"{self.url} has forgotten its work, perhaps because it was started again.")
                if self._closed.wait(PAUSE):
                    raise Lost(f"{self.url} was stopped.")
        finally:
            self._running = ""
        done = history[prompt]
        if done["status"]["status_str"] != "success":
            errors = [said for event, said in done["status"]["messages"] if event == "execution_error"]
            said = errors[0] if errors else {}
            node = said.get("node_type", "a node")
            raise UserError(f"{node}: {str(said.get('exception_message', 'it was interrupted')).strip()}")
        return done["outputs"]

    def _picture(self, outputs: dict[str, Answer], graph: Graph, kind: str, key: str) -> Image.Image:
        shown = shown_file(outputs, graph, kind, key)
        file = {name: shown[name] for name in ("filename", "subfolder", "type")}
        with Image.open(io.BytesIO(self._ask("GET", "/view", params=file).content)) as picture:
            return picture.convert("RGB")

    def _upload(self, content: bytes, name: str, folder: str) -> str:
        """Returns what LoadImage calls it."""
        fields = {"subfolder": folder, "type": "input", "overwrite": "true"}
        put = self._call("POST", "/upload/image", data=fields, files={"image": (name, content)})
        return f"{put['subfolder']}/{put['name']}"

    def _call(self, method: str, path: str, **given: Any) -> Answer:
        answer = self._ask(method, path, **given)
        try:
            return answer.json() if answer.content else {}
        except ValueError as error:
            raise Lost(f"{self.url} does not answer like ComfyUI.") from error

    def _ask(self, method: str, path: str, **given: Any) -> requests.Response:
        """Raises Lost if the server does not answer, and UserError if it refuses."""
        try:
            answer = requests.request(method, self.url + path, timeout=PATIENCE, **given)
        except requests.RequestException as error:
            raise Lost(f"{self.url} does not answer ({type(error).__name__}).") from error
        if answer.status_code == 400:
            try:
                said = answer.json()
            except ValueError:
                said = answer.text[:500]
            raise UserError(_refusal(said))
        if not answer.ok:
            raise Lost(f"{self.url} answers with status {answer.status_code}.")
        return answer


def _refusal(said: Any) -> str:
    """What ComfyUI says is wrong with a graph, a sentence per node."""
    try:
        faults = [
            f"{node['class_type']}: {error['message']} ({error['details']})"
            for node in said["node_errors"].values()
            for error in node["errors"]
        ]
        return "ComfyUI refuses the workflow. " + ("; ".join(faults) or json.dumps(said["error"]))
    except (LookupError, TypeError, AttributeError):
        return f"ComfyUI refuses: {said}"

"""Training a persona in a real ComfyUI: cancelling it gives the interface back, keeps what was learnt, and it can go on."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest
from personal_restore.lib.storage.personas import load_persona

pytestmark = pytest.mark.comfyui

GRAPH = {
    "sample": {"class_type": "PR_Sample", "inputs": {}},
    "base": {
        "class_type": "PR_DiffusionRestorer",
        "inputs": {"denoise": 0.1, "steps": 2, "control": 1.0, "cfg": 1.0},
    },
    "train": {
        "class_type": "PR_TrainPersona",
        "inputs": {
            **{"restorer": ["base", 0], "library": ["sample", 1], "person": "", "method": "textual_pivot"},
            **{"steps": 2000, "seed": 0, "batch": 1, "preview_every": 2},
        },
    },
    "show": {"class_type": "PreviewAny", "inputs": {"source": ["train", 1]}},
}


def post(comfyui, path: str, content: dict) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{comfyui.port}{path}", json.dumps(content).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def waited(condition, seconds: float):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)
    return found


def test_cancel_returns_within_a_step_and_leaves_a_persona_that_can_be_loaded(comfyui):
    prompt = json.loads(post(comfyui, "/prompt", {"prompt": GRAPH, "client_id": "test"}))["prompt_id"]
    started = waited(lambda: "step 3 of 2000" in comfyui.log() or "Train Persona 1/2000" in comfyui.log(), 200)
    assert started
    time.sleep(3)  # a few steps further
    before = time.monotonic()
    post(comfyui, "/interrupt", {})
    history = waited(lambda: comfyui.get(f"/history/{prompt}"), 60)[prompt]
    assert "execution_interrupted" in {event for event, _ in history["status"]["messages"]}
    seconds = time.monotonic() - before
    folder = comfyui.base / "models" / "personal_restore" / "personas"
    persona = load_persona(folder, "Eileen Collins unfinished")
    done = int(persona.provenance["steps"].split()[0])
    assert 1 <= done < 2000 and all(value.isfinite().all() for value in persona.tensors.values())
    assert list((folder / "training").glob("*.safetensors")), "from here it would go on"
    print(f"interrupted after {done} steps, back in {seconds:.1f} s")
    apply = {"restorer": ["base", 0], "persona": ["load", 0], "strength": 1.0, "person": ""}
    restore = {"image": ["sample", 0], "restorer": ["apply", 0], "strength": 1.0, "seed": 0, "faces": ["find", 0]}
    graph = {name: GRAPH[name] for name in ("sample", "base")} | {
        "load": {"class_type": "PR_LoadPersona", "inputs": {"name": "Eileen Collins unfinished"}},
        "apply": {"class_type": "PR_ApplyPersona", "inputs": apply},
        "find": {"class_type": "PR_DetectFaces", "inputs": {"image": ["sample", 0], "threshold": 0.0}},
        "restore": {"class_type": "PR_RestoreFaces", "inputs": restore},
        "crops": {"class_type": "PR_FacesToImages", "inputs": {"faces": ["restore", 0], "restored": True}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["crops", 0]}},
    }
    _, pictures = comfyui.queue(graph)
    assert pictures

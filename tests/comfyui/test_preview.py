"""What a real ComfyUI tells its browser over the websocket while one of our long nodes is at work."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from PIL import Image

pytestmark = pytest.mark.comfyui

PREVIEW, TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # ComfyUI's BinaryEventTypes

SCENE = {
    "photo": {"class_type": "EmptyImage", "inputs": {"width": 1800, "height": 40, "batch_size": 1, "color": 0x806040}},
    "restorer": {"class_type": "PR_EmbeddedRestorer", "inputs": {}},
    "work": {
        "class_type": "PR_RestoreScene",
        "inputs": {"image": ["photo", 0], "restorer": ["restorer", 0], "strength": 1.0, "seed": 0},
    },
    "show": {"class_type": "PreviewImage", "inputs": {"images": ["work", 0]}},
}
FACES = {
    "photo": {"class_type": "PR_SampleGroup", "inputs": {}},
    "faces": {"class_type": "PR_DetectFaces", "inputs": {"image": ["photo", 0], "threshold": 0.0}},
    "restorer": {"class_type": "PR_EmbeddedRestorer", "inputs": {}},
    "work": {
        "class_type": "PR_RestoreFaces",
        "inputs": {
            "image": ["photo", 0],
            "faces": ["faces", 0],
            "restorer": ["restorer", 0],
            "strength": 1.0,
            "seed": 0,
        },
    },
    "show": {"class_type": "PR_ReviewFaces", "inputs": {"image": ["photo", 0], "faces": ["work", 0]}},
    "look": {"class_type": "PreviewImage", "inputs": {"images": ["show", 0]}},
}


async def listen(server, graph: dict, flags: dict) -> list:
    """Everything that is said until the run is over: binary messages as bytes, others as (type, data)."""
    import aiohttp

    heard = []
    address = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/ws?clientId=preview") as socket:
        await socket.send_json({"type": "feature_flags", "data": flags})
        answer = await session.post(f"{address}/prompt", json={"prompt": graph, "client_id": "preview"})
        assert answer.status == 200, await answer.text()
        async with asyncio.timeout(300):
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    heard.append(message.data)
                    continue
                said = json.loads(message.data)
                heard.append((said["type"], said["data"]))
                assert said["type"] != "execution_error", said
                if said["type"] == "execution_success":
                    return heard
    raise AssertionError("the server has closed the connection")


def pictures(heard: list) -> list[tuple[dict, Image.Image]]:
    found = []
    for message in heard:
        if not isinstance(message, bytes):
            continue
        kind, second = (int.from_bytes(message[start : start + 4], "big") for start in (0, 4))
        if kind == TEXT:
            continue
        metadata, start = {}, 8
        if kind == PREVIEW_WITH_METADATA:
            metadata, start = json.loads(message[8 : 8 + second]), 8 + second
        else:
            assert kind == PREVIEW
        found.append((metadata, Image.open(io.BytesIO(message[start:]))))
    return found


@pytest.mark.parametrize("graph", [SCENE, FACES], ids=["tiles of a scene", "faces"])
def test_what_is_finished_is_shown_on_the_node_that_works(comfyui, graph):
    # The seed changes nothing but that ComfyUI has no result of the other test in its cache.
    graph = json.loads(json.dumps(graph))
    graph["work"]["inputs"]["seed"] = 1
    heard = asyncio.run(listen(comfyui, graph, {"supports_preview_metadata": True}))
    shown = pictures(heard)
    assert shown and {metadata["node_id"] for metadata, _ in shown} == {"work"}
    assert all(picture.format == "JPEG" and max(picture.size) == 512 for _, picture in shown)
    steps = [
        data
        for kind, data in (one for one in heard if isinstance(one, tuple))
        if kind == "progress" and data["node"] == "work"
    ]
    assert steps[-1]["value"] == steps[-1]["max"] > 1


def test_a_client_of_the_older_kind_gets_the_plain_picture(comfyui):
    shown = pictures(asyncio.run(listen(comfyui, SCENE, {})))
    assert shown and all(metadata == {} and picture.size == (512, 11) for metadata, picture in shown)

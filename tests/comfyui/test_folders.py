"""The pack under any folder name, in a folder that extra_model_paths.yaml names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from personal_restore.nodes import NODES

pytestmark = pytest.mark.comfyui

PACK = Path(__file__).resolve().parents[2]
NAMES = (
    "plain",
    "with-hyphens_and_underscores",
    "with space",
    "v1.2 beta",
    "名前 é",
    "pack@1.0.0",
    "Personal Restore (2), new",
)


def test_the_pack_is_found_and_served_under_any_name(inside, tmp_path):
    """Loaded by ComfyUI itself; asked over HTTP, as the frontend asks: help, JavaScript, templates, thumbnails."""
    for name in NAMES:
        (tmp_path / "packs").mkdir(exist_ok=True)
        (tmp_path / "packs" / name).symlink_to(PACK, target_is_directory=True)
    (tmp_path / "extra.yaml").write_text(
        f"elsewhere:\n  base_path: {tmp_path}\n  custom_nodes: packs\n  personal_restore: weights\n", "utf-8"
    )
    asked = {
        name: [
            f"/extensions/{quote(name)}/docs/PR_MatchFaces.md",
            f"/extensions/{quote(name.split('.')[0].split('@')[0])}/docs/PR_MatchFaces/zh.md",  # as the frontend shortens it
            f"/extensions/{quote(name)}/js/face_picker.js",
            f"/api/workflow_templates/{quote(name)}/face2scene.json",
            f"/api/workflow_templates/{quote(name)}/face2scene.jpg",
        ]
        for name in NAMES
    }
    refused = [
        f"/extensions/{quote(name)}/{path}" for name in NAMES for path in ("..%2Fpyproject.toml", "docs/none.md")
    ]
    inside(f"""
        import asyncio, server
        from aiohttp.test_utils import TestClient, TestServer
        from utils.extra_config import load_extra_path_config

        async def main():
            prompt_server = server.PromptServer(asyncio.get_running_loop())
            (pathlib.Path(base) / "custom_nodes").mkdir()
            folder_paths.folder_names_and_paths.pop("personal_restore", None)
            load_extra_path_config({str(tmp_path / "extra.yaml")!r})
            await nodes.init_external_custom_nodes()
            ids = {[node.define_schema().node_id for node in NODES]!r}
            assert set(ids) <= nodes.NODE_CLASS_MAPPINGS.keys()
            assert {set(NAMES)!r} <= nodes.EXTENSION_WEB_DIRS.keys()
            assert bridge.models_folder() == pathlib.Path({str(tmp_path / "weights")!r})
            prompt_server.add_routes()
            async with TestClient(TestServer(prompt_server.app)) as client:
                from yarl import URL
                for name, paths in {asked!r}.items():
                    for path in paths:
                        answer = await client.get(URL(path, encoded=True))
                        assert answer.status == 200 and await answer.read(), (path, answer.status)
                for path in {refused!r}:
                    assert (await client.get(URL(path, encoded=True))).status == 404, path

        asyncio.run(main())
    """)

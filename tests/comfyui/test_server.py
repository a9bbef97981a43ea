"""What a real ComfyUI says about the pack, on every version that is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from personal_restore.cli.benchmarks import costs
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.io import object_info
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared.weight_files import NONE
from personal_restore.nodes import NODES

from .conftest import FOLDER, PACK, START_SECONDS

pytestmark = pytest.mark.comfyui

PROBLEMS = ("Traceback", "Warning:", "[WARNING]", "[ERROR]", "[CRITICAL]")


def test_the_pack_loads_without_a_warning_of_ours(comfyui):
    loading = comfyui.loading_log()
    assert not any(word in loading for word in PROBLEMS), loading
    assert "IMPORT FAILED" not in comfyui.log()


@pytest.mark.slow
def test_what_the_pack_adds_to_the_start_is_measured(comfyui_root):
    figures = costs.bench(None, 1, (), comfyui=comfyui_root)
    assert figures["after"].keys() == {"comfyui_start_s"} and figures["after"]["comfyui_start_s"] > 0


def test_a_start_cannot_be_measured_without_a_comfyui(tmp_path):
    with pytest.raises(UserError, match="there is no ComfyUI"):
        costs.bench(None, 1, (), comfyui=tmp_path)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_schema_equals_the_live_object_info(comfyui, node):
    expected = object_info(node, python_module=f"custom_nodes.{comfyui.folder}")
    live = comfyui.object_info(expected["name"])
    for group, inputs in expected["input"].items():
        for name, (kind, *settings) in inputs.items():
            # The server has what other tests saved.
            if kind == "COMBO" and (settings[0]["options"] == [NONE] or settings[0].get("image_upload")):
                settings[0]["options"] = live["input"][group][name][1]["options"]
    assert live == expected


def test_the_server_has_no_node_of_ours_that_is_not_tested(comfyui):
    module = f"custom_nodes.{comfyui.folder}"
    live = {id for id, info in comfyui.object_info().items() if info["python_module"] == module}
    assert live == {node.define_schema().node_id for node in NODES}


@pytest.mark.parametrize("node", CORE_NODES, ids=lambda node: node.__name__)
def test_a_core_node_has_the_schema_of_the_live_one(comfyui, node):
    ours = object_info(node)
    assert in_words_of_v3(ours) == in_words_of_v3(comfyui.object_info(ours["name"]))


def in_words_of_v3(info):
    """What a graph can notice of a node. Some of core's nodes are of the older kind, which writes inputs otherwise."""
    inputs = {}
    for name, (kind, *options) in {**info["input"]["required"], **info["input"].get("optional", {})}.items():
        options = {**(options[0] if options else {})}
        if isinstance(kind, list):
            kind, options = "COMBO", {"multiselect": False, "options": kind, **options}
        if kind == "STRING":
            options.setdefault("multiline", False)
        if "image_upload" in options:
            del options["options"]  # the pictures in the input folder
        inputs[name] = (kind, options)
    same = ("output", "output_is_list", "output_name", "output_node", "is_input_list", "category", "display_name")
    order = {kind: names for kind, names in info["input_order"].items() if kind != "hidden"}
    return inputs, order, {key: info[key] for key in (*same, "description")}, info["search_aliases"] or []


def test_the_workflows_are_listed_as_templates(comfyui):
    workflows = sorted(path.stem for path in (Path(__file__).parents[2] / "workflows").glob("*.json"))
    assert sorted(comfyui.get("/workflow_templates").get(comfyui.folder, [])) == workflows


@pytest.mark.slow
def test_the_pack_writes_nothing_into_a_log_without_debug_lines(comfyui_root, tmp_path):
    """ComfyUI starts with the same lines as without it, but for the one with which it lists every pack."""
    logs = [started(comfyui_root, tmp_path / name, name == "with") for name in ("without", "with")]
    without, with_pack = ([without_numbers(line) for line in log.splitlines()] for log in logs)
    assert without, "ComfyUI logs its start"
    # Import times are listed only where there is a pack, between empty lines.
    new = [line for line in with_pack if line not in without and line.strip() not in ("", "[INFO]")]
    new = [line for line in new if "Import times for" not in line]
    assert len(new) == 1 and new[0].endswith(without_numbers(str(tmp_path / "with" / "custom_nodes" / FOLDER))), new


def started(root: Path, base: Path, with_pack: bool) -> str:
    """What ComfyUI logs by default while it starts."""
    for folder in ("custom_nodes", "input", "output"):
        (base / folder).mkdir(parents=True)
    if with_pack:
        (base / "custom_nodes" / FOLDER).symlink_to(PACK, target_is_directory=True)
    options = ["--cpu", "--disable-api-nodes", "--quick-test-for-ci", "--base-directory", str(base)]
    database = ["--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    command = [sys.executable, str(root / "main.py"), *options, *database]
    done = subprocess.run(command, cwd=base, capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def without_numbers(line: str) -> str:
    """Without times and colors, and whatever the folder of the run is called."""
    return re.sub(
        r"/(with|without)(?=/|$|\))", "/base", re.sub(r"\d+(\.\d+)?", "#", re.sub(r"\x1b\[[\d;]*m", "", line))
    )

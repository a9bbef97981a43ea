"""Workflows that were saved with an earlier version still load: nothing goes, moves or is renamed."""

from __future__ import annotations

import copy
import json

import pytest
from personal_restore.cli.tools.snapshot import SNAPSHOT, breaks, described_schemas
from personal_restore.nodes import NODES


@pytest.fixture(scope="module")
def now():
    return described_schemas(node.define_schema() for node in NODES)


@pytest.fixture(scope="module")
def saved():
    return json.loads(SNAPSHOT.read_text("utf-8"))


def test_nothing_that_a_saved_workflow_knows_has_changed(saved, now):
    assert not breaks(saved, now)


def test_the_snapshot_knows_every_node(saved, now):
    assert saved == now, "something was added: python cli/tools/snapshot.py"


NEW = {"id": "new", "type": "FLOAT", "optional": True, "widgets": 1, "default": 0.0}
NODE = "PR_MatchFaces"

LEGAL = {
    "a new node": lambda nodes: nodes.update(PR_New={"inputs": [], "outputs": []}),
    "a widget at the end": lambda nodes: nodes[NODE]["inputs"].append(NEW),
    "a socket at the end": lambda nodes: nodes[NODE]["inputs"].append(
        {"id": "new", "type": "IMAGE", "optional": True, "widgets": 0}
    ),
    "an output at the end": lambda nodes: nodes[NODE]["outputs"].append({"id": "new", "type": "IMAGE"}),
    "another default": lambda nodes: nodes[NODE]["inputs"][2].update(default=0.5),
}
BROKEN = {
    "the node": lambda nodes: nodes.pop(NODE),
    "an input gone": lambda nodes: nodes[NODE]["inputs"].pop(),
    "an input renamed": lambda nodes: nodes[NODE]["inputs"][0].update(id="people"),
    "inputs reordered": lambda nodes: nodes[NODE]["inputs"].reverse(),
    "another type": lambda nodes: nodes[NODE]["inputs"][0].update(type="IMAGE"),
    "a widget made a socket": lambda nodes: nodes[NODE]["inputs"][2].update(widgets=0),
    "an input in front": lambda nodes: nodes[NODE]["inputs"].insert(0, NEW),
    "a required input at the end": lambda nodes: nodes[NODE]["inputs"].append(NEW | {"optional": False}),
    "a widget without a default": lambda nodes: nodes[NODE]["inputs"].append(
        {key: value for key, value in NEW.items() if key != "default"}
    ),
    "an optional input required": lambda nodes: nodes["PR_DetectFaces"]["inputs"][-1].update(optional=False),
    "an output gone": lambda nodes: nodes[NODE]["outputs"].pop(),
    "an output renamed": lambda nodes: nodes[NODE]["outputs"][0].update(id="people"),
    "outputs reordered": lambda nodes: nodes[NODE]["outputs"].reverse(),
}


@pytest.mark.parametrize("change", LEGAL)
def test_what_may_be_added(now, change):
    after = copy.deepcopy(now)
    LEGAL[change](after)
    assert after != now and not breaks(now, after)


@pytest.mark.parametrize("change", BROKEN)
def test_what_would_break_a_saved_workflow(now, change):
    after = copy.deepcopy(now)
    BROKEN[change](after)
    found = breaks(now, after)
    assert len(found) == 1 and found[0].startswith(("PR_MatchFaces", "PR_DetectFaces"))


def test_every_node_stands_in_a_submenu():
    menus = {node.define_schema().category for node in NODES}
    assert menus == {f"personal restore/{menu}" for menu in ("faces", "restorers", "scene", "personas", "lab")}

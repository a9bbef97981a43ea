"""Every node explains itself in English and in Chinese, and what is generated from the sources is up to date."""

from __future__ import annotations

import json
import re

import pytest
from personal_restore.cli.tools import localise
from personal_restore.lib.standin import io
from personal_restore.nodes import NODES

SCHEMAS = [node.define_schema() for node in NODES]
NODE_DEFS = {
    language: json.loads((localise.ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    for language in ("en", "zh")
}


@pytest.fixture(scope="module")
def sources():
    return localise.text_sources()


def is_chinese(text: str) -> bool:
    return bool(re.search(r"[\u4e00-\u9fff]", text))


def test_nothing_is_stale_and_no_translation_is_missing(sources):
    files, problems = localise.localized_files(*sources)
    assert not problems
    assert not localise.stale_texts(files, localise.ROOT), "python cli/tools/localise.py"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)
def test_a_node_is_covered_in_both_languages(schema):
    english, chinese = (NODE_DEFS[language][schema.node_id] for language in ("en", "zh"))
    assert english["display_name"] == schema.display_name and english["description"] == schema.description
    inputs = {item.id: {"name": item.id, "tooltip": item.options["tooltip"]} for item in schema.inputs}
    assert english["inputs"] == inputs
    outputs = {str(i): {"name": one.display_name, "tooltip": one.tooltip} for i, one in enumerate(schema.outputs)}
    assert english["outputs"] == outputs
    assert is_chinese(chinese["display_name"]) and is_chinese(chinese["description"])
    for kind in ("inputs", "outputs"):
        assert list(chinese[kind]) == list(english[kind])
        assert all(is_chinese(text) for slot in chinese[kind].values() for text in slot.values())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)
def test_a_node_has_help_where_the_frontend_looks_for_it(schema):
    docs = localise.ROOT / "nodes" / "web" / "docs"
    english = (docs / f"{schema.node_id}.md").read_text("utf-8")
    chinese = (docs / schema.node_id / "zh.md").read_text("utf-8")
    assert english == (docs / schema.node_id / "en.md").read_text("utf-8")
    for name in [item.id for item in schema.inputs] + [item.display_name for item in schema.outputs]:
        assert f"- **{name}** ·" in english and re.search(rf"^- \*\*.+\*\* (\(`{name}`\) )?·", chinese, re.MULTILINE)
    assert english.count("\n## ") == chinese.count("\n## ") == (5 if schema.inputs else 4)
    assert english.count("\n- ") == chinese.count("\n- ")


def test_a_missing_translation_is_named(sources):
    schemas, help, po = sources
    without = re.sub(r'^(msgid "Minimum confidence of the detector.*"\nmsgstr) ".*"$', r'\1 ""', po, flags=re.MULTILINE)
    _, problems = localise.localized_files(schemas, help, without)
    assert problems == ["cli/tools/zh.po: PR_DetectFaces.inputs.threshold.tooltip is not translated"]


def test_a_changed_text_wants_a_new_translation(sources, tmp_path):
    schemas, help, po = sources
    files, problems = localise.localized_files(
        schemas, help | {"PR_Report": help["PR_Report"] | {"use": "Always."}}, po
    )
    assert problems == ["cli/tools/zh.po: PR_Report.help.use is not translated"]
    assert (
        'msgid "Always."\nmsgstr ""' in files["cli/tools/zh.po"] and "To keep a record" not in files["cli/tools/zh.po"]
    )
    assert localise.stale_texts(files, localise.ROOT) == [
        "cli/tools/zh.po",
        "nodes/web/docs/PR_Report.md",
        "nodes/web/docs/PR_Report/en.md",
        "nodes/web/docs/PR_Report/zh.md",
    ]


def test_every_page_shows_the_picture_of_its_example(tmp_path):
    assert localise.picture_problems(SCHEMAS, localise.ROOT) == []
    folder = localise.ROOT / "nodes" / "web" / "docs" / "pictures"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6
    for schema in SCHEMAS:
        for page in (f"{schema.node_id}.md", f"{schema.node_id}/zh.md"):
            assert f"](pictures/{schema.node_id}.webp)" in (folder.parent / page).read_text("utf-8")
    left = tmp_path / "nodes" / "web" / "docs" / "pictures" / "PR_Gone.webp"
    left.parent.mkdir(parents=True)
    left.touch()
    lacking, gone = localise.picture_problems(SCHEMAS[:1], tmp_path)
    assert f"{SCHEMAS[0].node_id}.webp is missing" in lacking and "PR_Gone.webp belongs to no node" in gone


def test_a_page_of_a_node_that_is_gone_is_stale(tmp_path):
    left = tmp_path / "nodes" / "web" / "docs" / "PR_Gone" / "zh.md"
    left.parent.mkdir(parents=True)
    left.touch()
    assert localise.stale_texts({}, tmp_path) == ["nodes/web/docs/PR_Gone/zh.md"]


def test_the_catalogue_survives_a_round_trip(sources):
    chinese = localise.Chinese("")
    chinese('He said "no"\n\\', "somewhere")
    assert localise.Chinese(chinese.po()).known == {'He said "no"\n\\': ""}


def test_a_text_that_an_editor_wrapped_is_read():
    po = 'msgid "The damaged photograph."\nmsgstr ""\n"受损的"\n"照片。"\n'
    assert localise.Chinese(po).known == {"The damaged photograph.": "受损的照片。"}


def test_a_node_without_help_and_help_without_a_node_are_named(sources):
    schemas, help, po = sources
    with pytest.raises(ValueError, match="no section for PR_Sample"):
        localise.localized_files(schemas, {id: own for id, own in help.items() if id != "PR_Sample"}, po)
    with pytest.raises(ValueError, match="PR_Gone, which is not a node"):
        localise.localized_files(schemas, help | {"PR_Gone": {}}, po)


@pytest.mark.parametrize("link", ["PR_Sample.picture -> PR_Report.before", "PR_Sample.photograph -> PR_Gone.image"])
def test_an_example_that_cannot_be_wired_is_refused(sources, link):
    schemas, help, po = sources
    with pytest.raises(ValueError, match="the example of PR_Report names PR_"):
        localise.localized_files(schemas, help | {"PR_Report": help["PR_Report"] | {"example": [link]}}, po)


def test_the_examples_can_be_wired(sources):
    outputs = {f"{node.node_id}.{one.display_name}": one.io_type for node in SCHEMAS for one in node.outputs}
    inputs = {f"{node.node_id}.{one.id}": one.io_type for node in SCHEMAS for one in node.inputs}
    for node in SCHEMAS:
        example = sources[1][node.node_id]["example"]
        assert any(f"{node.node_id}." in link for link in example)
        for start, end in (link.split(" -> ") for link in example):
            if start in outputs and end in inputs:
                assert outputs[start] in (inputs[end], "*"), f"{node.node_id}: {start} -> {end}"


def test_texts_that_the_frontend_takes_for_placeholders_are_named(sources):
    schema = io.Schema(node_id="PR_X", display_name="X", description="Reads {this}.")
    files, problems = localise.localized_files(
        [schema], {"core": {}, "PR_X": {"use": "", "example": [], "trouble": []}}, ""
    )
    assert "en: PR_X.description contains one of {}@|" in problems


def test_markdown_shows_texts_unchanged():
    assert localise.escaped_markdown("2*3 <b> [x] `y`") == r"2\*3 \<b> \[x] \`y\`"

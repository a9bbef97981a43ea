"""Writes every node's help pages (``nodes/web/docs``) and translations (``locales``): ``python cli/tools/localise.py``.

Names, descriptions and tooltips come from the schemas. Other help (when to use a node, how to connect it,
troubleshooting) is in ``help.toml``, and ``zh.po`` translates both, text by text. Run this after changing any of them.
New texts are added to ``zh.po`` with an empty translation, to be filled in there; a changed text counts as new; unused
texts are removed. ``--check`` writes nothing and fails if a file is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polib

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path.insert(0, str(ROOT))
    import run

    run.load_package()
from personal_restore.lib.standin.io import Input, Output, Schema  # noqa: E402
from personal_restore.nodes import NODES  # noqa: E402

HELP = ROOT / "cli" / "tools" / "help.toml"
CATALOGUE = "cli/tools/zh.po"
# The frontend asks for <id>/<language>.md and, where that is missing, for <id>.md. English has both: a page that is asked
# for and missing is an error in the browser's console.
PAGES = {"en": ("{}.md", "{}/en.md"), "zh": ("{}/zh.md",)}
# Picture of the example, as the browser draws it; the frontend resolves it relative to nodes/web/docs on every page.
PICTURE = "pictures/{}.webp"
WRITTEN = ("nodes/web/docs/**/*.md", "locales/*/nodeDefs.json")
PLACEHOLDERS = "{}@|"  # special characters of vue-i18n, the frontend's translator

Say = Callable[[str, str], str]  # (text, where it stands) -> the text in one language


def english(text: str, place: str) -> str:
    return text


class Chinese:
    """The translations in ``zh.po``. Records every requested text, and where it first occurs."""

    def __init__(self, po: str):
        self.known = {entry.msgid: entry.msgstr for entry in polib.pofile(po)}
        self.asked: dict[str, str] = {}

    def __call__(self, text: str, place: str) -> str:
        self.asked.setdefault(text, place)
        return self.known.get(text) or text

    def missing(self) -> list[str]:
        return [
            f"{CATALOGUE}: {place} is not translated" for text, place in self.asked.items() if not self.known.get(text)
        ]

    def po(self) -> str:
        """The updated `zh.po`, in the order of the nodes."""
        file = polib.POFile(wrapwidth=0)
        file.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Language": "zh_CN"}
        file.extend(
            polib.POEntry(msgid=text, msgstr=self.known.get(text, ""), occurrences=[(place, "")])
            for text, place in self.asked.items()
        )
        return str(file)


@dataclass(frozen=True)
class Slot:
    """An input or output: its id in a workflow, its name and tooltip in one language, and other facts on its page."""

    id: str
    name: str
    tooltip: str
    facts: tuple[str, ...]


def input_slot(node_id: str, item: Input, say: Say) -> Slot:
    place = f"{node_id}.inputs.{item.id}"
    name = say(item.options.get("display_name", item.id), f"{place}.name")
    facts = [f"`{item.io_type}`"]
    if "options" in item.options:
        facts.append(" ".join(f"`{option}`" for option in item.options["options"]))
    if "max" in item.options:
        low, high = item.options["min"], item.options["max"]
        facts.append(f"{low} – {high}" if high < 1e9 else f"≥ {low}")
    default = None if item.options.get("forceInput") else item.options.get("default")  # a socket shows none
    if default not in (None, ""):
        shown = default if isinstance(default, str) else json.dumps(default)
        facts.append(f"{say('default', 'page')} `{shown}`")
    facts += [say("optional", "page")] * item.optional
    facts += [say("advanced", "page")] * bool(item.options.get("advanced"))
    return Slot(item.id, name, say(item.options["tooltip"], f"{place}.tooltip"), tuple(facts))


def output_slot(node_id: str, index: int, item: Output, say: Say) -> Slot:
    place = f"{node_id}.outputs.{index}"
    name = item.display_name or item.io_type
    facts = [f"`{item.io_type}`"] + [say("a list", "page")] * item.is_output_list
    return Slot(name, say(name, f"{place}.name"), say(item.tooltip, f"{place}.tooltip"), tuple(facts))


@dataclass(frozen=True)
class Node:
    """A node in one language."""

    id: str
    name: str
    description: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]


def described_node(schema: Schema, say: Say) -> Node:
    return Node(
        schema.node_id,
        say(schema.display_name, f"{schema.node_id}.display_name"),
        say(schema.description, f"{schema.node_id}.description"),
        tuple(input_slot(schema.node_id, item, say) for item in schema.inputs),
        tuple(output_slot(schema.node_id, index, item, say) for index, item in enumerate(schema.outputs)),
    )


def node_defs(nodes: Iterable[Node]) -> dict[str, Any]:
    """What ComfyUI reads from ``locales/<language>/nodeDefs.json``. Outputs go by their number."""

    def slot(one):
        return {"name": one.name, "tooltip": one.tooltip}

    return {
        node.id: {
            "display_name": node.name,
            "description": node.description,
            "inputs": {one.id: slot(one) for one in node.inputs},
            "outputs": {str(index): slot(one) for index, one in enumerate(node.outputs)},
        }
        for node in nodes
    }


def escaped_markdown(text: str) -> str:
    """A text, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*<\[])", r"\\\1", text)


def help_page(node: Node, nodes: dict[str, Node], help: dict[str, Any], say: Say) -> str:
    """A help page. Raises ValueError if the example refers to something that does not exist."""
    own, core = help[node.id], help["core"]

    def slot_line(slot: Slot) -> str:
        name = f"**{escaped_markdown(slot.name)}**" + (f" (`{slot.id}`)" if slot.id != slot.name else "")
        return f"- {name} · {' · '.join(slot.facts)} — {escaped_markdown(slot.tooltip)}"

    def end(text: str, kind: str) -> str:
        """One end of a link, 'node.slot', as the canvas names it."""
        owner, _, slot = text.partition(".")
        if owner in core:
            return f"*{say(core[owner], f'core.{owner}')}* {say(slot, f'{text}.name')}"
        names = {one.id: one.name for one in getattr(nodes[owner], kind)} if owner in nodes else {}
        if slot not in names:
            raise ValueError(f"{HELP.name}: the example of {node.id} names {text}, which is not one of the {kind}")
        return f"*{nodes[owner].name}* {names[slot]}"

    def link_line(link: str) -> str:
        start, _, target = link.partition(" -> ")
        return f"- {end(start, 'outputs')} → {end(target, 'inputs')}"

    def trouble_line(index: int, symptom: str, remedy: str) -> str:
        place = f"{node.id}.help.trouble.{index}"
        return f"- **{escaped_markdown(say(symptom, place))}** {escaped_markdown(say(remedy, place))}"

    sections = {
        "When to use it": [escaped_markdown(say(own["use"], f"{node.id}.help.use"))],
        "Inputs": [slot_line(slot) for slot in node.inputs],
        "Outputs": [slot_line(slot) for slot in node.outputs],
        "Example": [f"![{say('Example', 'page')}]({PICTURE.format(node.id)})\n", *map(link_line, own["example"])],
        "Troubleshooting": [trouble_line(i, *pair) for i, pair in enumerate(own["trouble"])],
    }
    written = [f"## {say(title, 'page')}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return "\n\n".join([f"# {escaped_markdown(node.name)}", escaped_markdown(node.description), *written]) + "\n"


def localized_files(schemas: list[Schema], help: dict[str, Any], po: str) -> tuple[dict[str, str], list[str]]:
    """All files by path, and the problems of the sources. Raises ValueError if nothing can be written."""
    chinese = Chinese(po)
    ids = {schema.node_id for schema in schemas}
    if lacking := [id for id in sorted(ids) if id not in help]:
        raise ValueError(f"{HELP.name} has no section for {', '.join(lacking)}")
    if surplus := sorted(help.keys() - ids - {"core"}):
        raise ValueError(f"{HELP.name} has a section for {', '.join(surplus)}, which is not a node")
    files, problems = {}, []
    for language, say in (("en", english), ("zh", chinese)):
        nodes = {schema.node_id: described_node(schema, say) for schema in schemas}
        for node in nodes.values():
            text = help_page(node, nodes, help, say)
            files |= {f"nodes/web/docs/{name.format(node.id)}": text for name in PAGES[language]}
        definitions = node_defs(nodes.values())
        files[f"locales/{language}/nodeDefs.json"] = json.dumps(definitions, indent=2, ensure_ascii=False) + "\n"
        problems += [f"{language}: {place} contains one of {PLACEHOLDERS}" for place in placeholders(definitions)]
    files[CATALOGUE] = chinese.po()
    return files, problems + chinese.missing()


def placeholders(tree: dict[str, Any], place: str = "") -> list[str]:
    """The places of texts that the frontend would not show literally."""
    found = []
    for key, value in tree.items():
        here = f"{place}.{key}".lstrip(".")
        if isinstance(value, dict):
            found += placeholders(value, here)
        elif set(PLACEHOLDERS) & set(value):
            found.append(here)
    return found


def stale_texts(files: dict[str, str], root: Path) -> list[str]:
    """The files under ``root`` that differ, are missing, or no longer belong to a node."""
    there = {path.relative_to(root).as_posix() for pattern in WRITTEN for path in root.glob(pattern)}

    def content(name):
        return (root / name).read_text("utf-8") if (root / name).is_file() else None

    return sorted(name for name in there | files.keys() if content(name) != files.get(name))


def picture_problems(schemas: list[Schema], root: Path) -> list[str]:
    """Missing and unused pictures of pages. A browser test creates the pictures, not this tool."""
    wanted = {f"nodes/web/docs/{PICTURE.format(schema.node_id)}" for schema in schemas}
    there = {path.relative_to(root).as_posix() for path in root.glob(f"nodes/web/docs/{PICTURE.format('*')}")}
    browser = "python run.py test tests/comfyui/test_browser.py -m slow -k examples"
    make = f"PR_HELP_PICTURES=nodes/web/docs/pictures {browser}"
    missing = [f"{name} is missing: {make}" for name in sorted(wanted - there)]
    return missing + [f"{name} belongs to no node: remove it" for name in sorted(there - wanted)]


def text_sources() -> tuple[list[Schema], dict[str, Any], str]:
    catalogue = ROOT / CATALOGUE
    po = catalogue.read_text("utf-8") if catalogue.is_file() else ""
    return [node.define_schema() for node in NODES], tomllib.loads(HELP.read_text("utf-8")), po


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the nodes' help pages and translations.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is stale")
    check = parser.parse_args().check
    try:
        schemas, help, po = text_sources()
        files, problems = localized_files(schemas, help, po)
    except ValueError as error:
        sys.exit(str(error))
    problems += picture_problems(schemas, ROOT)
    for name in stale_texts(files, ROOT):
        path = ROOT / name
        if check:
            problems.append(f"{name} is stale: python cli/tools/localise.py")
        elif name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], "utf-8", newline="\n")
        else:
            path.unlink()
    print(*(problems or [f"{len(files)} files are up to date"]), sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

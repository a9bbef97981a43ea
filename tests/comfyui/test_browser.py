"""The pack in ComfyUI's own frontend, in a headless Chromium: templates, help pages, the face picker, the compare view.

``PR_SCREENSHOTS=docs/screenshots`` keeps pictures of what was seen, ``PR_HELP_PICTURES=nodes/web/docs/pictures`` those of the help
pages; ``PR_FOLDER=personal-restore`` gives the pack's folder the name that they show. ``CHROMIUM`` names the browser where it
is not found, ``PR_FRONTEND`` another frontend than the installed one (conftest.py); the head of the run says which it is.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from personal_restore.lib.samples import photograph
from personal_restore.lib.standin.convert import to_api
from personal_restore.lib.standin.core_nodes import CORE_NODES
from personal_restore.lib.standin.graph import kinds, load_graph
from personal_restore.nodes import NODES
from personal_restore.tests.bundled import (
    LOADERS,
    NAMES,
    NAMING,
    RELEASED,
    RELEASED_NAMES,
    RUN_AS_THEY_ARE,
    SLOW,
    WORKFLOWS,
    as_released,
    bundled,
    released,
)
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

PATIENCE = 180_000  # milliseconds for a step in the page, for a machine that is busy with other things
SCREENSHOTS, HELP_PICTURES = os.environ.get("PR_SCREENSHOTS"), os.environ.get("PR_HELP_PICTURES")
KNOWN = kinds((*CORE_NODES, *NODES))
RENDERERS = {"canvas": False, "nodes 2.0": True}
APPS = ("face2scene", "perfuse", "who_is_who", "keep_the_person")

# What the frontend says of itself in every fresh installation, and what a browser says where there is no network.
NOT_OURS = (
    "/userdata",
    "user.css",
    "favicon.ico",
    "huggingface.co",
    ".sentry.io",
    "graph accessed before initialization",
    "ERR_NAME_NOT_RESOLVED",
)

READY = "!!window.LiteGraph?.registered_node_types?.PR_Sample && !!window.app?.vueAppReady"
# A warning of the console also says who has caused it, and says it every time.
WHO_WARNS = "const warn = console.warn; console.warn = (...said) => warn(...said, new Error().stack);"
REPEAT_WARNINGS = "() => { LiteGraph.alwaysRepeatWarnings = true; }"
OF_A_PACK = re.compile(r"/extensions/(?!core/)")
SMALL_GRAPH = """() => {
    const add = (type, x) => { const node = LiteGraph.createNode(type); node.pos = [x, 100]; app.graph.add(node); return node; };
    app.graph.clear();
    const [sample, detect, match] = [add("PR_Sample", 60), add("PR_DetectFaces", 460), add("PR_MatchFaces", 860)];
    const link = (from, slot, to, name) => from.connect(slot, to, to.inputs.findIndex((input) => input.name === name));
    link(sample, 0, detect, "image");
    link(detect, 0, match, "faces");
    link(sample, 1, match, "library");
    link(sample, 0, match, "image");
}"""
LONG_GRAPH = """([height]) => {
    const add = (type, x) => { const node = LiteGraph.createNode(type); node.pos = [x, 100]; app.graph.add(node); return node; };
    app.graph.clear();
    const [photo, restorer, scene, show] = [add("EmptyImage", 0), add("PR_EmbeddedRestorer", 0), add("PR_RestoreScene", 400),
        add("PreviewImage", 800)];
    restorer.pos[1] = 400;
    [photo.widgets[0].value, photo.widgets[1].value, photo.widgets[3].value] = [1800, height, 0x806040];
    const link = (from, to, name) => from.connect(0, to, to.inputs.findIndex((input) => input.name === name));
    link(photo, scene, "image");
    link(restorer, scene, "restorer");
    link(scene, show, "images");
}"""
# The links of an example in help.toml as a graph, every node right of those that it hears of; what cannot be linked comes back.
EXAMPLE = """async ([own, links]) => {
    const [nodes, lacking, gap] = [new Map(), [], 60];
    const node = type => nodes.get(type) ?? nodes.set(type, LiteGraph.createNode(type)).get(type);
    const slot = (slots, name) => slots.findIndex(one => [one.name, one.label, one.localized_name].includes(name));
    [...app.graph.nodes].forEach(one => app.graph.remove(one));  // clear() would give their numbers and pictures to others
    for (const type of links.flat().map(end => end.split(".")[0])) if (!node(type).graph) app.graph.add(node(type));
    for (const link of links) {
        const [[from, output], [to, input]] = link.map(end => end.split("."));
        const ends = [slot(node(from).outputs, output), slot(node(to).inputs, input)];
        if (ends.includes(-1) || !node(from).connect(ends[0], node(to), ends[1])) lacking.push(link.join(" -> "));
    }
    const depth = one => 1 + Math.max(-1, ...one.inputs.map((_, index) => one.getInputNode(index)).filter(Boolean).map(depth));
    for (let waited = 0; nodes.has("LoadImage") && !node("LoadImage").imgs?.length && waited < 50; waited++)
        await new Promise(done => setTimeout(done, 100));
    Object.assign(node(own), LGraphCanvas.node_colors.blue);
    const columns = [];
    for (const one of nodes.values()) (columns[depth(one)] ??= []).push(one);
    let x = 0;
    for (const column of columns) {
        let y = 0;
        for (const one of column) {
            one.setSize([Math.max(one.computeSize()[0], 270), Math.max(...[one.size, one.computeSize()].map(size => size[1]))]);
            one.pos = [x, y + LiteGraph.NODE_TITLE_HEIGHT];
            y += one.size[1] + LiteGraph.NODE_TITLE_HEIGHT + gap / 2;
        }
        x += Math.max(...column.map(one => one.size[0])) + gap;
    }
    app.canvas.deselectAll();
    const [right, bottom] = [0, 1].map(side => Math.max(...[...nodes.values()].map(one => one.pos[side] + one.size[side])));
    const scale = app.canvas.ds.scale = Math.min(1, 1380 / right, 760 / bottom);
    app.canvas.ds.offset = [120 / scale, 140 / scale];
    app.canvas.setDirty(true, true);
    return { lacking, clip: { x: 108, y: 128, width: right * scale + 24, height: bottom * scale + 24 } };
}"""


@pytest.fixture(scope="module")
def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_api.sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip("no Chromium: install one, name it in CHROMIUM, or run: playwright install chromium")
        # Where a busy machine starves the process that stands in for a graphics card, pages wait for a frame that never comes.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Frontend:
    """A page with the frontend in it; ``errors`` is what its console has said so far, and what of ours it calls deprecated."""

    def __init__(self, page, server):
        self.page, self.server, self.errors = page, server, []
        page.add_init_script(WHO_WARNS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _heard(self, message) -> None:
        text = f"{message.text} ({message.location.get('url')})"
        deprecated = message.type == "warning" and "deprecated" in text.lower() and OF_A_PACK.search(text)
        if deprecated or (message.type == "error" and not any(known in text for known in NOT_OURS)):
            self.errors.append(text)

    def open(self, nodes2: bool = False, locale: str = "en") -> None:
        address = f"http://127.0.0.1:{self.server.port}"
        settings = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": nodes2, "Comfy.Locale": locale}
        settings |= {"Comfy.NodeBadge.NodeSourceBadgeMode": "None", "Comfy.Minimap.Visible": False}
        assert self.page.request.post(f"{address}/api/settings", data=settings).ok
        self.page.goto(address)
        self.page.wait_for_function(READY)
        self.page.evaluate(REPEAT_WARNINGS)
        self.page.wait_for_timeout(2000)  # the workflow that the frontend opens by itself

    def open_templates(self) -> None:
        self.page.evaluate("window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        self.page.get_by_text(self.server.folder, exact=True).first.click()
        ours = [f"template-workflow-{name}" for name in NAMES]  # of which the list shows some, in an order of its own
        self.page.wait_for_function(
            "ours => ours.some((id) => document.querySelector(`[data-testid='${id}']`))", arg=ours
        )

    def open_template(self, name: str) -> None:
        self.open_templates()
        self.card(name).click()
        self.page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.filename === name", arg=name)
        self.page.wait_for_function("() => app.graph.nodes.some((node) => node.type.startsWith('PR_'))")

    def card(self, name: str) -> sync_api.Locator:
        """A template's card. The list grows as it is scrolled."""
        wanted = self.page.get_by_test_id(f"template-workflow-{name}")
        while not wanted.count():
            before = (cards := self.page.locator("[data-testid^='template-workflow-']")).count()
            cards.last.scroll_into_view_if_needed()
            self.page.wait_for_function(
                "before => document.querySelectorAll('[data-testid^=template-workflow-]').length > before", arg=before
            )
        return wanted

    def run(self, seconds: int = 300) -> None:
        """Presses Run, and waits until the server is done."""
        before = set(self.server.get("/history"))
        self.page.get_by_test_id("queue-button").click()
        end = time.monotonic() + seconds
        while not (done := set(self.server.get("/history")) - before):
            assert time.monotonic() < end, "the run has not finished"
            self.page.wait_for_timeout(200)
        status = self.server.get("/history")[done.pop()]["status"]
        assert status["status_str"] == "success", status["messages"]
        self.page.wait_for_timeout(1000)

    def look_at(self, kind: str, scale: float = 1.2) -> None:
        """Brings the first node of a kind into view."""
        self.page.evaluate(
            """([kind, scale]) => {
                const node = app.graph.nodes.find((node) => node.type === kind);
                app.canvas.ds.scale = scale;
                app.canvas.ds.offset = [-node.pos[0] + 260 / scale, -node.pos[1] + 120 / scale];
                app.canvas.setDirty(true, true);
            }""",
            [kind, scale],
        )
        self.page.wait_for_timeout(700)

    def screenshot(self, name: str, **options) -> None:
        if SCREENSHOTS:
            picture = Image.open(io.BytesIO(self.page.screenshot(**options))).convert("RGB")
            picture.thumbnail((1200, 1200))
            Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
            picture.save(Path(SCREENSHOTS) / f"{name}.jpg", quality=80, optimize=True)


@pytest.fixture
def frontend(comfyui, chromium) -> Iterator[Frontend]:
    pixels = (photograph()[0].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(pixels).save(comfyui.base / "input" / "example.png")  # ComfyUI comes with a picture of this name
    page = chromium.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PATIENCE)
    frontend = Frontend(page, comfyui)
    yield frontend
    page.close()
    assert not frontend.errors


def test_the_template_browser_lists_every_workflow_with_its_thumbnail(frontend):
    frontend.open()
    frontend.open_templates()
    frontend.page.wait_for_timeout(2000)
    frontend.screenshot("templates")
    for name in NAMES:
        card = frontend.card(name)
        card.scroll_into_view_if_needed()  # pictures further down are not loaded before
        picture = card.locator("img").first
        picture.wait_for()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 256


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_whole_and_means_what_its_machine_twin_says(frontend, name):
    frontend.open()
    frontend.open_template(name)
    missing = "() => app.graph.nodes.map((node) => node.type).filter((type) => !LiteGraph.registered_node_types[type])"
    assert frontend.page.evaluate(missing) == []
    # A checkpoint or a trained model that is not there is marked on the canvas, as it should be; nothing else is.
    marked = frontend.page.evaluate("() => app.graph.nodes.filter((node) => node.has_errors).map((node) => node.type)")
    kinds = {node["class_type"] for node in bundled(name).values()}
    assert set(marked) <= (kinds & (LOADERS | NAMING) if kinds & LOADERS else set())
    prompt = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert prompt == json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("path", sorted((WORKFLOWS.parent / "subgraphs").glob("*.json")), ids=lambda path: path.stem)
def test_a_blueprint_is_offered_and_means_what_runs_headless(frontend, path):
    offered = frontend.server.get("/global_subgraphs").values()
    assert [one["source"] for one in offered if one["name"] == path.stem] == ["custom_node"]
    frontend.open()
    blueprint = json.loads(path.read_text("utf-8"))
    frontend.page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", blueprint)
    (host,) = blueprint["nodes"]
    shown = frontend.page.evaluate("() => app.graph.nodes.map((node) => (node.widgets ?? []).map((one) => one.name))")
    assert shown == [[slot["name"] for slot in host["inputs"] if "widget" in slot]]
    prompt = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert prompt == to_api(blueprint, KNOWN)


@pytest.mark.parametrize(("name", "renderer"), [*((name, "canvas") for name in APPS), ("face2scene", "nodes 2.0")])
def test_app_mode_asks_for_photograph_album_and_strength_and_shows_the_result(frontend, name, renderer):
    frontend.open(nodes2=RENDERERS[renderer])
    frontend.open_template(name)
    frontend.page.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
    panel = frontend.page.get_by_test_id("linear-widgets")
    panel.wait_for()
    frontend.page.wait_for_timeout(1000)
    if (skip := frontend.page.get_by_role("button", name="Skip", exact=True)).count():  # the editor's own tour
        skip.first.click()
    asked = panel.inner_text().splitlines()
    wanted = json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))["extra"]["linearData"]["inputs"]
    assert {"image", "folder", "override", "strengths"} <= set(asked) and {name for _, name in wanted} <= set(asked)
    frontend.screenshot(f"app_{name}_{renderer.replace(' ', '')}")
    if name == "who_is_who":
        frontend.page.get_by_test_id("linear-run-button-icon").last.click()
        picture = frontend.page.get_by_test_id("linear-image-output").first
        picture.wait_for(timeout=300_000)
        frontend.screenshot("app_result")
        frontend.page.locator(".icon-\\[lucide--text\\]").first.click()
        frontend.page.get_by_text("0: Eileen Collins").wait_for()
        frontend.screenshot("app_report")


def test_a_face_is_chosen_inside_a_subgraph_and_the_choice_is_on_its_node(frontend):
    frontend.open()
    frontend.open_template("face2scene")
    frontend.run()
    frontend.page.evaluate("""() => {
        const host = app.graph.nodes.find((node) => node.isSubgraphNode?.());
        app.canvas.openSubgraph(host.subgraph, host);
    }""")
    frontend.page.wait_for_timeout(2000)  # the editor fits the whole graph into the window first
    frontend.page.evaluate("""() => {
        const match = app.canvas.graph.nodes.find((node) => node.type === "PR_MatchFaces");
        app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [260 - match.pos[0], 120 - match.pos[1]];
        app.canvas.setDirty(true, true);
    }""")
    frontend.page.locator(".pr-face").click()
    frontend.page.locator(".pr-who").select_option("nobody")
    frontend.screenshot("face_picker_subgraph")
    prompt = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    match = next(node for node in prompt.values() if node["class_type"] == "PR_MatchFaces")
    assert match["inputs"]["override"] == "0=nobody"
    saved = frontend.page.evaluate("""() => {
        const host = app.rootGraph.nodes.find((node) => node.isSubgraphNode?.());
        return app.rootGraph.serialize().nodes.find((node) => node.type === host.type);
    }""")
    assert saved["widgets_values"] == [1, "0=nobody", ""]


@pytest.mark.parametrize("name", RELEASED_NAMES)
def test_a_workflow_saved_before_inputs_were_renamed_opens_under_today_s_names(frontend, name):
    frontend.open()
    frontend.page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", released("ui", name))
    slots = "() => app.graph.nodes.flatMap((node) => (node.inputs ?? []).map((slot) => slot.name))"
    assert not {"noise_steps", "guidance"} & set(frontend.page.evaluate(slots))
    prompt = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    twin = load_graph(RELEASED / "api" / f"{name}.json")
    assert as_released(prompt, twin, KNOWN) == twin


def test_a_link_to_a_renamed_input_stays(frontend):
    """Saved by an editor that lists widgets among the inputs."""
    workflow = released("ui", "pfstorer_restore_tiled")
    base = next(node for node in workflow["nodes"] if node["type"] == "PR_DiffusionRestorer")
    number = {"id": 90, "type": "PrimitiveInt", "pos": [0, 0], "inputs": [], "widgets_values": [7, "fixed"],
              "outputs": [{"name": "INT", "type": "INT", "links": [90]}]}  # fmt: skip
    base["inputs"] = [{"name": "samples", "type": "INT", "widget": {"name": "samples"}, "link": 90}]
    workflow["nodes"].append(number)
    workflow["links"].append([90, 90, 0, base["id"], 0, "INT"])
    frontend.open()
    frontend.page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", workflow)
    prompt = frontend.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert prompt[str(base["id"])]["inputs"]["steps"] == ["90", 0]
    assert not {"samples", "noise_steps", "guidance"} & prompt[str(base["id"])]["inputs"].keys()


@pytest.mark.parametrize("name", RUN_AS_THEY_ARE)
def test_a_template_runs_from_the_browser(frontend, name):
    frontend.open(nodes2=True)
    frontend.open_template(name)
    frontend.run(1800 if name in SLOW else 300)
    frontend.page.wait_for_function("() => Object.values(app.nodeOutputs).some((shown) => shown?.images)")
    frontend.screenshot(name)
    if compared := frontend.page.evaluate("() => app.graph.nodes.some((node) => node.type === 'ImageCompare')"):
        frontend.look_at("ImageCompare", 1.4)
        node = frontend.page.evaluate("() => app.graph.nodes.find((node) => node.type === 'ImageCompare').id")
        pictures = frontend.page.locator(f"[data-node-id='{node}'] img")
        pictures.nth(1).wait_for()
        widths = pictures.evaluate_all("all => all.map((image) => image.naturalWidth)")
        assert len(widths) >= 2 and min(widths) >= 512  # one may be twice the other
        frontend.screenshot(f"{name}_compare")
    assert compared or name not in ("face2scene", "perfuse")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_face_is_chosen_by_clicking_it(frontend, renderer):
    frontend.open(nodes2=RENDERERS[renderer])
    frontend.page.evaluate(SMALL_GRAPH)
    frontend.run()
    frontend.look_at("PR_MatchFaces")
    face = frontend.page.locator(".pr-face")
    assert face.count() == 1 and face.inner_text().startswith("0 Eileen Collins")
    face.click()
    frontend.page.locator(".pr-who").select_option("nobody")
    strength = frontend.page.locator(".pr-strength")
    strength.focus()
    for _ in range(10):
        strength.press("ArrowLeft")
    frontend.screenshot(f"face_picker_{renderer.replace(' ', '')}")
    assert chosen(frontend) == {"threshold": 0, "override": "0=nobody", "strengths": "0=0.5"}

    frontend.run()
    face.wait_for()
    assert face.inner_text() == "0 ?" and face.get_attribute("data-left") == "false"
    face.click()
    frontend.page.locator(".pr-who").select_option("Eileen Collins")
    frontend.page.locator(".pr-restore").uncheck()
    assert face.get_attribute("data-left") == "true"
    assert chosen(frontend) == {"threshold": 0, "override": "0=Eileen Collins", "strengths": "0=0"}

    face.click()
    frontend.page.locator(".pr-who").select_option("")
    frontend.page.locator(".pr-restore").check()
    assert chosen(frontend) == {"threshold": 0, "override": "", "strengths": ""}


def chosen(frontend: Frontend) -> dict:
    """What the queue and the workflow file get of Match Faces; the two must say the same."""
    prompt = frontend.page.evaluate("async () => await app.graphToPrompt()")
    node = next(node for node in prompt["output"].values() if node["class_type"] == "PR_MatchFaces")
    saved = next(node for node in prompt["workflow"]["nodes"] if node["type"] == "PR_MatchFaces")
    widgets = {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
    assert saved["widgets_values"] == list(widgets.values())
    return widgets


def test_choices_come_back_with_a_saved_workflow(frontend):
    """The picture is gone after a reload; the next run brings it back, though nothing has to be computed again."""
    frontend.open()
    frontend.page.evaluate(SMALL_GRAPH)
    frontend.run()
    frontend.page.locator(".pr-face").click()
    frontend.page.locator(".pr-restore").uncheck()
    frontend.run()
    saved = frontend.page.evaluate("() => app.graph.serialize()")
    frontend.open()
    frontend.page.evaluate("async saved => await app.loadGraphData(saved)", saved)
    assert chosen(frontend)["strengths"] == "0=0"
    frontend.run()
    frontend.look_at("PR_MatchFaces")
    assert frontend.page.locator(".pr-face").get_attribute("data-left") == "true"


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_help_opens_in_the_language_of_the_user(frontend, locale):
    frontend.open(locale=locale)
    frontend.page.evaluate(SMALL_GRAPH)
    frontend.look_at("PR_MatchFaces")
    frontend.page.evaluate("() => app.canvas.selectNode(app.graph.nodes.find((node) => node.type === 'PR_MatchFaces'))")
    frontend.page.get_by_test_id("info-button").click()
    heading = frontend.page.locator(".node-help-content h1")
    heading.wait_for()
    names = json.loads((WORKFLOWS.parent / "locales" / locale / "nodeDefs.json").read_text("utf-8"))
    assert heading.inner_text() == names["PR_MatchFaces"]["display_name"]
    picture = frontend.page.locator(".node-help-content img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 600
    if locale == "en":
        frontend.screenshot("help")


def test_every_node_has_its_help_page_where_the_frontend_asks_for_it(frontend):
    frontend.open()
    asked = """async (ids) => {
        const lacking = [];
        const known = await (await fetch("/api/object_info")).json();
        for (const id of ids) {
            const folder = known[id].python_module.split(".")[1].split("@")[0];
            for (const page of [`${id}.md`, `${id}/en.md`, `${id}/zh.md`]) {
                const answer = await fetch(`/extensions/${folder}/docs/${page}`);
                if (!answer.ok || !(await answer.text()).startsWith("# ")) lacking.push(page);
            }
        }
        return lacking;
    }"""
    assert frontend.page.evaluate(asked, [node.define_schema().node_id for node in NODES]) == []


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_node_that_works_long_shows_what_is_finished(frontend, renderer):
    frontend.open(nodes2=RENDERERS[renderer])
    frontend.page.evaluate(LONG_GRAPH, [1000 + 8 * RENDERERS[renderer]])
    frontend.look_at("PR_RestoreScene", 1.0)
    frontend.page.get_by_test_id("queue-button").click()
    frontend.page.wait_for_function("() => Object.keys(app.nodePreviewImages).length", timeout=120_000)
    frontend.page.wait_for_timeout(500)
    working = frontend.page.evaluate("() => app.graph.nodes.find((node) => node.type === 'PR_RestoreScene').id")
    assert frontend.page.evaluate("() => Object.keys(app.nodePreviewImages)") == [str(working)]
    frontend.screenshot(f"preview_{renderer.replace(' ', '')}")
    frontend.page.wait_for_function(
        "() => app.graph.nodes.some((node) => app.nodeOutputs[node.id]?.images)", timeout=120_000
    )


def test_the_examples_of_the_help_can_be_wired_and_are_the_pictures_of_its_pages(frontend):
    frontend.open()
    help = tomllib.loads((WORKFLOWS.parent / "cli" / "tools" / "help.toml").read_text("utf-8"))
    for node in (node.define_schema().node_id for node in NODES):
        drawn = frontend.page.evaluate(EXAMPLE, [node, [link.split(" -> ") for link in help[node]["example"]]])
        assert drawn["lacking"] == [], node
        if HELP_PICTURES:
            frontend.page.wait_for_timeout(700)
            Path(HELP_PICTURES).mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(frontend.page.screenshot(clip=drawn["clip"]))).convert("RGB")
            picture.thumbnail((1000, 1000))
            picture.save(Path(HELP_PICTURES) / f"{node}.webp", quality=60, method=6)

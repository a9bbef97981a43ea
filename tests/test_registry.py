"""What the Comfy registry and ComfyUI's Manager read: pyproject.toml, once the publish workflow has filled in the address."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from personal_restore.cli.tools.registry import with_registry_fields
from PIL import Image

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "pyproject.toml").read_text("utf-8")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads(with_registry_fields(TEXT, "https://github.com/somebody/personal-restore.git"))


def test_every_field_of_the_registry_is_there(project):
    about, comfy = project["project"], project["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,98}[a-z0-9]", about["name"]) and "comfyui" not in about["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"])
    assert about["description"] and about["license"] and about["requires-python"]
    assert "Operating System :: OS Independent" in about["classifiers"]
    assert about["urls"]["Repository"] == "https://github.com/somebody/personal-restore"
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"] == ">=0.28.0"
    assert "web" not in comfy, "WEB_DIRECTORY registers the folder; this would do it again under another name"


def test_icon_and_banner_have_the_shapes_of_the_registry(project):
    address = "https://raw.githubusercontent.com/somebody/personal-restore/main/"
    sizes = {}
    for field in ("Icon", "Banner"):
        path = project["tool"]["comfy"][field].removeprefix(address)
        sizes[field] = Image.open(ROOT / path).size
    assert sizes["Icon"] == (400, 400)
    assert sizes["Banner"][0] * 9 == sizes["Banner"][1] * 21


@pytest.mark.parametrize("address", ["", "github.com/a/b", "https://github.com/a", 'https://github.com/a/b"\nx = "'])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="not an address"):
        with_registry_fields(TEXT, address)


def test_nothing_is_filled_in_twice():
    once = with_registry_fields(TEXT, "https://github.com/a/b")
    with pytest.raises(ValueError, match="already"):
        with_registry_fields(once, "https://github.com/a/b")


def test_the_package_carries_everything_that_the_nodes_need_at_run_time():
    """What setuptools and .comfyignore leave out must not be a file that ComfyUI or a node reads."""
    patterns = tomllib.loads(TEXT)["tool"]["setuptools"]["package-data"]["personal_restore"]
    packed = {path for pattern in patterns for path in ROOT.glob(pattern)}
    needed = {
        path
        for folder in ("nodes/web", "workflows", "subgraphs", "locales", "models/embedded")
        for path in (ROOT / folder).rglob("*")
    }
    assert {path for path in needed if path.is_file() and path.suffix not in (".py", ".pyc")} <= packed


def tracked(*options: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return set(listed.stdout.splitlines())


def reached(start: tuple[str, ...], modules: dict[tuple[str, ...], str]) -> set[tuple[str, ...]]:
    """Every module that one imports, wherever it does, by the parts of its path."""
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in found or path not in modules:
            continue
        found.add(path)
        package = path if (ROOT.joinpath(*path) / "__init__.py").is_file() else path[:-1]
        for node in ast.walk(ast.parse(modules[path])):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = (*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ()))
                waiting += [base, *((*base, name.name) for name in node.names)]
        waiting += [path[:length] for length in range(1, len(path))]
    return found


def test_the_archive_holds_what_the_nodes_import_and_no_command_line_benchmark_or_test():
    shipped = tracked() - tracked("--cached", "--ignored", "--exclude-from=.comfyignore")
    sources = {name for name in shipped if name.endswith(".py")}
    every = {name for name in tracked("*.py") if not name.startswith(("tests/", "cli/tools/"))}
    parts = {name: Path(name).with_suffix("").parts for name in every}
    names = {name: part[:-1] if part[-1] == "__init__" else part for name, part in parts.items()}
    modules = {part: (ROOT / name).read_text("utf-8") for name, part in names.items()}
    found = reached((), modules)
    needed = {name for name, part in names.items() if part in found}
    assert len(needed) > 100 and needed <= sources
    assert {name for name in sources if name.startswith("training/")} <= needed, "training that no node starts"
    unwanted = ("run.py", "tests/", "cli/", ".github/", ".ci/", "training/album/")
    assert not [name for name in shipped if name.startswith(unwanted)]
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "workflows/face2scene.json"} <= shipped
    assert any(name.startswith("subgraphs/") for name in shipped)


def test_a_text_that_users_of_the_archive_read_says_where_the_command_line_is():
    """The archive has none: a text names a node, or says that a copy of the repository is needed."""
    shipped = tracked() - tracked("--cached", "--ignored", "--exclude-from=.comfyignore")
    rooms = ("nodes/", "models/", "lib/", "locales/", "workflows/", "subgraphs/")
    texts = [name for name in shipped if name.startswith(rooms) and name.endswith((".py", ".js", ".json", ".md"))]
    lines = [
        line
        for name in texts
        if not name.startswith("models/embedded/")  # how the embedded weights were made
        # A long text is written as several, one after the other.
        for line in re.sub(r'"\s+f?"', "", (ROOT / name).read_text("utf-8")).splitlines()
        if "run.py" in line
    ]
    assert len(lines) >= 3, "the help of Train Face2Scene"
    assert not [line for line in lines if "copy of the repository" not in line and "代码仓库的副本" not in line]


def test_no_source_breaks_a_rule_of_the_registry():
    """No exec, no eval, no pip at run time, no two statements on a line; run.py installs, and never runs inside ComfyUI."""
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    shipped = [name for name in tracked.stdout.split() if not name.startswith(("tests/", "cli/tools/"))]
    assert len(shipped) > 50
    for name in shipped:
        text = (ROOT / name).read_text("utf-8")
        assert not re.search(r"(?<![\w.])(exec|eval)\(", text), name
        assert name == "run.py" or not re.search(r"""["']pip["']|os\.system\(""", text), name

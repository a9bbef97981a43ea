"""Which room may know which: imports lead downward, so that no room needs one that needs it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# From the bottom to the top. A room may import itself and the rooms of the lines above it, never its own line's or a lower one's.
LEVELS = (
    ("lib/vocabulary",),
    ("lib/storage", "lib/pictures", "lib/extras", "lib/renamed_inputs"),
    ("lib/standin",),
    ("lib/bridge",),
    ("lib/faces", "lib/diffusion", "lib/samples"),
    ("lib/fusion", "lib/degradation"),
    ("lib/restoring", "lib/report", "lib/measure", "lib/ablation"),
    ("models/pfstorer", "models/ransacflow", "models/yolo"),
    ("models/personas",),
    ("models/shared",),
    ("models/s3diff", "models/faceme", "models/instantrestore", "models/gen2res", "models/upscale"),
    ("models/diffbir", "models/stablesr"),
    ("models/embedded",),
    ("models/face2scene", "models/album"),
    ("models/old_photo",),
    ("training",),
    ("nodes",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# Who may know that there is a host. Everything else is given what it needs.
KNOW_THE_BRIDGE = {"models/shared", "nodes", "cli"}
KNOW_THE_STANDIN = {"lib/bridge", "cli"}
SHARED_OUT = "lib", "models"  # folders whose parts are rooms of their own


def room_of(path: tuple[str, ...]) -> str:
    """The room of a module, by the parts of its path below the pack: ``lib/faces``, ``models/s3diff``, ``nodes``."""
    return "/".join(path[:2]) if path[0] in SHARED_OUT else path[0]


def imports(source: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module imports of the pack, wherever it does, as parts of paths. path: its own, without the ending."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*path[: len(path) - node.level], *(node.module.split(".") if node.module else ()))
            # `from ..lib import samples` names rooms; `from .lora import attach` a module.
            yield from [(*base, name.name) for name in node.names] if len(base) < 2 else [base]


def faults(modules: dict[tuple[str, ...], str]) -> list[str]:
    """What the sources of modules import against the rules, one line each."""
    found = []
    for path, source in modules.items():
        own = room_of(path)
        if own not in LEVEL:
            found.append(f"{'/'.join(path)}: {own} has no level")
            continue
        for target in imports(source, path):
            other = room_of(target)
            if other == own:
                continue
            where = f"{'/'.join(path)} imports {'/'.join(target)}"
            if other not in LEVEL:
                found.append(f"{where}: {other} has no level")
            elif LEVEL[other] >= LEVEL[own]:
                found.append(f"{where}: {other} is not below {own}")
            elif (other == "lib/bridge" and own not in KNOW_THE_BRIDGE) or (
                other == "lib/standin" and own not in KNOW_THE_STANDIN
            ):
                found.append(f"{where}: {own} is not to know the host")
    return found


def pack() -> dict[tuple[str, ...], str]:
    """Every module in a room, by its path; scripts for developers apart."""
    files = [path for folder in (*SHARED_OUT, "training", "nodes", "cli") for path in (ROOT / folder).rglob("*.py")]
    files = [path for path in files if path.parent != ROOT / "cli" / "tools" and path.stat().st_size]
    return {path.relative_to(ROOT).with_suffix("").parts: path.read_text("utf-8") for path in files}


def test_imports_lead_downward():
    modules = pack()
    assert len(modules) > 150
    assert not faults(modules)


def test_a_violation_is_seen():
    sources = {
        ("lib", "faces", "detect"): "def f():\n    from ...models.s3diff.network import load_s3diff\n",
        (
            "models",
            "s3diff",
            "network",
        ): "from ..shared import sd_turbo\nfrom ...nodes import s3diff\nfrom . import de_net",
        ("models", "shared", "sd_turbo"): "from ..s3diff.network import load_s3diff",
        ("lib", "pictures", "tiles"): "from ..storage.whole import whole\nfrom ..vocabulary import UserError",
        ("lib", "fusion", "blend"): "from .. import samples\nfrom ..bridge import keep",
        ("training", "loop"): "from ..lib.standin.host import device",
        ("attic", "old"): "",
    }
    assert faults(sources) == [
        "lib/faces/detect imports models/s3diff/network: models/s3diff is not below lib/faces",
        "models/s3diff/network imports nodes/s3diff: nodes is not below models/s3diff",
        "models/shared/sd_turbo imports models/s3diff/network: models/s3diff is not below models/shared",
        "lib/pictures/tiles imports lib/storage/whole: lib/storage is not below lib/pictures",
        "lib/fusion/blend imports lib/bridge: lib/fusion is not to know the host",
        "training/loop imports lib/standin/host: training is not to know the host",
        "attic/old: attic has no level",
    ]


def test_the_top_level_stays_small():
    """What a stranger sees first: sixteen entries at most, hidden ones and what git ignores apart."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()}
    shown = [path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name not in ignored]
    assert len(shown) <= 16, sorted(shown)

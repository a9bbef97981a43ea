"""Fills in the fields of ``pyproject.toml`` that contain the repository's address, which the Comfy registry needs.

``python cli/tools/registry.py https://github.com/OWNER/NAME`` writes the links, and the addresses of icon and banner. The publish
workflow runs it, so that a fork publishes its own address and the sources carry none.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def with_registry_fields(text: str, repository: str) -> str:
    """pyproject.toml with the fields. Raises ValueError for an invalid address, or if a field already exists."""
    named = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", repository)
    if not named:
        raise ValueError(f"{repository!r} is not an address of the form https://github.com/OWNER/NAME")
    if "[project.urls]" in text:
        raise ValueError("pyproject.toml has [project.urls] already")
    home, raw = f"https://github.com/{named[1]}", f"https://raw.githubusercontent.com/{named[1]}/main/docs"
    urls = f"""[project.urls]
Repository = "{home}"
Documentation = "{home}/blob/main/docs/guide.md"
"Bug Tracker" = "{home}/issues"

[tool.comfy]
Icon = "{raw}/icon.png"
Banner = "{raw}/banner.png"
"""
    return text.replace("[tool.comfy]\n", urls, 1)


if __name__ == "__main__":
    project = ROOT / "pyproject.toml"
    try:
        project.write_text(with_registry_fields(project.read_text("utf-8"), sys.argv[1]), "utf-8", newline="\n")
    except (IndexError, ValueError) as error:
        sys.exit(f"python cli/tools/registry.py ADDRESS: {error}")

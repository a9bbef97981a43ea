"""Published settings of a restorer beside those that are quick: what its node's ``preset`` puts in place of the widgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..lib.bridge import io
from ..lib.vocabulary import UserError

OWN, QUICK, PUBLISHED = "own", "quick", "published"
Presets = Mapping[str, Mapping[str, Any]]


def preset_input(presets: Presets, source: str) -> io.Input:
    """presets: name -> inputs of the node and their values; source: where the published ones are from."""
    return io.Combo.Input(
        "preset",
        options=[OWN, *presets],
        default=OWN,
        optional=True,
        tooltip=f"own: the settings of this node. The others take the place of some of them. quick: a fast look. published: {source}",
    )


def with_preset(node: str, presets: Presets, preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a node after its preset. Raises UserError for a preset that it does not have."""
    if preset != OWN and preset not in presets:
        raise UserError(f"{node}: there is no preset {preset!r}. Choose one of {', '.join((OWN, *presets))}.")
    return {**given, **presets.get(preset, {})}

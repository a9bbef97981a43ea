"""Means, standard errors and the table of ``bench faces``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

MISSED, NOBODY = "-", "nobody"
# Families whose pictures should stay as they are.
GOOD = ("clean", "light")
ALL, FOUND = "all", "all found"
# Larger is better for these; the distances should fall.
RISING = ("psnr", "ssim")
NAMES = {"psnr": "PSNR", "ssim": "SSIM", "truth": "distance"}


@dataclass(frozen=True)
class Row:
    """One face under one damage.

    set: "people" or "pairs"; found: who the face was taken for, or ``NOBODY``, or ``MISSED``; confidence, doubt: see ``Face``; proposed:
    as found, without any embedding network; coded: a degradation code could be read.
    scores: for each method psnr, ssim, distances to the truth and to the album (mean), and what separates it from the
    damaged picture: kept (PSNR) and moved (distance). refused: methods that did not recognize the person, and the others
    that match. wrong, lookalike: whose albums those were. asked: the methods wanted, also those that did not apply; tiles:
    of the strip of pictures.
    """

    set: str
    person: str
    file: str
    size: int
    family: str
    draw: int
    found: str = MISSED
    confidence: float = 0.0
    doubt: str = ""
    proposed: str = MISSED
    coded: bool = False
    wrong: str = ""
    lookalike: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: dict[str, bool] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    tiles: tuple[str, ...] = ()

    @property
    def key(self) -> tuple:
        return self.set, self.person, self.file, self.size, self.family, self.draw

    def worse(self, method: str, than: str = "scene") -> list[str]:
        """What a method did not improve, compared with another."""
        own, other = self.scores[method], self.scores[than]
        return [
            f"{name} than {than}"
            for measure, name in NAMES.items()
            if not (own[measure] > other[measure] if measure in RISING else own[measure] < other[measure])
        ]


def main_method(rows: Sequence[Row]) -> str | None:
    """The best album method that was computed."""
    return next(
        (name for name in ("gate", "fusion", "matched", "old") if any(name in row.scores for row in rows)), None
    )


def faces_summary(rows: Sequence[Row]) -> list[dict]:
    """One entry per set, size and family, then per size over all families, then per set over everything;
    over all again without the faces that were not found, if there are any."""
    ordered: Callable[[str], list] = lambda name: list(dict.fromkeys(getattr(row, name) for row in rows))  # noqa: E731
    cells = []
    for one in ordered("set"):
        sizes = sorted({row.size for row in rows if row.set == one})
        for size in [*sizes, ALL]:
            for family in [*ordered("family"), ALL, FOUND] if size != ALL else [ALL, FOUND]:
                chosen = [r for r in rows if r.set == one and size in (r.size, ALL) and _family(r, family)]
                alone = family == ALL != size and len({row.family for row in chosen}) < 2
                repeats = family == FOUND and bool(cells) and cells[-1]["faces"] == len(chosen)
                if chosen and not alone and not repeats:
                    cells.append({"set": one, "size": size, "family": family} | cell(chosen))
    return cells


def _family(row: Row, family: str) -> bool:
    """Undamaged pictures would hide in a mean what damaged ones gain."""
    every = family == ALL or (family == FOUND and row.found != MISSED)
    return row.family == family or (every and row.family not in GOOD)


def cell(rows: Sequence[Row]) -> dict:
    """How many faces were found and known, and the figures of each method."""
    known = [row for row in rows if row.found == row.person]
    mistaken = [row for row in rows if row.found not in (MISSED, NOBODY, row.person)]
    methods = list(dict.fromkeys(name for row in rows for name in row.scores))
    return {
        "faces": len(rows),
        "found": sum(row.found != MISSED for row in rows),
        "coded": sum(row.coded for row in rows),
        "known": len(known),
        "known_in_doubt": sum(bool(row.doubt) for row in known),
        "mistaken": len(mistaken),
        "mistaken_in_doubt": sum(bool(row.doubt) for row in mistaken),
        "proposed_rightly": sum(row.proposed == row.person for row in rows),
        "proposed_wrongly": sum(row.proposed not in (MISSED, NOBODY, row.person) for row in rows),
        "methods": {name: method(rows, name) for name in methods},
    }


def method(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Means with standard errors; against the scene restorer: gain in PSNR and SSIM, ratio of distances, share nearer."""
    rows = [row for row in rows if name in row.scores]
    values = {one: np.array([row.scores[name][one] for row in rows]) for one in rows[0].scores[name]}
    out: dict[str, float] = {"count": len(rows)}
    for one in ("psnr", "ssim", "truth", "album"):
        out[one], out[f"{one}_error"] = mean_and_error(values[one])
    out |= {"kept": mean_and_error(values["kept"])[0], "least_kept": round(float(values["kept"].min()), 4)}
    out |= {"moved": mean_and_error(values["moved"])[0], "most_moved": round(float(values["moved"].max()), 4)}
    if all("scene" in row.scores for row in rows):
        before = {one: np.array([row.scores["scene"][one] for row in rows]) for one in ("psnr", "ssim", "truth")}
        for one in RISING:
            out[f"{one}_gain"], out[f"{one}_gain_error"] = mean_and_error(values[one] - before[one])
        out["ratio"], out["ratio_error"] = ratio(values["truth"], before["truth"])
        out["nearer"] = round(float(np.mean(values["truth"] < before["truth"])), 4)
        out["worse"] = {
            word: sum(any(text.startswith(word) for text in row.worse(name)) for row in rows) for word in NAMES.values()
        }
    asked = [row.refused[name] for row in rows if name in row.refused]
    return out | ({"refused": round(float(np.mean(asked)), 4)} if asked else {})


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Rounded; the error is 0 for a single value."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
    return round(float(np.mean(values)), 4), round(error, 4)


def ratio(values: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """Ratio of two paired means with its standard error (delta method)."""
    base = float(np.mean(before))
    if base <= 0:
        return 1.0, 0.0
    found = float(np.mean(values)) / base
    error = mean_and_error(values - found * before)[1] / base
    return round(found, 4), round(error, 4)


def worst(rows: Sequence[Row], count: int = 10) -> list[Row]:
    """The faces that the best album method moved furthest from the truth, compared with the scene restorer."""
    name = main_method(rows)
    rows = [row for row in rows if name in row.scores and "scene" in row.scores]
    harm = lambda row: row.scores["scene"]["truth"] - row.scores[name]["truth"]  # noqa: E731
    return sorted(rows, key=harm)[:count]


def table(figures: dict) -> str:
    """The human-readable table: all methods per set, size and family, then who was found and the worst faces."""
    head = f"{'set':8}{'px':>4} {'family':12}{'n':>4} {'method':14}{'PSNR':>14}{'SSIM':>15}{'to truth':>15}{'to album':>15}"
    lines = [head + f"{'ratio':>13}{'nearer':>8}"]
    for one in figures["cells"]:
        where = f"{one['set']:8}{one['size']:>4} {one['family']:12}"
        for name, f in one["methods"].items():
            lines.append(f"{where}{f['count']:4} {name:14}" + _numbers(f))
            where = " " * 25
        if one["family"] in GOOD:
            lines += [
                f"{'':30}{name:14}from itself: PSNR {f['kept']:.1f} (least {f['least_kept']:.1f}), "
                f"distance {f['moved']:.3f} (most {f['most_moved']:.3f})"
                for name, f in one["methods"].items()
                if name != "damaged"
            ]
    lines += ["", *(line for one in figures["cells"] if one["size"] == one["family"] == ALL for line in _who(one))]
    lines += [f"{count} faces were left out: {reason}." for reason, count in figures["left_out"].items() if count]
    if figures["worst"]:
        lines += ["", "Worst faces of the best album method (distance to the truth; what it did not improve):"]
        lines += [
            f"  {one['face']:44.44}{one['before']:.3f} -> {one['after']:.3f}  {one['worse']}"
            for one in figures["worst"]
        ]
    lines += [
        "",
        "PSNR, SSIM and distances of dlib's descriptors with standard errors; ratio and nearer: distance to the",
    ]
    return "\n".join([*lines, "truth compared with the scene restorer's. 'all' leaves undamaged families out."])


def _numbers(f: dict) -> str:
    parts = [f"{f['psnr']:8.2f} +-{f['psnr_error']:.2f}".rjust(14)]
    parts += [f"{f[one]:.3f} +-{f[f'{one}_error']:.3f}".rjust(15) for one in ("ssim", "truth", "album")]
    if "ratio" in f and (f["ratio"], f["nearer"]) != (1, 0):  # says nothing about the scene restorer itself
        parts.append(f"{f['ratio']:.2f} +-{f['ratio_error']:.2f}".rjust(13) + f"{f['nearer']:8.0%}")
    if "refused" in f:
        parts.append(f"  not recognized {f['refused']:.0%}")
    return "".join(parts)


def _who(one: dict) -> list[str]:
    known = f"{one['known']} known ({one['known_in_doubt']} in doubt)"
    mistaken = f"{one['mistaken']} mistaken ({one['mistaken_in_doubt']} in doubt)"
    lines = [
        f"{one['set']}: of {one['faces']} faces {one['found']} found, {one['coded']} with a code, {known}, {mistaken};"
    ]
    right, wrong = one["proposed_rightly"], one["proposed_wrongly"]
    return [*lines, f"  proposed without an embedding network: {right} rightly, {wrong} wrongly"]

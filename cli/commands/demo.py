"""``run.py demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"


def add(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="restore a sample photograph; results go to output/demo")
    demo.add_argument("--out", type=Path, default=Path("output/demo"))
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from ...lib.standin.graph import load_graph
    from ..demo import demo

    report = demo(load_graph(WORKFLOWS / "face2scene.json"), options.out)
    quality = report["quality"]
    print(f"\n{report['note']}")
    print(f"Damage: {report['damage']['words'] if report['damage'] else 'not estimated'}")
    for name, figures in (("whole picture", quality), ("face", quality.get("face"))):
        if figures:
            print(
                f"{name}: PSNR {figures['psnr_before']:.2f} -> {figures['psnr_after']:.2f} dB, "
                f"SSIM {figures['ssim_before']:.3f} -> {figures['ssim_after']:.3f}"
            )
    if face := quality["without_album"].get("face"):
        print(f"face without the album: PSNR {face['psnr_after']:.2f} dB, SSIM {face['ssim_after']:.3f}")
    print(f"The pictures are in {options.out.resolve()}: restored.png, comparison.png; the figures in report.json.")
    return 0

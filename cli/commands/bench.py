"""``run.py bench``: what the pack does, measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

from ...lib.extras import require
from ...lib.vocabulary import UserError


def add(commands: argparse._SubParsersAction) -> None:
    bench = commands.add_parser("bench", help="measure what the pack does").add_subparsers(
        required=True, metavar="SUBJECT"
    )
    for add_subject in SUBJECTS:
        add_subject(bench).add_argument("--json", type=Path, help="write the figures here, too")


def _add_quality(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    quality = bench.add_parser("quality", help="restoration quality of the embedded weights")
    quality.add_argument("--photos", type=Path, help="a folder of undamaged photographs (default: the sample portrait)")
    quality.add_argument("--side", type=int, default=1024, help="longest side of the photographs (default: 1024)")
    quality.add_argument("--draws", type=int, default=2, help="damaged versions per photograph and family (default: 2)")
    quality.add_argument(
        "--out", type=Path, default=Path("output/bench"), help="folder for the grid, the plot and the figures"
    )
    quality.set_defaults(run=_bench_quality)
    return quality


def _add_tokens(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    tokens = bench.add_parser("tokens", help="what a finer grid of tokens is worth for small faces")
    tokens.add_argument("--photos", type=Path, help="a folder of undamaged photographs (default: the sample portrait)")
    tokens.add_argument("--side", type=int, default=384, help="longest side of the photographs (default: 384)")
    tokens.add_argument("--draws", type=int, default=1, help="damaged versions per photograph (default: 1)")
    tokens.set_defaults(run=_bench_tokens)
    return tokens


def _add_faces(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    faces = bench.add_parser(
        "faces",
        help="known faces with synthetic damage, restored from their albums",
        description="Every picture in turn is damaged and restored with the person's other pictures as the album. An "
        "interrupted run continues if it is started again with the same --out.",
    )
    faces.add_argument("--photos", type=Path, help="a folder with one subfolder of pictures per person")
    faces.add_argument(
        "--sizes",
        type=_numbers,
        default=(24, 48, 96, 192),
        metavar="N,N",
        help="widths of the face in pixels, separated by commas (default: 24,48,96,192)",
    )
    faces.add_argument(
        "--families",
        type=_words,
        default=("trial", "codeformer", "diffbir", "s3diff_x4"),
        metavar="NAME,NAME",
        help="families of damage (default: trial,codeformer,diffbir,s3diff_x4). codeformer, diffbir, dual_pivot and "
        "faceme are made for face crops of 512 pixels and are scaled to the size of the face",
    )
    faces.add_argument(
        "--methods",
        type=_words,
        default=(),
        metavar="NAME,NAME",
        help="what to compare: damaged, scene, old, fusion, gate, wrong, lookalike, matched, matched_wrong, truth_help "
        "(default: the first six; gate only if its weights are installed)",
    )
    faces.add_argument("--draws", type=int, default=1, help="damaged versions per combination (default: 1)")
    faces.add_argument("--most", type=int, default=0, help="at most this many faces, sampled evenly (default: 0, all)")
    faces.add_argument(
        "--pairs",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="also measure pairs of portraits from different years: the folders CONGRESS SENATE HOUSE, or a JSON file of "
        "pairs. --most applies to them separately",
    )
    faces.add_argument(
        "--out", type=Path, default=Path("output/bench/faces"), help="folder for the rows, the figures and the pictures"
    )
    faces.set_defaults(run=_bench_faces)
    return faces


def _add_keep(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    keep = bench.add_parser("keep", help="faces that a simulated editing model has changed, given back to their people")
    keep.add_argument("--photos", type=Path, required=True, help="a folder with one subfolder of pictures per person")
    keep.add_argument(
        "--most", type=int, default=24, help="at most this many faces, from all people in turn (default: 24)"
    )
    keep.add_argument("--width", type=int, default=96, help="of the damaged face, in pixels (default: 96)")
    keep.add_argument(
        "--kinds",
        type=_words,
        default=("face", "color", "enlarged", "warp", "crop", "all"),
        metavar="NAME,NAME",
        help="what the editing model did beside the face (default: face,color,enlarged,warp,crop,all)",
    )
    keep.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the grid and the figures")
    keep.set_defaults(run=_bench_keep)
    return keep


def _add_old(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    old = bench.add_parser("old", help="drawn damage of old photographs: found, filled, and faded colors undone")
    old.add_argument("--photos", type=Path, help="a folder of undamaged photographs (default: the sample portrait)")
    old.add_argument("--real", type=Path, help="a folder of scans of damaged prints, which are shown without figures")
    old.add_argument("--side", type=int, default=768, help="longest side of the photographs (default: 768)")
    old.add_argument("--draws", type=int, default=1, help="damaged versions per photograph (default: 1)")
    old.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the pictures and the figures")
    old.set_defaults(run=_bench_old)
    return old


def _add_evidence(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    evidence = bench.add_parser(
        "evidence", help="foreign details in a restoration, found by comparing it with the photograph"
    )
    evidence.add_argument(
        "--photos", type=Path, required=True, help="a folder with one subfolder of pictures per person"
    )
    evidence.add_argument(
        "--most", type=int, default=16, help="at most this many faces, from all people in turn (default: 16)"
    )
    evidence.add_argument("--width", type=int, default=96, help="of the damaged face, in pixels (default: 96)")
    evidence.add_argument("--family", default="trial", help="family of damage (default: trial)")
    evidence.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the picture")
    evidence.set_defaults(run=_bench_evidence)
    return evidence


def _add_blend(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    blend = bench.add_parser("blend", help="time, memory and seams of blending")
    blend.set_defaults(run=_bench_blend)
    return blend


def _add_batch(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    batch = bench.add_parser("batch", help="time, memory and cancels of batches")
    batch.set_defaults(run=_bench_batch)
    return batch


def _add_context(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    context = bench.add_parser(
        "context", help="the effect of the context around a blended face, as in PerFuSe's figure S1"
    )
    context.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the picture")
    context.set_defaults(run=_bench_context)
    return context


def _add_fullsize(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    fullsize = bench.add_parser("fullsize", help="time and memory of the full-size network with random weights")
    fullsize.set_defaults(run=_bench_fullsize)
    return fullsize


def _add_personas(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    personas = bench.add_parser(
        "personas", help="faces restored with their persona, without one, and with another person's"
    )
    personas.add_argument(
        "--photos", type=Path, required=True, help="a folder with one subfolder of pictures per person"
    )
    personas.add_argument("--methods", nargs="+", default=["dual_pivot", "album", "adapter"], help="which to compare")
    personas.add_argument("--steps", type=int, default=150, help="training steps per stage (default: 150)")
    personas.add_argument("--draws", type=int, default=2, help="damaged versions per photograph (default: 2)")
    personas.add_argument(
        "--out", type=Path, default=Path("output/bench"), help="folder for the picture and the figures"
    )
    personas.add_argument(
        "--plots",
        action="store_true",
        help="instead, plot the papers' main effects at small scale; resumes an earlier run",
    )
    personas.add_argument(
        "--minutes",
        type=float,
        default=60.0,
        help="with --plots: start nothing new after this many minutes (default: 60)",
    )
    personas.set_defaults(run=_bench_personas)
    return personas


def _add_scale(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    scale = bench.add_parser(
        "scale", help="what a folder of photographs costs beside their restoration, and what kills lose"
    )
    scale.add_argument(
        "--counts",
        type=_numbers,
        default=(2000, 20_000, 200_000),
        metavar="N,N",
        help="photographs (default: 2000,20000,200000)",
    )
    scale.add_argument("--kills", type=int, default=20, help="of each run at random moments (default: 20)")
    scale.add_argument(
        "--ways",
        type=int,
        metavar="N",
        help="instead, compare the ways to restore N small photographs (2000, for example)",
    )
    scale.add_argument(
        "--servers", default="", metavar="URL,URL", help="compare, or kill, with these ComfyUI servers, too"
    )
    scale.add_argument("--ray", action="store_true", help="compare, or kill, with a Ray cluster on this machine, too")
    scale.set_defaults(run=_bench_scale)
    return scale


def _add_clip(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    clip = bench.add_parser("clip", help="how much a restored clip flickers, with and without tracking")
    clip.add_argument("--frames", type=int, default=60, help="of the clip (default: 60)")
    clip.add_argument("--side", type=int, default=192, help="of a frame, in pixels (default: 192)")
    clip.add_argument("--workflow", default="face2scene", help="a bundled one (default: face2scene)")
    clip.add_argument("--out", type=Path, help="a folder for the frames: undamaged, damaged, tracked, each by itself")
    clip.set_defaults(run=_bench_clip)
    return clip


def _add_soak(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    soak = bench.add_parser("soak", help="memory, open files and cancelling of a real ComfyUI over many runs")
    soak.add_argument(
        "--comfyui", type=Path, required=True, help="the folder of a ComfyUI with its requirements installed"
    )
    soak.add_argument(
        "--workflows", type=_words, metavar="NAME,NAME", help="which (default: all that need no other weights)"
    )
    soak.add_argument("--runs", type=int, default=200, help="of every workflow (default: 200)")
    soak.add_argument("--seed", type=int, default=0, help="of the moments of cancelling (default: 0)")
    soak.set_defaults(run=_bench_soak)
    return soak


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _add_speed(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    kinds = ("first_picture", "imports", "scene", "detection", "faces", "album", "training")
    speed = bench.add_parser(
        "speed",
        help="processor time and memory, beside those of an older checkout",
        description="Every figure is the median of several processes of its own. With --before, those of both checkouts take turns.",
    )
    speed.add_argument("--before", type=Path, metavar="CHECKOUT", help="a folder with an older commit of this pack")
    speed.add_argument("--runs", type=int, default=5, help="processes for each figure (default: 5)")
    speed.add_argument(
        "--figures",
        nargs="+",
        choices=kinds,
        default=kinds,
        metavar="FIGURE",
        help=f"of {', '.join(kinds)} (default: all)",
    )
    speed.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    speed.add_argument(
        "--comfyui", type=Path, metavar="DIR", help="a ComfyUI, to measure what the pack adds to its start"
    )
    speed.set_defaults(run=_bench_speed)
    return speed


def _add_peers(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    peers = bench.add_parser("peers", help="other restorers on the same photographs and damage: quality, time, memory")
    peers.add_argument("--photos", type=Path, help="a folder of undamaged photographs (default: the sample portrait)")
    peers.add_argument("--side", type=int, default=384, help="longest side of the photographs (default: 384)")
    peers.add_argument("--draws", type=int, default=1, help="damaged versions per photograph and damage (default: 1)")
    peers.add_argument(
        "--noise",
        choices=("estimated", "true"),
        default="estimated",
        help="which noise level the denoisers are told (default: estimated from the damaged picture)",
    )
    peers.add_argument(
        "--models",
        type=_words,
        default=(),
        metavar="NAME,NAME",
        help="upscale models of yours, from models/upscale_models",
    )
    peers.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the plot")
    peers.set_defaults(run=_bench_peers)
    return peers


def _add_gpu(bench: argparse._SubParsersAction) -> argparse.ArgumentParser:
    gpu = bench.add_parser("gpu", help="S3Diff at full size with random weights on a graphics card, in several ways")
    gpu.add_argument(
        "--s3diff", type=Path, metavar="DIR", help="a checkout of ArcticHare105/S3Diff, to measure its code, too"
    )
    gpu.add_argument("--batches", type=_numbers, default=(1, 4), metavar="N,N", help="pictures at once (default: 1,4)")
    gpu.add_argument("--repeats", type=int, default=3, help="of every way and batch, beside a first one (default: 3)")
    gpu.add_argument("--minutes", type=float, default=7.0, help="after which nothing new is started (default: 7)")
    gpu.add_argument("--ways", nargs="+", metavar="WAY", help="which, by their names in the table (default: all)")
    gpu.add_argument("--tiny", action="store_true", help="networks of a few channels and pictures of 64 px, for a CPU")
    gpu.set_defaults(run=_bench_gpu)
    return gpu


def _bench_quality(options: argparse.Namespace) -> int:
    require("run.py bench quality", "training")
    from ..benchmarks import quality

    _show(quality, quality.bench(options.photos, options.side, options.draws, options.out), options.json)
    print(f"Pictures: {options.out.resolve()}: grid.png, invariance.png; all figures in figures.json.")
    return 0


def _bench_faces(options: argparse.Namespace) -> int:
    from ..benchmarks import faces

    figures = faces.bench(
        options.photos,
        options.out,
        sizes=options.sizes,
        families=options.families,
        methods=options.methods,
        draws=options.draws,
        most=options.most,
        pairs=tuple(options.pairs),
    )
    _show(faces, figures, options.json)
    print(f"Pictures: {options.out.resolve()}: {', '.join(figures['pictures'])}; all figures in figures.json.")
    return 0


def _bench_keep(options: argparse.Namespace) -> int:
    from ..benchmarks import keep

    figures = keep.bench(options.photos, options.out, most=options.most, width=options.width, kinds=options.kinds)
    _show(keep, figures, options.json)
    print(f"Picture: {(options.out / 'keep.png').resolve()}: truth, damaged, edit, result, result for a stranger.")
    return 0


def _bench_old(options: argparse.Namespace) -> int:
    from ..benchmarks import old

    figures = old.bench(options.photos, options.out, real=options.real, side=options.side, draws=options.draws)
    _show(old, figures, options.json)
    print(f"Pictures: {options.out.resolve()}: {', '.join(figures['pictures'])}; all figures in old.json.")
    return 0


def _bench_evidence(options: argparse.Namespace) -> int:
    from ..benchmarks import evidence

    figures = evidence.bench(options.photos, options.out, most=options.most, width=options.width, family=options.family)
    _show(evidence, figures, options.json)
    print(f"Picture: {(options.out / 'evidence.png').resolve()}: damaged, with another eye, deviation, pulled back.")
    return 0


def _bench_blend(options: argparse.Namespace) -> int:
    from ..benchmarks import blend

    return _show(blend, blend.bench(), options.json)


def _bench_batch(options: argparse.Namespace) -> int:
    from ..benchmarks import batch

    return _show(batch, batch.bench(), options.json)


def _bench_soak(options: argparse.Namespace) -> int:
    from ..benchmarks import soak

    return _show(
        soak, soak.bench(options.comfyui, options.workflows or soak.WORKFLOWS, options.runs, options.seed), options.json
    )


def _bench_fullsize(options: argparse.Namespace) -> int:
    require("run.py bench fullsize", "diffusion")
    from ..benchmarks import fullsize

    return _show(fullsize, fullsize.measure_full_size(), options.json)


def _bench_context(options: argparse.Namespace) -> int:
    from ..benchmarks import context

    _show(context, context.bench(options.out), options.json)
    print(f"Picture: {(options.out / 'context.png').resolve()}: {', '.join(context.CONTEXTS)}.")
    return 0


def _bench_personas(options: argparse.Namespace) -> int:
    require("run.py bench personas", "training")
    from ..benchmarks import personas

    if options.steps < 1 or options.draws < 1:
        raise UserError("--steps and --draws must be at least 1.")
    if options.plots:
        from ..benchmarks import persona_shapes

        figures = persona_shapes.bench(options.photos, options.steps, options.minutes, options.out)
        _show(persona_shapes, figures, options.json)
        print(f"Plots: {options.out.resolve()}: shape_*.png; all figures in shapes.json.")
        return 0
    _show(
        personas,
        personas.bench(options.photos, options.methods, options.steps, options.draws, options.out),
        options.json,
    )
    print(f"Pictures: {options.out.resolve()}: personas.png; all figures in personas.json.")
    return 0


def _bench_scale(options: argparse.Namespace) -> int:
    from ..benchmarks import scale, ways

    if options.ways:
        return _show(ways, ways.bench(options.ways, options.servers, options.ray), options.json)
    figures = scale.bench(list(options.counts), options.kills, options.servers, options.ray)
    return _show(scale, figures, options.json)


def _bench_tokens(options: argparse.Namespace) -> int:
    from ..benchmarks import token_grid

    return _show(token_grid, token_grid.bench(options.photos, options.side, options.draws), options.json)


def _bench_speed(options: argparse.Namespace) -> int:
    from ..benchmarks import costs

    figures = costs.bench(options.before, options.runs, options.figures, options.threads, options.comfyui)
    return _show(costs, figures, options.json)


def _bench_peers(options: argparse.Namespace) -> int:
    require("run.py bench peers", "training")
    from ..benchmarks import peers

    figures = peers.bench(
        options.photos,
        options.out,
        side=options.side,
        draws=options.draws,
        noise=options.noise,
        models=options.models,
    )
    _show(peers, figures, options.json)
    print(f"Plot: {(options.out / 'peers.png').resolve()}.")
    return 0


def _bench_gpu(options: argparse.Namespace) -> int:
    require("run.py bench gpu", "diffusion")
    from ..benchmarks import gpu

    size = gpu.TINY if options.tiny else gpu.FULL
    ways = options.ways or tuple(gpu.WAYS)
    figures = gpu.bench(options.s3diff, size, options.batches, ways, options.repeats, options.minutes)
    return _show(gpu, figures, options.json)


def _bench_clip(options: argparse.Namespace) -> int:
    from ..benchmarks import clip

    return _show(clip, clip.bench(options.frames, options.side, options.workflow, options.out), options.json)


def _show(subject: ModuleType, figures: dict, file: Path | None) -> int:
    """Prints the table of a benchmark, and writes its figures as JSON if requested."""
    if file:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(subject.table(figures))
    return 0


SUBJECTS = (
    *(_add_quality, _add_tokens, _add_faces, _add_keep, _add_old, _add_evidence, _add_blend, _add_batch, _add_context),
    *(_add_fullsize, _add_personas, _add_scale, _add_clip, _add_soak, _add_speed, _add_peers, _add_gpu),
)

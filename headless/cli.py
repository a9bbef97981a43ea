"""The command line: the same workflows as in ComfyUI, without it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..vocabulary import Restorer, UserError

PACK = Path(__file__).resolve().parent.parent
WORKFLOWS = PACK / "workflows" / "api"
FACE2SCENE = "face2scene"  # the full-size model, not of the embedded weights
TRAINING = ("blind", "reading", "fadex", "guided", "export", "samples", "bound", "tiny")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; 0 where everything went well, 1 where something did not, with a line on standard error that says what."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"\n{stop or 'Stopped.'}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("run.py", description="Restores whole photographs of people you know.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="restore a sample photograph; results go to output/demo")
    demo.add_argument("--out", type=Path, default=Path("output/demo"))
    demo.set_defaults(run=_demo)

    restore = commands.add_parser("restore", help="restore your own photographs")
    restore.add_argument("photos", type=Path, nargs="+", metavar="PHOTO", help="pictures, or folders of pictures")
    restore.add_argument(
        "--album",
        type=Path,
        help="a folder with one subfolder of good pictures per person, or just pictures of one person",
    )
    restore.add_argument(
        "--workflow", default="face2scene", help="face2scene, perfuse, or an API-format JSON file (default: face2scene)"
    )
    restore.add_argument("--out", type=Path, default=Path("output"), help="folder for the results (default: output)")
    restore.add_argument("--seed", type=int, default=0)
    restore.add_argument(
        "--strength", type=float, default=1.0, help="0 returns the photograph unchanged, 1 restores fully (default)"
    )
    restore.add_argument(
        "--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="change any value in the workflow"
    )
    restore.set_defaults(run=_restore)

    run = commands.add_parser("run", help="run any API-format workflow; pictures are saved to --out")
    run.add_argument("workflow", type=Path)
    run.add_argument("--input", type=Path, default=Path("input"), help="folder for LoadImage and albums")
    run.add_argument("--out", type=Path, default=Path("output"))
    run.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE")
    run.set_defaults(run=_run)

    api = commands.add_parser("api", help="convert a UI-format workflow to API format")
    api.add_argument("workflow", type=Path)
    api.add_argument("target", type=Path)
    api.set_defaults(run=_api)

    train = commands.add_parser("train", help="retrain the embedded weights, or train Face2Scene; see docs/training.md")
    train.add_argument("stage", choices=("all", *TRAINING, FACE2SCENE))
    train.add_argument(
        "--out",
        type=Path,
        default=Path("runs/embedded"),
        help="folder for checkpoints and curves; training resumes from it",
    )
    train.add_argument("--config", type=Path, help="a JSON file that overrides the default sizes, data or steps")
    train.add_argument(
        "--photos", type=Path, help="undamaged photographs, for measuring the bound or training face2scene"
    )
    train.add_argument(
        "--dataset", type=Path, help="for face2scene: a dataset built with `run.py dataset`, instead of --photos"
    )
    train.add_argument(
        "--base", type=Path, help="for face2scene: sd_turbo.safetensors, or a folder in diffusers format"
    )
    train.set_defaults(run=_train)

    persona = commands.add_parser("persona", help="train a persona on a diffusion restorer; see docs/personas.md")
    persona.add_argument("--photos", type=Path, required=True, help="a folder of good pictures of the person")
    persona.add_argument("--name", default="", help="name of the person and of the file (default: the folder's name)")
    persona.add_argument(
        "--method", help="dual_pivot (default), textual_pivot, model_pivot, album or adapter; see docs/personas.md"
    )
    persona.add_argument(
        "--others", type=Path, help="for the model pivot: other people, with one subfolder of pictures per person"
    )
    persona.add_argument(
        "--class-pictures",
        type=Path,
        help="for the textual pivot's prior preservation: similar people, with one subfolder per person (default: "
        "generated by the base)",
    )
    persona.add_argument(
        "--base",
        type=Path,
        help="Stable Diffusion, as a .safetensors or .ckpt file or a folder in diffusers format (default: the small "
        "base that ships with the pack)",
    )
    persona.add_argument("--control", type=Path, help="DiffBIR's ControlNet for --base")
    persona.add_argument("--stablesr", type=Path, help="StableSR's file; add --base if it contains only the control")
    persona.add_argument(
        "--prediction", help="what --base predicts, as in DiffBIR Restorer, if its files do not say so"
    )
    persona.add_argument("--config", type=Path, help="a JSON file that overrides the default settings")
    persona.add_argument(
        "--out", type=Path, help="folder for the persona (default: the models folder, where Load Persona looks for it)"
    )
    persona.set_defaults(run=_persona)

    dataset = commands.add_parser("dataset", help="build a dataset for training face2scene; see docs/training.md")
    dataset.add_argument("--photos", type=Path, required=True, help="undamaged photographs, in folders of any depth")
    dataset.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for the dataset; run the command again to resume after an interruption",
    )
    dataset.add_argument("--albums", type=Path, help="a folder with one subfolder of good pictures per person")
    dataset.add_argument(
        "--faces",
        choices=("auto", "faceme", "embedded"),
        default="auto",
        help="restorer for faces with an album: FaceMe, or the restorers that ship with the pack (default: FaceMe if "
        "its weights are present)",
    )
    dataset.add_argument(
        "--quality",
        action="store_true",
        help="also filter by MUSIQ, CLIP-IQA and MANIQA; pyiqa downloads their weights itself",
    )
    dataset.add_argument("--config", type=Path, help="a JSON file that overrides the default gates, versions or data")
    dataset.set_defaults(run=_dataset)

    models = commands.add_parser("models", help="list published weights, download them, or convert S3Diff's")
    models.add_argument("action", choices=("list", "get", "convert"))
    models.add_argument("names", nargs="*", metavar="NAME")
    models.add_argument("--agree", action="store_true", help="I have read the license and agree to it; do not ask")
    models.set_defaults(run=_models)

    bench = commands.add_parser("bench", help="run benchmarks").add_subparsers(required=True, metavar="SUBJECT")
    quality = bench.add_parser("quality", help="restoration quality of the embedded weights")
    quality.add_argument("--photos", type=Path, help="a folder of undamaged photographs (default: the sample portrait)")
    quality.add_argument("--side", type=int, default=1024, help="longest side of the photographs (default: 1024)")
    quality.add_argument("--draws", type=int, default=2, help="damaged versions per photograph and family (default: 2)")
    quality.add_argument(
        "--out", type=Path, default=Path("output/bench"), help="folder for the grid, the plot and the figures"
    )
    quality.set_defaults(run=_bench_quality)
    faces = bench.add_parser("faces", help="known faces with synthetic damage, restored from their albums")
    faces.add_argument("--photos", type=Path, required=True, help="a folder with one subfolder of pictures per person")
    faces.add_argument("--side", type=int, default=768, help="longest side of the photographs (default: 768)")
    faces.set_defaults(run=_bench_faces)
    blend = bench.add_parser("blend", help="time, memory and seams of blending")
    blend.set_defaults(run=_bench_blend)
    context = bench.add_parser(
        "context", help="the effect of the context around a blended face, as in PerFuSe's figure S1"
    )
    context.add_argument("--out", type=Path, default=Path("output/bench"), help="folder for the picture")
    context.set_defaults(run=_bench_context)
    fullsize = bench.add_parser("fullsize", help="time and memory of the full-size network with random weights")
    fullsize.set_defaults(run=_bench_fullsize)
    personas = bench.add_parser(
        "personas", help="faces restored with their persona, without one, and with another person's"
    )
    personas.add_argument(
        "--photos", type=Path, required=True, help="a folder with one subfolder of pictures per person"
    )
    personas.add_argument(
        "--methods", nargs="+", default=["dual_pivot", "album", "adapter"], help="the methods to compare"
    )
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
    for subject in (quality, faces, blend, context, fullsize, personas):
        subject.add_argument("--json", type=Path, help="also write the figures to this JSON file")
    return parser


def _demo(options: argparse.Namespace) -> int:
    from .demo import demo
    from .graph import load_graph

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
    print(f"The pictures are in {options.out.resolve()}: restored.png, comparison.png; the figures in report.json.")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from ..nodes import NODES
    from . import own
    from .core_nodes import CORE_NODES
    from .graph import apply_overrides, kinds, load_graph
    from .host import allow_folder
    from .restore import restore_file

    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength {options.strength} is not between 0 and 1.")
    bundled = WORKFLOWS / f"{options.workflow}.json"
    graph = load_graph(bundled if bundled.is_file() else Path(options.workflow))
    with tempfile.TemporaryDirectory(prefix="personal_restore_") as nobody:
        album = options.album or Path(nobody)
        if not album.is_dir():
            raise UserError(f"--album {album}: the folder does not exist.")
        graph = own.with_album(graph, allow_folder(album))
        graph = own.with_seed(own.with_strength(graph, options.strength), options.seed)
        graph = apply_overrides(graph, options.set, kinds((*CORE_NODES, *NODES)))
        photos, failed = list(_pictures(options.photos)), []
        if not photos:
            raise UserError(f"There are no pictures in {', '.join(map(str, options.photos))}.")
        for photo in photos:
            print(f"\n{photo.name}", flush=True)
            try:
                print(f"-> {restore_file(graph, photo, options.out)}", flush=True)
            except UserError as error:
                failed.append(f"{photo.name}: {error}")
                print(f"error: {error}", file=sys.stderr, flush=True)
    if failed and len(photos) > 1:
        print(f"\n{len(failed)} of {len(photos)} failed:", *failed, sep="\n- ", file=sys.stderr)
    return 1 if failed else 0


def _pictures(paths: Iterable[Path]) -> Iterable[Path]:
    """The files as given, and the pictures of the folders."""
    from ..faces.pictures import is_picture

    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if is_picture(file))
        else:
            yield path


def _run(options: argparse.Namespace) -> int:
    from ..nodes import NODES
    from .graph import load_graph
    from .host import folders
    from .runner import run_graph

    folders.input, folders.output = options.input, options.out
    results = run_graph(
        load_graph(options.workflow),
        NODES,
        overrides=options.set,
        on_node=lambda name, index, count: print(f"[{index + 1}/{count}] {name}", flush=True),
    )
    for shown in results.ui.values():
        for text in shown.get("text", ()):
            print(text)
    return 0


def _api(options: argparse.Namespace) -> int:
    from ..nodes import NODES
    from .convert import to_api
    from .core_nodes import CORE_NODES
    from .graph import kinds

    try:
        workflow = json.loads(options.workflow.read_text(encoding="utf-8"))
        graph = to_api(workflow, kinds((*CORE_NODES, *NODES)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{options.workflow} is not a workflow saved by ComfyUI's editor ({error!r}).") from error
    options.target.write_text(json.dumps(graph, indent=2) + "\n", encoding="utf-8")
    return 0


def _models(options: argparse.Namespace) -> int:
    from ..bridge import weight_folders
    from ..models.catalogue import catalogue, download, entry

    if options.action == "list":
        for weights in catalogue().values():
            folders = weight_folders(weights.folder)
            there = next((folder for folder in folders if (folder / weights.place).is_file()), None)
            print(f"{weights.describe()}; {f'is in {there}' if there else f'belongs in {folders[0]}'}\n")
        return 0
    if options.action == "convert":
        return _convert(options.names)
    if not options.names:
        raise UserError("models get: specify the names; `python run.py models list` shows them.")
    for weights in [entry(name) for name in options.names]:
        print(weights.describe())
        try:
            agreed = options.agree or input("Agree to this license and download the file? [y/N] ").strip().lower() in (
                "y",
                "yes",
            )
        except EOFError as error:
            raise UserError("Nobody can answer whether you agree to the license. Read it, then add --agree.") from error
        if agreed:
            print(f"-> {download(weights.name, weight_folders(weights.folder)[0])}")
    return 0


def _convert(names: list[str]) -> int:
    from ..bridge import weight_folders
    from ..models import s3diff
    from ..models.catalogue import find_all

    if names != [s3diff.KIND]:
        raise UserError(
            "models convert: only s3diff can be converted, from its two public files to one .safetensors file."
        )
    public = find_all(["s3diff", "s3diff-degradation"], weight_folders)
    target = public[0].with_name(s3diff.CONVERTED)
    s3diff.convert(s3diff.read(*public), target)
    print(f"-> {target}; {' and '.join(path.name for path in public)} are no longer needed.")
    return 0


def _bench_quality(options: argparse.Namespace) -> int:
    from ..benchmarks import quality

    _show(quality, quality.bench(options.photos, options.side, options.draws, options.out), options.json)
    print(f"Pictures: {options.out.resolve()}: grid.png, invariance.png; all figures in figures.json.")
    return 0


def _bench_faces(options: argparse.Namespace) -> int:
    from ..benchmarks import faces

    return _show(faces, faces.bench(options.photos, options.side), options.json)


def _bench_blend(options: argparse.Namespace) -> int:
    from ..benchmarks import blend

    return _show(blend, blend.bench(), options.json)


def _bench_fullsize(options: argparse.Namespace) -> int:
    from ..benchmarks import fullsize

    return _show(fullsize, fullsize.measure(), options.json)


def _bench_context(options: argparse.Namespace) -> int:
    from ..benchmarks import context

    _show(context, context.bench(options.out), options.json)
    print(f"Picture: {(options.out / 'context.png').resolve()}: {', '.join(context.CONTEXTS)}.")
    return 0


def _bench_personas(options: argparse.Namespace) -> int:
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


def _show(subject: ModuleType, figures: dict, file: Path | None) -> int:
    """The table of a benchmark, and its figures as JSON where they are wanted."""
    if file:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(subject.table(figures))
    return 0


def _train(options: argparse.Namespace) -> int:
    from ..models import embedded
    from ..training import bound, procedural, stages

    if options.stage == FACE2SCENE:
        return _train_face2scene(options)
    config = stages.read_config(options.config) if options.config else stages.Config()
    match options.stage:
        case "samples":
            from PIL import Image

            options.out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(procedural.page(range(12))).save(options.out / "samples.png")
            print(f"Sample training pictures: {options.out / 'samples.png'}")
        case "tiny":
            from ..training import tiny_diffusion

            tiny_diffusion.export(tiny_diffusion.run(options.out, config.data), config.data, embedded.FOLDER)
        case "bound":
            print(json.dumps(bound.run(options.out, config, options.photos, side=512), indent=2))
        case "export":
            stages.export(options.out, config, embedded.FOLDER)
        case "all":
            for stage in stages.STAGES:
                stages.run(stage, options.out, config)
            stages.export(options.out, config, embedded.FOLDER)
        case stage:
            stages.run(stage, options.out, config)
    return 0


def _train_face2scene(options: argparse.Namespace) -> int:
    from ..bridge import weight_folders
    from ..training import face2scene

    if options.base is None:
        raise UserError(
            "train face2scene: provide SD-Turbo with --base, as sd_turbo.safetensors or a folder in diffusers format."
        )
    config = face2scene.read_config(options.config) if options.config else face2scene.Config()
    folders = weight_folders("personal_restore")
    made = face2scene.run_from_files(options.out, config, options.base, options.photos, options.dataset, folders)
    print(f"-> {made}; put it into {folders[0] / 'face2scene'} under any name.")
    return 0


def _persona(options: argparse.Namespace) -> int:
    from .persona import teach

    return teach(options)


def _dataset(options: argparse.Namespace) -> int:
    from ..bridge import device, keep, models_folder
    from ..faces.embed import best_embedder
    from ..faces.library import load_library
    from ..restorers import embedded
    from ..restorers.reference import ReferenceRestorer
    from ..training import dataset
    from ..training.gates import pyiqa_scorers
    from ..vocabulary import Library

    config = dataset.read_config(options.config) if options.config else dataset.Config()
    embedder, one_step = best_embedder(models_folder()), embedded.restorer(keep)
    library = load_library(options.albums, embedder, models_folder()) if options.albums else Library()
    for note in library.notes:
        print(note)
    faceme = None if options.faces == "embedded" else _faceme(required=options.faces == "faceme")
    tools = dataset.Tools(
        library,
        embedder,
        (faceme,) if faceme else (one_step, ReferenceRestorer()),
        one_step,
        pyiqa_scorers(device()) if options.quality else {},
        models_folder(),
    )
    print(json.dumps(dataset.build(options.photos, options.out, config, tools), indent=2))
    print(
        f"-> {options.out / dataset.MANIFEST} lists the measurements of every photograph, and why photographs were "
        "rejected."
    )
    return 0


def _faceme(required: bool) -> Restorer | None:
    """FaceMe as its node makes it; None where its weights are not there and it need not be."""
    from ..bridge import weight_folders
    from ..models.catalogue import find_all
    from ..nodes.faceme import NEEDED, FaceMeRestorer
    from ..nodes.weight_files import NONE

    try:
        find_all(["realvisxl", *NEEDED], weight_folders)
    except UserError as error:
        if required:
            raise
        print(f"Faces are restored without FaceMe, with the restorers that ship with the pack. FaceMe needs:\n{error}")
        return None
    return FaceMeRestorer.execute(NONE, steps=50, guidance=5.0, color="wavelet").args[0]

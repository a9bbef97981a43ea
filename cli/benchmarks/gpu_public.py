"""S3Diff's public code (ArcticHare105/S3Diff) around networks with random weights, for ``run.py bench gpu``.

Its source is read from a folder that the user names, and changed in three places: the device, which it has written out as CUDA; the
encoder's mean in the place of a draw, so that pictures can be compared; and what it would read from SD-Turbo's folder is handed to it.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler

from ...lib.vocabulary import UserError
from ...models.shared.sd_turbo import SDTurbo

FILES = "model", "s3diff"
Restore = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def public_s3diff(folder: Path, turbo: SDTurbo, weights: Path, text: torch.Tensor, device: torch.device) -> Restore:
    """A function from pictures ``[B, 3, H, W]`` in -1..1 and degrees ``[B, 2]`` to pictures in -1..1. Changes ``turbo``.

    weights: s3diff.pkl; text: the embedded prompt ``[1, N, C]``. Raises UserError where the folder holds something else.
    """
    try:
        with _loaded(folder, device) as module:
            module.AutoTokenizer = _handed(_Tokens())
            module.CLIPTextModel = _handed(_Text(text))
            module.AutoencoderKL, module.UNet2DConditionModel = _handed(turbo.vae), _handed(turbo.unet)
            module.make_1step_sched = lambda path: _scheduler()
            net = module.S3Diff(sd_path="", pretrained_path=str(weights)).to(device)
    except (OSError, ImportError, AttributeError, SyntaxError) as error:
        raise UserError(
            f"--s3diff {folder}: S3Diff's code cannot be used ({error}). Name a checkout of ArcticHare105/S3Diff, and run: pip "
            "install peft"
        ) from error
    net.set_eval()
    return lambda picture, degrees: net(picture, degrees, [""] * len(picture))


@contextmanager
def _loaded(folder: Path, device: torch.device) -> Iterator[Any]:
    """src/s3diff.py as a module, for the device. What it imports of the same checkout is known by these names in the meantime."""
    before = {name: sys.modules.get(name) for name in ("basicsr", "basicsr.archs", "basicsr.archs.arch_util", *FILES)}
    # Only sets starting values, which are replaced.
    sys.modules["basicsr.archs.arch_util"] = _module("arch_util", default_init_weights=lambda *args: None)
    sys.modules["basicsr"] = sys.modules["basicsr.archs"] = _module("basicsr")
    path = list(sys.path)
    try:
        with tempfile.TemporaryDirectory() as changed:
            for name in FILES:
                source = (folder / "src" / f"{name}.py").read_text("utf-8")
                for public, ours in (
                    ('"cuda"', repr(str(device))),
                    (".cuda()", f".to({str(device)!r})"),
                    ("latent_dist.sample()", "latent_dist.mode()"),
                ):
                    source = source.replace(public, ours)
                file = Path(changed) / f"{name}.py"
                file.write_text(source, "utf-8")
                spec = importlib.util.spec_from_file_location(name, file)
                assert spec is not None and spec.loader is not None  # of a file that is there
                sys.modules[name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(sys.modules[name])
        yield sys.modules[FILES[-1]]
    finally:
        sys.path[:] = path
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    return made


def _handed(thing: Any) -> Any:
    """What ``from_pretrained`` gives."""
    return SimpleNamespace(from_pretrained=lambda *args, **options: thing)


class _Tokens:
    """In the place of the tokenizer."""

    model_max_length = 77

    def __call__(self, text: list[str], **options: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.zeros(len(text), self.model_max_length))


class _Text(torch.nn.Module):
    """In the place of the text encoder, which is no part of the measurement."""

    def __init__(self, text: torch.Tensor):
        super().__init__()
        self.register_buffer("text", text)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.text.expand(len(tokens), -1, -1),)


def _scheduler() -> DDPMScheduler:
    """SD-Turbo's."""
    made = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    made.set_timesteps(1)
    return made

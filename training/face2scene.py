"""Stage II of Face2Scene (section 3.4): the adapters on SD-Turbo, its first convolution, and MapNet, from pictures in pairs.

python run.py train face2scene --base SD-TURBO --dataset FOLDER --out runs/face2scene

FaDeX is frozen: the one that ships with the pack. With a dataset that `python run.py dataset` has built the tokens come, as in the paper,
from the picture's own face, damaged and restored. On plain photographs, as in the embedded stages, they come from another picture under
the same operator, half of whose pairs are imperfectly restored. Departures from the paper: one step serves restorer and discriminator at
once, the learning rate falls as a cosine, and a share of the pictures gets no tokens, so that scenes without a face can be restored.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..lib.pictures.files import pictures_below, read_picture
from ..lib.vocabulary import Place, UserError
from ..models.embedded import weights as embedded
from ..models.embedded.mapnet import with_tokens
from ..models.embedded.one_step import OneStepNet
from ..models.face2scene import network as face2scene
from ..models.s3diff import network as s3diff
from ..models.shared import sd_turbo
from . import adversarial, perceptual
from .data import DataConfig, Groups, bank
from .dataset import MIXTURE, Prepared
from .loop import Schedule, train_loop
from .randomness import seeded
from .restorer import imperfect, random_window, swapped
from .stages import changed

log = logging.getLogger(__name__)

# The paper's words (supplement, section 7.2), in the byte pairs of CLIP: "a high-resolution, 8K, ultra-realistic sharp image, vibrant
# colors, and natural lighting", and S3Diff's for what is bad.
PROMPTS = (
    (320, 1400, 268, 9977, 267, 279, 330, 267, 8118, 268, 16157, 8157, 2867, 267, 14270, 5389, 267, 537, 3288, 5799),
    s3diff.PROMPTS[1],
)
DINO = "dino-vitb16"  # the folder of facebook/dino-vitb16 below models/personal_restore


@dataclass(frozen=True)
class Config:
    """adapters: ranks and targets; l2, perceptual, adversarial: the weights of the losses; drop: share of pictures without tokens;
    negative: share whose target is the damaged picture under the negative prompt. A batch counts groups of two pictures."""

    adapters: dict = field(default_factory=lambda: face2scene.ADAPTERS)
    l2: float = 2.0
    perceptual: float = 5.0
    adversarial: float = 0.5
    drop: float = 0.25
    negative: float = 0.05
    data: DataConfig = DataConfig(mixture=MIXTURE, crop=512)
    schedule: Schedule = Schedule(steps=20_000, batch=4, learning_rate=2e-5, warmup=500, workers=4)


def read_config(path: Path) -> Config:
    """The defaults with the overrides of a JSON file, such as ``{"schedule": {"steps": 9000}}``. Raises UserError."""
    try:
        return changed(Config(), json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name} is not a training configuration ({error}).") from error


class Photographs(Groups):
    """Groups of crops from photographs, each read when it is needed."""

    def __init__(self, files: list[Path], config: DataConfig, length: int):
        super().__init__(np.empty(0), config, length)
        self.files = files

    def _crop(self, rng: np.random.Generator, side: int) -> torch.Tensor:
        picture = read_picture(self.files[rng.integers(len(self.files))]).permute(1, 2, 0).numpy()
        shortest = min(picture.shape[:2])
        # From the whole photograph, shrunk, to its own pixels; one that is too small is enlarged.
        scale = np.exp(rng.uniform(np.log(min(side / shortest, 1)), 0)) if shortest > side else side / shortest
        size = [max(side, round(length * scale)) for length in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        top, left = (rng.integers(0, length - side + 1) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side][:, :: rng.choice([-1, 1])].clip(0, 1)
        return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)


class SceneLoss(nn.Module):
    """L2, LPIPS and the adversarial loss of SD-Turbo under adapters and tokens, and the discriminator's own.

    turbo: gets its adapters here. Only what is learned is among the parameters and in the checkpoints.
    """

    def __init__(
        self,
        config: Config,
        turbo: sd_turbo.SDTurbo,
        prompts: tuple[torch.Tensor, torch.Tensor],
        extractor: embedded.Extractor,
        restorer: OneStepNet,
        lpips: perceptual.LPIPS | None,
        critic: adversarial.Critic | None,
    ):
        super().__init__()
        self.config, self.critic = config, critic
        self.named = face2scene.adapt(turbo.requires_grad_(False), config.adapters)
        self.adapters = nn.ParameterList(one.requires_grad_() for one in self.named.values())
        self.mapnet = extractor.mapnet.requires_grad_()
        turbo.unet.enable_gradient_checkpointing()
        turbo.vae.enable_gradient_checkpointing()
        # In a list: neither trained nor saved with this module.
        self.frozen = [
            turbo,
            extractor.fadex.eval().requires_grad_(False),
            restorer.eval().requires_grad_(False),
            lpips,
        ]
        for name, text in zip(face2scene.PROMPTS, prompts, strict=True):
            self.register_buffer(name, text, persistent=False)

    def parameter_groups(self) -> list[dict]:
        """The parameters of the restorer and of the discriminator, whose gradients are clipped separately."""
        groups = [[*self.adapters, *self.mapnet.parameters()], list(self.critic.parameters()) if self.critic else []]
        return [{"params": group} for group in groups if group]

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        config, lpips = self.config, self.frozen[3]
        clean, damaged = batch["clean"].flatten(0, 1), batch["damaged"].flatten(0, 1)
        negative, dropped = (
            torch.rand(len(clean), device=clean.device) < share for share in (config.negative, config.drop)
        )
        restored = self.restore(damaged, self.tokens(batch), negative, dropped)
        target = torch.where(negative[:, None, None, None], damaged, clean)
        terms = {"l2": F.mse_loss(restored * 2, target * 2)}  # of pictures in -1..1, as the paper's
        weights = {"l2": config.l2, "lpips": config.perceptual, "adversarial": config.adversarial}
        if lpips is not None:
            with torch.autocast(clean.device.type, enabled=False):  # differences of unit vectors need the precision
                terms["lpips"] = lpips(restored, target).mean()
        if self.critic is not None and not negative.all():
            made = restored[~negative]
            terms["adversarial"] = self.critic.for_generator(made)
            terms["critic"] = self.critic.for_itself(clean, made)
        loss = sum(weights.get(name, config.adversarial) * term for name, term in terms.items())
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def tokens(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """``[B, 21, width]`` for every picture, from its own face pair where there is one, else from its partner's."""
        _, fadex, restorer, _ = self.frozen
        if "pair" in batch:
            # One after the other: faces have different sizes, and the damage looks as it was made only at the photograph's own scale.
            sizes = batch["pair_size"].flatten(0, 1).tolist()
            pairs = [pair[None, :, :h, :w] for pair, (h, w) in zip(batch["pair"].flatten(0, 1), sizes, strict=True)]
            with torch.no_grad():
                features = [fadex(pair) for pair in pairs]
            return torch.cat([self.mapnet(one.float()) for one in features])
        pairs = random_window(torch.cat([swapped(batch["clean"]), swapped(batch["damaged"])], 1), 32)
        with torch.no_grad():
            features = fadex(imperfect(pairs, restorer, 0.5))
        return self.mapnet(features.float())

    def restore(
        self, damaged: torch.Tensor, tokens: torch.Tensor, negative: torch.Tensor, dropped: torch.Tensor
    ) -> torch.Tensor:
        """Pictures in 0..1. negative: where ``[B]`` the prompt is the negative one; dropped: where no token is seen."""
        turbo = self.frozen[0]
        text = torch.where(negative[:, None, None], self.negative, self.positive)
        context = with_tokens(text, tokens)
        seen = torch.ones(context.shape[:2], dtype=torch.bool, device=context.device)
        seen[:, text.shape[1] :] = ~dropped[:, None]
        shape = len(damaged), 4, damaged.shape[-2] // 8, damaged.shape[-1] // 8
        latent = turbo.encode(damaged * 2 - 1, torch.randn(shape, device=damaged.device))
        noise = turbo.unet(
            latent, sd_turbo.TIMESTEP, encoder_hidden_states=context, encoder_attention_mask=seen
        ).sample.float()
        return turbo.decode(turbo.clean(latent, noise)) / 2 + 0.5


def train_face2scene(
    folder: Path,
    config: Config,
    turbo: sd_turbo.SDTurbo,
    prompts: tuple[torch.Tensor, torch.Tensor],
    files: list[Path],
    place: Place,
    lpips: perceptual.LPIPS | None = None,
    critic: adversarial.Critic | None = None,
    prepared: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    reader: Path = embedded.EXTRACTOR,
) -> Path:
    """Trains or resumes in ``folder`` and writes the model there. prompts: encoded, positive and negative ``[1, N,
    C]``.

    reader: the extractor whose FaDeX and gauge are used and kept as they are: the small one, or one of `train_fadex`. MapNet is new.
    prepared: a folder of `python run.py dataset`; else files: photographs; without any the pictures are procedural ones.
    """
    schedule = config.schedule
    with seeded(schedule.seed):
        read, about = embedded.load_embedded(reader)
        sizes = json.loads(about["config"]) | {"token_width": prompts[0].shape[-1]}
        extractor = embedded.Extractor(**sizes)
        extractor.fadex, extractor.gauge = read.fadex, read.gauge
        restorer, _ = embedded.load_embedded(embedded.RESTORER)
        task = SceneLoss(config, turbo, prompts, extractor, restorer, lpips, critic)
    for frozen in (*task.frozen, *(critic.frozen if critic else ())):
        if frozen is not None:
            frozen.to(place.device)
    task.to(place.device)
    if prepared:
        data = partial(Prepared, prepared, config.data)
        about = data(0).describe()
    elif files:
        data, about = partial(Photographs, files, config.data), f"{len(files)} photographs"
    else:
        data, about = partial(Groups, bank(folder.parent, config.data), config.data), "procedural pictures"
    train_loop(
        folder,
        task,
        torch.optim.AdamW(task.parameter_groups(), schedule.learning_rate, weight_decay=1e-2),
        data,
        lambda module, batch: module(batch),
        schedule,
        place,
        report,
    )
    tensors = task.named | {f"extractor.{name}": one for name, one in extractor.state_dict().items()}
    tensors |= {f"prompt.{name}": one for name, one in zip(face2scene.PROMPTS, prompts, strict=True)}
    provenance = {
        "trained_by": "python run.py train face2scene",
        "config": asdict(config),
        "losses": [name for name, there in (("l2", True), ("lpips", lpips), ("adversarial", critic)) if there],
        "data": about,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "accelerate", "diffusers")},
    }
    target = folder / "face2scene.safetensors"
    face2scene.save_face2scene(target, {"adapters": config.adapters, "extractor": sizes}, tensors, provenance)
    return target


def backbones(folders: list[Path]) -> tuple[perceptual.LPIPS | None, adversarial.Critic | None]:
    """The networks of the losses, from the models folders; None and a log message for those that are missing."""
    critic = None
    found = [folder / DINO for folder in folders if (folder / DINO / "config.json").is_file()]
    if found:
        critic = adversarial.load_discriminator(found[0])
    else:
        log.warning(
            "Training without the adversarial loss: facebook/dino-vitb16 is not in %s. Download it with `python "
            "run.py models get dino dino-config`.",
            folders[0] / DINO,
        )
    return perceptual.at_hand(folders), critic


def run_from_files(
    folder: Path,
    config: Config,
    base: Path,
    photos: Path | None,
    prepared: Path | None,
    folders: list[Path],
    place: Place,
    report: Callable[[int, int], None] = lambda done, total: None,
    reader: Path = embedded.EXTRACTOR,
) -> Path:
    """`train_face2scene` on SD-Turbo from a diffusers folder or a single file. Raises UserError that says what is missing."""
    files = pictures_below(photos) if photos else []
    if photos and not files:
        raise UserError(f"--photos {photos}: the folder contains no pictures.")
    positive, negative = sd_turbo.embed_prompts(base, PROMPTS)
    networks = backbones(folders)
    turbo, prompts = sd_turbo.load_sd_turbo(base), (positive, negative)
    return train_face2scene(folder, config, turbo, prompts, files, place, *networks, prepared, report, reader)

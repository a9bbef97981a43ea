"""Three published methods of training a diffusion model on a person, each as a task for the shared trainer.

Dual-Pivot Tuning (arXiv 2312.17234): the UNet around a fixed word (textual pivot), then the ControlNet around that UNet (model
pivot). Restoration by Generation (Ding et al., CVPR 2024): the UNet alone, on the album. PFStorer (Varanka et al., CVPR 2024):
gated blocks that look at a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ...lib.diffusion import lora
from ...lib.diffusion.base import Diffusion, fitted
from ...lib.vocabulary import UserError
from ...models.personas.wear import token_positions
from ...models.pfstorer.vico_block import personalise, reading
from ...models.shared.precision import check_trainable
from ..randomness import seeded
from .batches import Batch, draw_batch
from .trainer import Task

RARE, PLACEHOLDER = "sks", "*"  # the pivot word, and the word whose embedding is learned
GATE_RATE, TOKEN_RATE = (
    1e-3,
    5e-3,
)  # PFStorer: a gate that learned as slowly as its block would stay shut (specification, 4.4)
GENERATION_WEIGHT, PERSONAL_WEIGHT = 0.1, 5e-4  # PFStorer's lambda_Gen; ViCo's weight of L_Pers


@dataclass(frozen=True)
class Settings:
    """steps: of each stage; rank: of the LoRA, 0 for the weights themselves; learning_rate: 1e-3 suits the tiny base, 1e-4 a LoRA
    on Stable Diffusion; damage: family that the pictures are damaged with.

    in_context: the textual pivot learns with the ControlNet connected; control: its strength then. prior_weight: of the class
    pictures in the textual pivot. first: the model pivot tunes that many tensors of the ControlNet themselves, 0 all by LoRA.
    keep_references: stores the adapter's pictures in the persona, where they are visible.
    gate: None to learn the adapter's gates, else their fixed value (1 is ViCo); generation_weight: of L_Gen.
    intact: how often the control is shown the undamaged picture (PFStorer's p_HQ).
    preset: a row of `presets.py` that takes the place of these settings in each stage.
    """

    method: str = "dual_pivot"
    steps: int = 500
    batch: int = 2
    rank: int = 16
    learning_rate: float = 1e-3
    damage: str = "dual_pivot"
    seed: int = 0
    noun: str = "person"
    in_context: bool = False
    control: float = 1.0
    prior_weight: float = 1.0
    first: int = 0
    keep_references: bool = False
    gate: float | None = None
    generation_weight: float = GENERATION_WEIGHT
    intact: float = 0.0
    low_memory: bool = False
    preset: str = "own"


@dataclass(frozen=True)
class Material:
    """pictures, class_pictures, others: ``[N, 3, S, S]`` in 0..1: the album, pictures for prior preservation, and other
    people for the model pivot (None: the album itself).
    """

    pictures: torch.Tensor
    class_pictures: torch.Tensor | None = None
    others: torch.Tensor | None = None


def person_prompt(settings: Settings) -> str:
    """The UNet's prompt for the person; empty if only an album is learned."""
    word = {"album": None, "adapter": PLACEHOLDER}.get(settings.method, RARE)
    if word is None:
        return ""
    return f"a photo of {word}" if word == PLACEHOLDER else f"a photo of a {word} {settings.noun}"


def noise_loss(
    net: Diffusion, batch: Batch, text: torch.Tensor, hint: torch.Tensor | None = None, strength: float = 1.0
) -> torch.Tensor:
    """E|eps - eps_theta(z_t, t, text, hint)|^2 in the weighting of the base, a scalar."""
    return net.loss(net(batch.noisy(net), batch.t, text, hint, strength), batch.noise, batch.t, batch.clean).mean()


def textual_pivot(net: Diffusion, material: Material, settings: Settings) -> Task:
    """Stage A: the UNet learns what the rare word means; DreamBooth, out of context or with the frozen ControlNet connected."""
    groups, learnt = _tune(net, "unet", settings)
    text = net.prompt(person_prompt(settings), settings.batch)
    nothing, general = net.prompt("", settings.batch), net.prompt(f"a photo of a {settings.noun}", settings.batch)

    def instance(batches: tuple[Batch, Batch | None]) -> torch.Tensor:
        batch = batches[0]
        if not settings.in_context:
            return noise_loss(net, batch, text)
        said = torch.where(batch.silent.view(-1, 1, 1), nothing, text)
        return noise_loss(net, batch, said, batch.hint, settings.control)

    def prior(batches: tuple[Batch, Batch | None]) -> torch.Tensor:
        return noise_loss(net, batches[1], general)

    preserved = settings.prior_weight > 0 and material.class_pictures is not None

    def draw(step: int) -> tuple[Batch, Batch | None]:
        seen = settings.damage if settings.in_context else None
        batch = _draw(net, material.pictures, settings, step, seen)
        return batch, _draw(net, material.class_pictures, settings, step, None, 1) if preserved else None

    losses = {"noise": (1.0, instance)} | ({"prior": (settings.prior_weight, prior)} if preserved else {})
    return Task(groups, draw, losses, learnt)


def model_pivot(net: Diffusion, material: Material, settings: Settings) -> Task:
    """Stage B: the ControlNet learns to steer the UNet that stage A left, on other people or, without any, on the album."""
    if settings.first:
        names = [name for name, _ in net.control.named_parameters()]
        groups, learnt = tuned_whole(net.control, names[: settings.first], "control", settings)
    else:
        groups, learnt = _tune(net, "control", settings)
    text = net.prompt(person_prompt(settings), settings.batch)
    pictures = material.pictures if material.others is None else material.others
    return Task(
        groups,
        lambda step: _draw(net, pictures, settings, step, settings.damage),
        {"noise": (1.0, lambda batch: noise_loss(net, batch, text, batch.hint))},
        learnt,
    )


def album(net: Diffusion, material: Material, settings: Settings) -> Task:
    """Restoration by Generation: the UNet learns to generate the album without a prompt; the learning rate falls to 0."""
    groups, learnt = _tune(net, "unet", settings)
    nothing = net.prompt("", settings.batch)
    return Task(
        groups,
        lambda step: _draw(net, material.pictures, settings, step, None),
        {"noise": (1.0, lambda batch: noise_loss(net, batch, nothing))},
        learnt,
        anneal=True,
    )


def adapter(net: Diffusion, material: Material, settings: Settings) -> Task:
    """PFStorer: L_Diff + .1 L_Gen + 5e-4 L_Pers over the blocks, their gates and one word; the base stays as it is."""
    with seeded(settings.seed):
        blocks = personalise(net.unet, net.places)
        for block in blocks.values():
            block.float_own()
    indices = net.text.indices([person_prompt(settings)]).to(net.text.rows.device)
    row = net.text.row(PLACEHOLDER)
    token = nn.Parameter(net.text.rows[net.text.row(settings.noun)].detach().clone().float())
    gates = [block.gamma.requires_grad_(settings.gate is None) for block in blocks.values()]
    inner = [p.requires_grad_() for block in blocks.values() for p in block.image_cross_attention.parameters()]
    if settings.gate is not None:
        for gate in gates:
            nn.init.constant_(gate, settings.gate)
    groups = [{"params": inner, "lr": settings.learning_rate}, {"params": [token], "lr": TOKEN_RATE}]
    if settings.gate is None:
        groups.append({"params": gates, "lr": max(GATE_RATE, settings.learning_rate)})

    def text(count: int) -> torch.Tensor:
        return net.text(indices, (row, token)).expand(count, -1, -1)

    def draw(step: int) -> tuple[Batch, torch.Tensor]:
        """A batch and the text, after the blocks have looked at the references."""
        batch = _draw(net, material.pictures, settings, step, settings.damage)
        said = text(len(batch.t))
        with reading(net.unet, *token_positions(net, indices, row, len(batch.t))):
            net(batch.reference, batch.t, said)
        return batch, said

    def restored(drawn: tuple[Batch, torch.Tensor]) -> torch.Tensor:
        return noise_loss(net, *drawn, drawn[0].hint)

    def generated(drawn: tuple[Batch, torch.Tensor]) -> torch.Tensor:
        return noise_loss(net, *drawn)

    def personal(drawn: tuple[Batch, torch.Tensor]) -> torch.Tensor:
        return sum(one.loss for block in blocks.values() for one in block.reference)

    def learnt() -> dict[str, torch.Tensor]:
        tensors = {"token": token}
        for place, block in blocks.items():
            own = {"gamma": block.gamma, **_prefixed("image_cross_attention", block.image_cross_attention)}
            tensors |= {f"unet.{place}.{name}": value for name, value in own.items()}
        if settings.keep_references:
            tensors["reference"] = net.encode(fitted(net, material.pictures)).half()
        return {name: value.detach().clone() for name, value in tensors.items()}

    return Task(
        groups,
        draw,
        {
            "noise": (1.0, restored),
            "generation": (settings.generation_weight, generated),
            "personal": (PERSONAL_WEIGHT, personal),
        },
        learnt,
    )


# Each method has one or two stages; the persona contains the weights from all of them.
METHODS: dict[str, tuple[Callable[[Diffusion, Material, Settings], Task], ...]] = {
    "dual_pivot": (textual_pivot, model_pivot),
    "textual_pivot": (textual_pivot,),
    "model_pivot": (model_pivot,),
    "album": (album,),
    "adapter": (adapter,),
}


def check_parts(net: Diffusion, method: str) -> None:
    """Raises UserError if a method trains a part that the base does not have, or has in 8 bits."""
    check_trainable(net, "Train Persona")
    needs = {"album": (), "textual_pivot": ("text",), "adapter": ("text",)}.get(method, ("text", "control"))
    lacking = [part for part in needs if getattr(net, part) is None]
    if lacking or (method == "adapter" and not net.places):
        parts = {"text": "takes no text", "control": "has no ControlNet"}
        why = " and ".join(parts[part] for part in lacking) or "has no place for the adapter's blocks"
        raise UserError(
            f"Train Persona: {method} cannot be trained on this base, which {why}. Choose album, or another base."
        )


def _draw(
    net: Diffusion, pictures: torch.Tensor, settings: Settings, step: int, damage: str | None, stream: int = 0
) -> Batch:
    return draw_batch(net, pictures, settings.batch, damage, 2 * settings.seed + stream, step, settings.intact)


def _tune(net: Diffusion, part: str, settings: Settings):
    """Parameter groups and trained tensors for a part of the base: a LoRA on all its layers, or the weights themselves."""
    module = net.get_submodule(part)
    if settings.rank == 0:
        return tuned_whole(module, [name for name, _ in module.named_parameters()], part, settings)
    with seeded(settings.seed):
        # All but the time step embedding, which contains nothing about a person.
        layers = lora.attach(module, r"(?!time_embed).*", settings.rank)
    named = {}
    for name, layer in layers.items():
        layer.down.float()  # regardless of the base's precision: in half precision, small steps would be lost
        layer.up.float()
        named[f"{part}.{name}.lora_A.weight"] = layer.down.weight
        named[f"{part}.{name}.lora_B.weight"] = layer.up.weight
    return _group(named, settings)


def tuned_whole(module: nn.Module, names: list[str], part: str, settings: Settings):
    """Parameter groups and trained tensors for parameters of a part of the base themselves. Raises UserError without any."""
    if not names:
        raise UserError("Train Persona: there is nothing to tune. Raise the number of tensors, or set it to 0.")
    named = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        # A tensor of its own, because the base's is shared with it, and in single precision, where small steps count.
        named[f"{part}.{name}"] = nn.Parameter(module.get_parameter(name).detach().clone().float())
        setattr(module.get_submodule(parent), last, named[f"{part}.{name}"])
    return _group(named, settings)


def _group(named: dict[str, nn.Parameter], settings: Settings):
    parameters = [parameter.requires_grad_() for parameter in named.values()]

    def learnt() -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in named.items()}

    return [{"params": parameters, "lr": settings.learning_rate}], learnt


def _prefixed(prefix: str, module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}

"""Applies a persona to a base model (weights, word and references) without changing the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch.func import functional_call

from ...lib.diffusion.base import Diffusion, fitted
from ...lib.diffusion.lora import adapted
from ...lib.vocabulary import Persona, UserError
from ..pfstorer.vico_block import PersonalTransformer, personalise, reading

# Noisy latent, time step, prompt, hint or None and control strength to predicted noise.
Predict = Callable[[torch.Tensor, int, str, torch.Tensor | None, float], torch.Tensor]


def check_base(persona: Persona, base: str) -> None:
    """Raises UserError for a persona of another model."""
    if persona.base != base:
        raise UserError(
            f"The persona was made for {persona.base!r}, but this restorer is {base!r}. Load the model that it was "
            "trained on, or train it again on this one."
        )


def tuned_weights(net: Diffusion, persona: Persona, strength: float) -> dict[str, torch.Tensor]:
    """The tensors that differ from the base's under a persona with a strength of 0..1, by name, for `functional_call`.

    Where the base's are stored in 8 bits, in the precision that it computes in.
    """
    own, computed = dict(net.named_parameters()), net.half_precision or torch.float32

    def exact(name: str) -> torch.Tensor:
        return own[name] if own[name].dtype.itemsize > 1 else own[name].to(computed)

    tuned = {}
    with _of_this_shape():
        for name, value in persona.tensors.items():
            if name.endswith(".lora_A.weight"):
                layer = name.removesuffix(".lora_A.weight")
                weight, up = exact(f"{layer}.weight"), persona.tensors[f"{layer}.lora_B.weight"]
                tuned[f"{layer}.weight"] = adapted(weight, value.to(weight.device), up.to(weight.device), strength)
            elif name in own:
                tuned[name] = torch.lerp(exact(name), value.to(exact(name)), strength)
    return tuned


@contextmanager
def wearing(
    net: Diffusion,
    persona: Persona | None,
    strength: float = 1.0,
    references: torch.Tensor | None = None,
    goal: torch.Tensor | None = None,
    differentiable: bool = False,
    attention: float = 1.0,
) -> Iterator[Predict]:
    """Inside the context, the returned function predicts noise like net with the persona; afterwards, net is unchanged.

    references: ``[N, 3, S, S]`` in 0..1, for an adapter that contains none; of several, the one most similar to goal, a
    latent, is used. Without any, the adapter's blocks do nothing. differentiable: allows gradients even if the weights
    were created under inference mode. attention: of the adapter's blocks, on top of the strength; 0 leaves the learned word.
    """
    if persona is None or strength == 0:
        persona, tuned, word = None, {}, None
    else:
        tuned = tuned_weights(net, persona, strength)
        word = (net.text.row(persona.token), persona.tensors["token"].to(net.text.rows)) if persona.token else None
    places = [name.removesuffix(".gamma") for name in persona.tensors if name.endswith(".gamma")] if persona else []
    reference = _reference(net, persona, references, goal) if places else None
    with _of_this_shape():
        bases, blocks = {place: net.get_submodule(place) for place in places}, personalise(net, places)
    looked = None
    try:
        for place, block in blocks.items():
            _fill(block, persona, place, strength * attention)
        if differentiable:
            tuned = _differentiable(net, tuned)
            with torch.inference_mode(False):
                reference = None if reference is None else reference.clone()

        @cache
        def words(prompt: str, count: int) -> torch.Tensor | None:
            text = net.prompt(prompt, count, word)
            if differentiable and text is not None and text.is_inference():
                with torch.inference_mode(False):
                    return text.clone()
            return text

        def predict(
            noisy: torch.Tensor, t: int, prompt: str, hint: torch.Tensor | None = None, control: float = 1.0
        ) -> torch.Tensor:
            nonlocal looked
            times = torch.full((len(noisy),), t, device=noisy.device)
            # The features depend only on the time step, so the tiles of a picture and both sides of guidance share them.
            if reference is not None and looked != (t, len(noisy)):
                with _looking(net, persona, len(noisy)):
                    seen = reference.expand(len(noisy), -1, -1, -1)
                    functional_call(net, tuned, (seen, times, words(persona.prompt, len(noisy))))
                looked = t, len(noisy)
            return functional_call(net, tuned, (noisy, times, words(prompt, len(noisy)), hint, control))

        yield predict
    finally:
        for place, base in bases.items():
            parent, _, name = place.rpartition(".")
            net.get_submodule(parent).register_module(name, base)


@contextmanager
def _of_this_shape() -> Iterator[None]:
    """Turns what torch raises for tensors that belong to another network, or to none, into a UserError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (LookupError, AttributeError, RuntimeError, TypeError) as error:
        raise UserError(f"The persona does not fit this base ({error}). Train it again.") from error


def _differentiable(net: Diffusion, tuned: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All weights that a gradient passes, tuned or the net's own, none of them made under inference mode."""
    idle = "text.", "vae."
    own = [*net.named_parameters(), *net.named_buffers()]
    tuned = {**{name: value for name, value in own if not name.startswith(idle)}, **tuned}
    with torch.inference_mode(False):
        return {name: value.clone() if value.is_inference() else value for name, value in tuned.items()}


def _looking(net: Diffusion, persona: Persona, count: int):
    indices = net.text.indices([persona.prompt]).to(net.text.rows.device)
    return reading(net.unet, *token_positions(net, indices, net.text.row(persona.token), count))


def _reference(
    net: Diffusion, persona: Persona, references: torch.Tensor | None, goal: torch.Tensor | None
) -> torch.Tensor | None:
    """The reference latent ``[1, C, h, w]`` to use: from the persona or, if it has none, from the references."""
    if "reference" in persona.tensors:
        latents = persona.tensors["reference"].to(net.device).float()
    elif references is not None and len(references):
        latents = net.encode(fitted(net, references))
    else:
        return None
    if goal is None:
        return latents[:1]
    # The closest in pose, judged by features that survive any damage.
    small = [F.adaptive_avg_pool2d(one.mean(1, keepdim=True), 8) for one in (latents, goal[:1])]
    return latents[[int((small[0] - small[1]).square().mean((1, 2, 3)).argmin())]]


def _fill(block: PersonalTransformer, persona: Persona, place: str, strength: float) -> None:
    own = {
        name.removeprefix(f"{place}."): value for name, value in persona.tensors.items() if name.startswith(f"{place}.")
    }
    with _of_this_shape():
        missing, surplus = block.load_state_dict(own, strict=False)
    if surplus or any(name == "gamma" or name.startswith("image_cross_attention") for name in missing):
        raise UserError("The persona's file is incomplete: its blocks do not fit. Train it again.")
    block.strength = strength
    block.eval().requires_grad_(False)


def token_positions(net: Diffusion, indices: torch.Tensor, row: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the word of a row and where the end of the text is in a prompt ``[1, T]``, int64 ``[count]`` each."""
    return tuple((indices[0] == wanted).nonzero()[0].expand(count) for wanted in (row, net.text.end))

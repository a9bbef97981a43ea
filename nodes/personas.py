"""Nodes that train, save, load and apply personas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..lib.bridge import io, keep, progress, weight_folders
from ..lib.degradation.families import FAMILIES
from ..lib.extras import require
from ..lib.storage.names import holding, names_in
from ..lib.storage.personas import describe_persona, load_persona, persona_path, save_persona, without_pictures
from ..lib.vocabulary import Library, Persona, UserError, abilities
from ..models.embedded import ready as embedded
from . import sockets
from .layout import to_photos
from .published_bases import blind_negative_input

if TYPE_CHECKING:
    from ..training.personas.session import Album

METHODS = ("dual_pivot", "textual_pivot", "model_pivot", "album", "adapter")
NAME = "The file name in models/personal_restore/personas, without the extension."


def persona_folders() -> list[Path]:
    """Where personas are looked for."""
    return [folder / "personas" for folder in weight_folders("personal_restore")]


def folder() -> Path:
    """Where new ones go."""
    return persona_folders()[0]


class DiffusionBase(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_DiffusionRestorer",
            display_name="Diffusion Restorer",
            category=sockets.RESTORERS,
            description="The small diffusion model that ships with the pack. It restores faces at 128x128 in many "
            "steps and can be trained on a person (Train Persona). Use it to try personas without downloads; without "
            "a persona, the Embedded Restorer is better.",
            search_aliases=["diffusion", "controlnet", "diffbir", "persona", "dreambooth"],
            inputs=[
                sockets.denoise_input(
                    default=0.4,
                    tooltip="How much noise is added to the face and removed again. More noise "
                    "leaves more to the model and the persona. 0 returns the face unchanged, bit for bit.",
                ),
                io.Int.Input(
                    "steps", default=25, min=1, max=1000, tooltip="Number of sampling steps used to remove the noise."
                ),
                sockets.share_input(
                    "control",
                    default=1.0,
                    tooltip="How strongly the damaged face guides the result. 0 is Restoration by Generation: only "
                    "the noisy face guides it.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=1.0,
                    max=8.0,
                    step=0.1,
                    tooltip="Above 1, the model also predicts a damaged face and moves away from it. Takes twice the "
                    "time.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Added to the persona's prompt. The small model knows these words: dark, bright, grey, "
                    "red, green, blue, smooth, busy, clean, damaged.",
                ),
                sockets.skip_guidance_input(optional=True),
                blind_negative_input(),
            ],
            outputs=[
                sockets.restorer_output("Restores faces, and serves as the base for Train Persona and Apply Persona.")
            ],
        )

    @classmethod
    def execute(
        cls,
        denoise: float,
        steps: int,
        control: float,
        cfg: float,
        prompt: str = "",
        skip_guidance: float = 0.0,
        blind_negative: bool = False,
    ) -> io.NodeOutput:
        require("Diffusion Restorer", "diffusion")
        # Imported here because diffusers takes seconds to import.
        from ..models.gen2res.generation import skip_guidance_of

        return io.NodeOutput(
            replace(
                embedded.diffusion(keep),
                denoise=denoise,
                steps=steps,
                control=control,
                cfg=cfg,
                prompt=prompt,
                skip_guidance=skip_guidance_of(skip_guidance),
                blind_negative=blind_negative,
            )
        )


class TrainPersona(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_TrainPersona",
            display_name="Train Persona",
            category=sockets.PERSONAS,
            description="Trains a diffusion restorer on a person, from an album of good pictures. If you cancel, what "
            "was learned so far is saved as a persona. Run it again with the same settings to resume.",
            search_aliases=["dreambooth", "lora", "dual-pivot", "pfstorer", "gen2res", "personalise"],
            inputs=[
                sockets.Restorer.Input("restorer", tooltip="The base model to train: a Diffusion Restorer."),
                io.String.Input(
                    "person",
                    default="",
                    tooltip="The person's name, spelled as in the library's report. Leave it empty if the library has "
                    "only one person.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip="dual_pivot trains the model around a word, then the control around that model; "
                    "textual_pivot and model_pivot are its two halves. album trains the model alone, for Restoration "
                    "by Generation. adapter trains gated blocks that look at a reference picture (PFStorer).",
                ),
                io.Int.Input(
                    "steps",
                    default=300,
                    min=1,
                    max=100000,
                    tooltip="Training steps per stage. dual_pivot has two stages.",
                ),
                sockets.seed("The same seed gives the same persona."),
                sockets.Library.Input("library", optional=True, tooltip="The albums."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="Aligned faces to train on instead of a library, for example a generative album.",
                ),
                io.Int.Input("batch", default=2, min=1, max=64, optional=True, tooltip="Pictures per step."),
                io.Int.Input(
                    "rank",
                    default=16,
                    min=0,
                    max=128,
                    optional=True,
                    advanced=True,
                    tooltip="Rank of the LoRA. 0 tunes the weights themselves, which produces a large persona.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.001,
                    min=0.000001,
                    max=0.1,
                    step=0.000001,
                    optional=True,
                    advanced=True,
                    tooltip="Use 0.001 for the small base and 0.0001 for a LoRA on Stable Diffusion.",
                ),
                io.Boolean.Input(
                    "in_context",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Trains the textual pivot on damaged pictures, with the control connected. The published "
                    "recipe leaves this off.",
                ),
                io.Float.Input(
                    "prior_weight",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="How strongly the textual pivot preserves what the base generates for other people. The "
                    "published value for Stable Diffusion is 1. Use 0 for the small base, which knows no people.",
                ),
                io.Boolean.Input(
                    "others",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip="Trains the model pivot on the other people in the library, if there are any, as in the "
                    "paper. If off, it trains on the person.",
                ),
                io.Boolean.Input(
                    "keep_photographs",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Stores the adapter's reference pictures in the persona, where anyone with the file can "
                    "see them. The adapter then needs no library to restore.",
                ),
                io.Combo.Input(
                    "damage",
                    options=list(FAMILIES),
                    default="dual_pivot",
                    optional=True,
                    advanced=True,
                    tooltip="The damage applied to the album during training; Degrade Photograph explains the names. "
                    "Choose the one closest to your photographs.",
                ),
                io.Boolean.Input(
                    "low_memory",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Recomputes activations instead of storing them, and uses an 8-bit optimizer on a "
                    "graphics card if bitsandbytes is installed. Slower.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=25,
                    min=0,
                    max=100000,
                    optional=True,
                    advanced=True,
                    tooltip="Shows a face from the album, damaged and restored with the current weights, and the loss "
                    "curve after every this many steps. 0 turns the preview off.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[
                        *("own", "quick", "published", "published, generative album"),
                        *("published, in context", "published, fixed gates"),
                    ],
                    default="own",
                    optional=True,
                    tooltip="own: the settings of this node. quick: 300 steps of a LoRA, for the small base. published: those of the paper "
                    "and its code, stage by stage, for a published base on a graphics card; they take the place of this node's other "
                    "settings, as far as the paper names them. generative album: for an album from Generative Album. in context: the "
                    "textual pivot of Dual-Pivot Tuning's figures. fixed gates: PFStorer's blocks without its gates, as in ViCo.",
                ),
                io.Int.Input(
                    "first",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    advanced=True,
                    tooltip="The model pivot tunes only the first this many tensors of the ControlNet, themselves. Published value: 150. 0 "
                    "tunes all of it, with rank.",
                ),
                io.Float.Input(
                    "generation_weight",
                    default=0.1,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="Weight of the adapter's generative regularization (PFStorer's lambda_Gen): how much it learns without seeing "
                    "the damaged face. More helps with heavy damage and hurts with light damage. Published value: 0.1.",
                ),
                io.Float.Input(
                    "gate",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="A fixed value for the adapter's gates (PFStorer's gamma); 1 is ViCo. 0 learns them, as published.",
                ),
                sockets.share_input(
                    "intact",
                    default=0.0,
                    tooltip="How often the control is shown the undamaged picture in training, so that a good face is left as it is "
                    "(PFStorer's p_HQ). Published value: 0.03.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                sockets.Persona.Output(display_name="persona", tooltip="The trained persona."),
                io.String.Output(display_name="report", tooltip="The settings, the number of pictures and the losses."),
            ],
        )

    @classmethod
    def execute(
        cls,
        restorer: Any,
        person: str,
        method: str,
        steps: int,
        seed: int,
        library: Library | None = None,
        images: torch.Tensor | None = None,
        others: bool = True,
        keep_photographs: bool = False,
        preview_every: int = 25,
        gate: float = 0.0,
        **settings: Any,
    ) -> io.NodeOutput:
        require("Train Persona", "training")
        # Imported here because diffusers takes seconds to import.
        from ..training.personas.methods import Settings
        from ..training.personas.session import watched

        if not abilities(restorer).teachable:
            raise UserError(
                f"Train Persona: {restorer.name!r} cannot be trained on a person. Connect a Diffusion Restorer "
                "directly, without Apply Persona."
            )
        album = album_of(person, library, images)
        chosen: dict[str, Any] = {
            "noun": album.noun,
            "keep_references": keep_photographs,
            "prior_weight": 0.0,
            "gate": gate or None,
        } | settings
        persona = watched(
            restorer,
            album if others else replace(album, others=None),
            Settings(method, steps, seed=seed, **chosen),
            folder(),
            progress(),
            preview_every,
        )
        return io.NodeOutput(persona, describe_persona(persona))


class SavePersona(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_SavePersona",
            display_name="Save Persona",
            category=sockets.PERSONAS,
            description="Saves a persona to a single .safetensors file. A persona makes a person recognizable and is "
            "therefore biometric data. To delete it, delete the file.",
            search_aliases=["lora", "store"],
            inputs=[
                sockets.Persona.Input("persona", tooltip="The persona to save."),
                io.String.Input("name", default="persona", tooltip=NAME),
                io.Boolean.Input(
                    "photographs",
                    default=False,
                    tooltip="Keeps the reference pictures that an adapter may contain. If off, they are left out.",
                ),
            ],
            outputs=[io.String.Output(display_name="report", tooltip="The contents of the file.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, persona: Persona, name: str, photographs: bool) -> io.NodeOutput:
        kept = persona if photographs else without_pictures(persona)
        return io.NodeOutput(f"Saved {save_persona(kept, folder(), name).name}.\n{describe_persona(kept)}")


class LoadPersona(sockets.FromSavedFile):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_LoadPersona",
            display_name="Load Persona",
            category=sockets.PERSONAS,
            description="Loads a persona saved with Save Persona, or the result of a canceled training run.",
            search_aliases=["lora"],
            inputs=[sockets.file_dropdown("name", names_in(persona_folders()), NAME)],
            outputs=[
                sockets.Persona.Output(display_name="persona", tooltip="The persona, for Apply Persona."),
                io.String.Output(
                    display_name="report", tooltip="The person, how the persona was trained, and its base."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str) -> str:
        path = persona_path(holding(persona_folders(), name, "persona"), name)
        return str((path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        persona = load_persona(holding(persona_folders(), name, "persona"), name)
        return io.NodeOutput(persona, describe_persona(persona))


class ApplyPersona(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_ApplyPersona",
            display_name="Apply Persona",
            category=sockets.PERSONAS,
            description="Adds a persona to a restorer. You can connect the result wherever a restorer fits. Chain "
            "several of these nodes for several people.",
            search_aliases=["lora", "identity", "personalise"],
            inputs=[
                sockets.Restorer.Input("restorer", tooltip="The restorer that the persona was trained on."),
                sockets.Persona.Input("persona", tooltip="A persona from Train Persona or Load Persona."),
                sockets.share_input(
                    "strength",
                    default=1.0,
                    tooltip="0 leaves the restorer unchanged, bit for bit.",
                ),
                io.String.Input(
                    "person",
                    default="",
                    tooltip="Uses the persona only for faces recognized as this person (Match Faces). If empty, it "
                    "applies to every face.",
                ),
                io.Float.Input(
                    "attention",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    optional=True,
                    advanced=True,
                    tooltip="How much an adapter's blocks add (PFStorer's lambda_att). 0 leaves only the learned word, above 1 exaggerates "
                    "the person. Other methods have no such blocks.",
                ),
            ],
            outputs=[sockets.restorer_output("The same restorer with the persona.")],
        )

    @classmethod
    def execute(
        cls, restorer: Any, persona: Persona, strength: float, person: str, attention: float = 1.0
    ) -> io.NodeOutput:
        require("Apply Persona", "diffusion")
        from ..models.personas.restorer import PersonalRestorer
        from ..models.personas.wear import check_base
        from ..models.shared.merged_base import BASE_MODEL, merged_base

        base = abilities(restorer).base
        if not base:
            raise UserError(
                f"Apply Persona: {restorer.name!r} cannot use a persona. Connect the restorer that the persona was "
                "trained on."
            )
        check_base(persona, base)
        if persona.kind == BASE_MODEL:
            if not abilities(restorer).teachable or person.strip():
                raise UserError(
                    "Apply Persona: a base model is for everybody and goes first. Leave person empty, and connect the restorer "
                    "directly, without another persona."
                )
            return io.NodeOutput(merged_base(restorer, persona, strength, keep) if strength else restorer)
        return io.NodeOutput(PersonalRestorer(restorer, persona, strength, person.strip(), attention))


def album_of(person: str, library: Library | None, images: torch.Tensor | None) -> Album:
    """The pictures to learn from: images if there are any, else those of the person in the library."""
    from ..training.personas.session import Album

    if images is not None:
        return Album(person.strip() or "images", "person", to_photos(images))
    people = library.people if library else ()
    known = ", ".join(one.name for one in people) or "nobody"
    found = people[0] if len(people) == 1 and not person.strip() else library and library.get(person.strip())
    if not found:
        raise UserError(
            f"Train Persona: choose a person. The library contains: {known}. Enter one of the names in person, or "
            "connect images."
        )
    crops = [reference.crop for other in people if other is not found for reference in other.references]
    own = torch.stack([reference.crop for reference in found.references])
    return Album(found.name, found.noun, own, torch.stack(crops) if crops else None)

"""The general restorer at a larger scale (PerFuSe, figure S2: 2x super-resolution)."""

from __future__ import annotations

from ..lib.bridge import io, keep, tell
from ..lib.vocabulary import Restorer, UserError
from ..models.embedded import ready as embedded
from ..models.upscale.build import named_for, scene_models, scene_restorer
from ..models.upscale.enlarged import EnlargedFirst
from . import sockets

AUTO, EMBEDDED = "auto", "embedded"


class EnlargingRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_EnlargingRestorer",
            display_name="Enlarging Restorer",
            category=sockets.RESTORERS,
            description="Restores and enlarges in one step, with an upscale model of that scale, or with the embedded restorer on the "
            "enlarged picture. That is better than enlarging a restored picture, because what enlarging blurs is restored, too.",
            search_aliases=["super resolution", "2x", "upscale", "real-esrgan", "perfuse", "supir"],
            inputs=[
                io.Int.Input("scale", default=2, min=2, max=4, tooltip="By how much the picture is enlarged."),
                io.Combo.Input(
                    "model",
                    options=[AUTO, EMBEDDED, *scene_models()],
                    default=AUTO,
                    tooltip="A file in models/upscale_models that enlarges by exactly this scale. auto: the first whose name says so, such "
                    "as RealESRGAN_x2plus.pth; if there is none, embedded: the small restorer that ships with the pack.",
                ),
            ],
            outputs=[
                sockets.restorer_output("Restores scenes and faces at this scale. It uses no degradation code."),
                io.String.Output(display_name="report", tooltip="Which restorer is used, and why."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool:
        return True  # a workflow may name a file that is not there; execute reports what to do

    @classmethod
    def execute(cls, scale: int, model: str) -> io.NodeOutput:
        restorer, report = enlarging(scale, model)
        tell(report)
        return io.NodeOutput(restorer, report)


def enlarging(scale: int, model: str) -> tuple[Restorer, str]:
    """The restorer, and what it is and why. Raises UserError for a file of another scale."""
    name = named_for(scale) if model == AUTO else model
    if name is None or name == EMBEDDED:
        why = "as chosen" if model == EMBEDDED else f"because no file in models/upscale_models is named for {scale}x"
        return EnlargedFirst(
            embedded.restorer(keep), scale
        ), f"Embedded restorer on the picture enlarged {scale}x, {why}."
    restorer = scene_restorer(name)
    if restorer.scale != scale:
        raise UserError(
            f"Enlarging Restorer: {name} enlarges {restorer.scale}x, not {scale}x. Set scale to {restorer.scale}, or choose another model."
        )
    why = "the first file in models/upscale_models that is named for this scale" if model == AUTO else "as chosen"
    return restorer, f"{restorer.name} at {scale}x from {name}, {why}."

"""InstantRestore, for those who have a checkpoint of it."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import device, io, keep
from ..lib.vocabulary import UserError
from ..models.shared.weight_files import NONE, weight_files
from . import sockets


def own_checkpoints() -> dict[str, Path]:
    """Files that the user has put into the pack's folder, by their name below it."""
    return weight_files("personal_restore", suffixes=(".pt",))


class InstantRestoreRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_InstantRestoreRestorer",
            display_name="InstantRestore Restorer",
            category=sockets.CATEGORY,
            description="InstantRestore: restores a face in one step of SD-Turbo and takes the person from up to four pictures of the "
            "album. Its weights are published without a licence, so this pack neither fetches nor recommends them: whoever may use "
            "them puts a checkpoint into models/personal_restore. For a graphics card.",
            search_aliases=["instantrestore", "reference face restoration", "shared attention", "sd-turbo", "identity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(own_checkpoints()) or [NONE],
                    tooltip="A checkpoint of InstantRestore (.pt) in models/personal_restore. It holds SD-Turbo as well.",
                ),
            ],
            outputs=[
                sockets.Restorer.Output(display_name="restorer", tooltip="Restores faces of people in the library.")
            ],
        )

    @classmethod
    def execute(cls, checkpoint: str) -> io.NodeOutput:
        known = own_checkpoints()
        if checkpoint not in known:
            raise UserError(
                f"InstantRestore Restorer: there is no {checkpoint!r} in models/personal_restore. Its weights have no licence "
                "and are not fetched by this pack; put your checkpoint (.pt) there, or use FaceMe Restorer or Reference Restorer."
            )
        # Here and not above: diffusers takes seconds to import.
        from ..models.instantrestore.network import load
        from ..models.instantrestore.restorer import InstantRestoreRestorer as Restorer

        net = load(known[checkpoint])
        if device().type == "cuda":
            for unet in (net.unet, net.reference_unet):
                unet.half()
            for vae in (net.vae, net.reference_vae):
                vae.bfloat16()  # half precision overflows in some pictures
        return io.NodeOutput(Restorer(keep(net)))

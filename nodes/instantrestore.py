"""InstantRestore, for users who have a checkpoint."""

from __future__ import annotations

from pathlib import Path

from ..lib.bridge import device, io, keep
from ..lib.vocabulary import UserError
from ..models.shared.weight_files import NONE, weight_files
from . import sockets


def own_checkpoints() -> dict[str, Path]:
    """Files in the pack's folder, by relative name."""
    return weight_files("personal_restore", suffixes=(".pt",))


class InstantRestoreRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PR_InstantRestoreRestorer",
            display_name="InstantRestore Restorer",
            category=sockets.CATEGORY,
            description="InstantRestore: restores a face in one step of SD-Turbo, with the person's identity from up "
            "to four pictures in the album. Its weights were published without a license, so this pack neither "
            "downloads nor recommends them. If you are allowed to use them, put a checkpoint into "
            "models/personal_restore. Needs a graphics card.",
            search_aliases=["instantrestore", "reference face restoration", "shared attention", "sd-turbo", "identity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=list(own_checkpoints()) or [NONE],
                    tooltip="An InstantRestore checkpoint (.pt) in models/personal_restore. It also contains SD-Turbo.",
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
                f"InstantRestore Restorer: there is no {checkpoint!r} in models/personal_restore. The weights have no "
                "license, so this pack does not download them. Put your checkpoint (.pt) there, or use FaceMe "
                "Restorer or Reference Restorer."
            )
        # Imported here because diffusers takes seconds to import.
        from ..models.instantrestore.network import load
        from ..models.instantrestore.restorer import InstantRestoreRestorer as Restorer

        net = load(known[checkpoint])
        if device().type == "cuda":
            for unet in (net.unet, net.reference_unet):
                unet.half()
            for vae in (net.vae, net.reference_vae):
                vae.bfloat16()  # half precision overflows in some pictures
        return io.NodeOutput(Restorer(keep(net)))

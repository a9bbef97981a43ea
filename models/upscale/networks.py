"""Networks in the form of their public files, by spandrel: restorers of aligned faces (GFPGAN, RestoreFormer, CodeFormer), and
upscale models for whole pictures (Real-ESRGAN, SwinIR and the rest)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict

from ...lib.extras import command
from ...lib.vocabulary import UserError
from ..shared.public_weights import read_file

WHAT = "a face restorer such as GFPGANv1.4.pth or RestoreFormer.pth"
WHAT_FOR_SCENES = "an upscale model such as RealESRGAN_x2plus.pth"
CODEFORMER = {"position_emb", "idx_pred_layer.1.weight"}  # how spandrel recognizes it, too


def load_face_network(path: Path) -> ImageModelDescriptor:
    """A network for aligned faces with its file's weights, as `read_network`. Raises UserError for one that is made for scenes."""
    model = read_network(path, WHAT)
    if model.purpose != "FaceSR":
        raise UserError(
            f"{path.name} is {model.architecture.name}, which is not made for aligned faces. Use it for scenes, with "
            f"Enlarging Restorer, or Load Upscale Model and Restorer from Upscale Model. Here, choose {WHAT}."
        )
    return model


def load_scene_network(path: Path) -> ImageModelDescriptor:
    """A network for whole pictures with its file's weights, as `read_network`. Raises UserError for one that is made for faces."""
    model = read_network(path, WHAT_FOR_SCENES)
    if model.purpose == "FaceSR":
        raise UserError(
            f"{path.name} is {model.architecture.name}, which is made for aligned faces. Use it with Face Model Restorer. Here, "
            f"choose {WHAT_FOR_SCENES}."
        )
    return model


def read_network(path: Path, what: str) -> ImageModelDescriptor:
    """The network with its file's weights, read without running code from it; what: which file is wanted, for the messages.

    Raises UserError for a damaged file and for an unknown network.
    """
    tensors = read_file(path, what)
    tensors = tensors if isinstance(tensors, dict) else {}
    if importlib.util.find_spec("spandrel_extra_arches") is not None:
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    try:
        tensors = canonicalize_state_dict(tensors)
        model = ModelLoader().load_from_state_dict(tensors)
    except UnsupportedModelError as error:
        if tensors.keys() >= CODEFORMER:
            raise UserError(
                f"{path.name} is CodeFormer (S-Lab License 1.0, not for commercial use), which spandrel provides in a "
                f"separate package. Run: {command('codeformer')}. Or choose GFPGAN or RestoreFormer."
            ) from error
        raise UserError(f"{path.name} is not a network that spandrel supports. Choose {what}.") from error
    except Exception as error:  # spandrel looks into files in many ways, and raises whatever it stumbles over
        raise UserError(
            f"{path.name} is incomplete, or a variant that spandrel does not support. Choose {what}."
        ) from error
    if not isinstance(model, ImageModelDescriptor):
        raise UserError(
            f"{path.name} is {model.architecture.name}, which needs a mask beside the picture. Choose {what}."
        )
    return model

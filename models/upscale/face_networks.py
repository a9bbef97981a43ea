"""Blind restorers of aligned faces, in the form of their public files: GFPGAN, RestoreFormer, CodeFormer, by spandrel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict

from ...lib.extras import command
from ...lib.vocabulary import UserError
from ..shared.public_weights import read_file

WHAT = "a face restorer such as GFPGANv1.4.pth or RestoreFormer.pth"
CODEFORMER = {"position_emb", "idx_pred_layer.1.weight"}  # how spandrel recognizes it, too


def load_face_network(path: Path) -> ImageModelDescriptor:
    """The network with its file's weights, read without running code from it.

    Raises UserError for a damaged file, for an unknown network, and for one that is not made for aligned faces.
    """
    tensors = read_file(path, WHAT)
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
        raise UserError(f"{path.name} is not a network that spandrel supports. Choose {WHAT}.") from error
    except Exception as error:  # spandrel looks into files in many ways, and raises whatever it stumbles over
        raise UserError(
            f"{path.name} is incomplete, or a variant that spandrel does not support. Choose {WHAT}."
        ) from error
    if model.purpose != "FaceSR":
        raise UserError(
            f"{path.name} is {model.architecture.name}, which is not made for aligned faces. Use it for scenes, with "
            f"Load Upscale Model and Restorer from Upscale Model. Here, choose {WHAT}."
        )
    return model

"""Face2Scene's stages from a restored face to the degradation code (3.2 and 3.3), one by one and as their sum."""

from __future__ import annotations

import json
from typing import Any

import torch

from ..lib.bridge import io, keep, progress
from ..lib.degradation.estimate import describe_damage, face_pairs, pairs_of_pictures
from ..lib.degradation.picture import gauge, map_picture, one_size, pair_picture
from ..lib.vocabulary import DegradationCode, DegradationMaps, FacePairs, Faces, UserError
from ..models.embedded import ready as embedded
from ..models.embedded.estimate import ALL, code_of_maps, extracted_maps
from ..models.embedded.mapnet import TOKEN_SETS
from ..models.embedded.weights import TOKEN_SPACE, Extractor
from ..models.face2scene import network as face2scene
from . import sockets
from .face2scene import trained, trained_named
from .layout import check_same_photos, masks_of, to_image, to_photos

EMBEDDED = "embedded"
NO_FACE = "There is no restored face of 16 pixels or more. The scene is restored without a degradation code."
NO_FACE_HERE = (
    "This photograph has no restored face of 16 pixels or more. It is restored without a degradation code.\n{}"
)


def face_input() -> io.Int.Input:
    return io.Int.Input(
        "face",
        default=-1,
        min=-1,
        max=999,
        advanced=True,
        tooltip="The face to use for all photographs, numbered from 0 in reading order. -1 uses the largest restored "
        "face of each photograph.",
    )


def one_for_all_input(**more: Any) -> io.Boolean.Input:
    return io.Boolean.Input(
        "one_for_all",
        default=False,
        tooltip="For a batch of photographs. Off: every photograph has a code of its own, and one without a face is "
        "restored without a code. On: the largest face of all reveals the damage of all, for bursts and videos that "
        "were damaged alike.",
        **more,
    )


def filled_input() -> io.Input:
    return io.Mask.Input(
        "filled",
        optional=True,
        tooltip="Places of the photograph that were filled, such as scratches. The damage is read beside them.",
    )


def extractor_input(**more: Any) -> io.Combo.Input:
    return io.Combo.Input(
        "extractor",
        options=[EMBEDDED, *trained()],
        default=EMBEDDED,
        tooltip="The network that estimates the damage: the small extractor that ships with the pack, or "
        "that of a trained Face2Scene model. A restorer understands only codes from the extractor that it "
        "was trained with.",
        **more,
    )


class UsesExtractor(io.ComfyNode):
    """A node that names an extractor. It may not exist yet, because a bundled workflow names it; execute reports what to do."""

    @classmethod
    def validate_inputs(cls, extractor: str = EMBEDDED) -> bool:
        return True


def extractor_named(name: str, node: str) -> tuple[Extractor, str]:
    """The network, where the host wants it, and the name of its token space. Raises UserError with the known names."""
    if name == EMBEDDED:
        return embedded.extractor(keep)(), TOKEN_SPACE
    weights = face2scene.read_face2scene(trained_named(name, node), only="extractor.")
    return keep(weights.extractor())(), weights.token_space


def extractor_of(maps: DegradationMaps, node: str) -> Extractor:
    """The one that made the maps. Raises UserError if its file is another one by now."""
    network, space = extractor_named(maps.extractor, node)
    if space != maps.space:
        raise UserError(
            f"{node}: {maps.extractor} was replaced after FaDeX had read the damage with it. Run the FaDeX node again."
        )
    return network


class FacePair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FacePair",
            display_name="Face Pair",
            category=sockets.SCENE,
            description="Cuts a restored face and the same face of the damaged photograph out at the photograph's own scale: the "
            "pair from which FaDeX reads the damage.",
            search_aliases=["face2scene", "degradation oracle", "hq lq pair"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="Restored faces."),
                face_input(),
                one_for_all_input(),
                filled_input(),
            ],
            outputs=[
                sockets.FacePair.Output(display_name="pair", tooltip="The pair of each photograph, for FaDeX."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="Each pair as a picture: restored on the left, damaged on the right.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image: torch.Tensor, faces: Faces, face: int, one_for_all: bool, filled: torch.Tensor | None = None
    ) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Face Pair", photos, faces)
        masks = None if filled is None else masks_of("Face Pair", filled, photos)
        return shown_pairs(face_pairs("Face Pair", photos, faces, face, one_for_all, masks))


def shown_pairs(pairs: FacePairs) -> io.NodeOutput:
    return io.NodeOutput(pairs, to_image(one_size([pair_picture(one) for one in pairs.frames])))


class FacePairFromImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FacePairFromImages",
            display_name="Face Pair from Images",
            category=sockets.SCENE,
            description="Makes a face pair of two pictures that show the same face in the same place: a good one, from any restorer, and "
            "the damaged one. It does not have to be a face; what counts is that both show the same, pixel by pixel.",
            search_aliases=["face2scene", "hq lq pair", "ground truth face"],
            inputs=[
                io.Image.Input("restored", tooltip="The good picture, at the damaged photograph's own scale."),
                io.Image.Input("damaged", tooltip="The damaged picture, of the same size."),
            ],
            outputs=[
                sockets.FacePair.Output(display_name="pair", tooltip="The pair of each picture, for FaDeX."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="Each pair as a picture: restored on the left, damaged on the right.",
                ),
            ],
        )

    @classmethod
    def execute(cls, restored: torch.Tensor, damaged: torch.Tensor) -> io.NodeOutput:
        return shown_pairs(pairs_of_pictures(to_photos(restored), to_photos(damaged)))


class FaDeX(UsesExtractor):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_FaDeX",
            display_name="FaDeX",
            category=sockets.SCENE,
            description="Face2Scene's degradation extractor: compares the two pictures of a face pair and describes the damage as a map "
            "of features, Z. MapNet translates the map for a restorer, Damage Gauge for people.",
            search_aliases=["face2scene", "degradation extractor", "moco", "z map"],
            inputs=[
                sockets.FacePair.Input("pair", tooltip="From Face Pair or Face Pair from Images."),
                extractor_input(),
            ],
            outputs=[
                sockets.Map.Output(display_name="map", tooltip="The features Z, for MapNet and Damage Gauge."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="The map in colors: its three strongest principal components, at the size of the pair. Regions of different "
                    "colors were damaged differently; the face itself shines through.",
                ),
            ],
        )

    @classmethod
    def execute(cls, pair: FacePairs, extractor: str) -> io.NodeOutput:
        network, space = extractor_named(extractor, "FaDeX")
        maps = extracted_maps(network, pair, extractor, space, progress())
        return io.NodeOutput(maps, to_image(one_size([map_picture(one) for one in maps.frames])))


class MapNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_MapNet",
            display_name="MapNet",
            category=sockets.SCENE,
            description="Face2Scene's degradation mapping network: translates FaDeX's map into tokens that a restorer understands, at "
            "three scales: 16 of a 4x4 grid, 4 of a 2x2 grid and 1 for the whole face.",
            search_aliases=["face2scene", "degradation tokens", "code"],
            inputs=[
                sockets.Map.Input("map", tooltip="From FaDeX. MapNet is always the one that was trained with it."),
                io.Combo.Input(
                    "tokens",
                    options=list(TOKEN_SETS),
                    default=ALL,
                    tooltip="The tokens that the restorer sees. all 21, 1 global, and 5 global and intermediate are those that the paper "
                    "compares. Restorers are trained with all 21; fewer of them show what each scale is worth.",
                ),
            ],
            outputs=[
                sockets.Code.Output(
                    display_name="code", tooltip="The degradation code, or nothing if no face reveals the damage."
                ),
            ],
        )

    @classmethod
    def execute(cls, map: DegradationMaps, tokens: str) -> io.NodeOutput:
        return io.NodeOutput(code_of_maps(extractor_of(map, "MapNet"), map, tokens))


class DamageGauge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_DamageGauge",
            display_name="Damage Gauge",
            category=sockets.SCENE,
            description="Reads FaDeX's map as four numbers that a person understands: blur, noise, JPEG quality and enlargement.",
            search_aliases=["damage", "blur estimate", "noise estimate", "jpeg quality"],
            inputs=[sockets.Map.Input("map", tooltip="From FaDeX.")],
            outputs=[
                io.String.Output(display_name="report", tooltip="The damage in words and numbers."),
                io.Image.Output(
                    display_name="gauge",
                    tooltip="The four numbers as a bar chart, one for each photograph with a code of its own.",
                ),
            ],
        )

    @classmethod
    def execute(cls, map: DegradationMaps) -> io.NodeOutput:
        return io.NodeOutput(*read_gauge(code_of_maps(extractor_of(map, "Damage Gauge"), map)))


def read_gauge(code: DegradationCode | None) -> tuple[str, torch.Tensor]:
    """A batch's damage in words, and as one bar chart, IMAGE, for each of its codes."""
    if code is None:
        return NO_FACE, to_image(gauge(None))
    each = code.frames or (code,)
    gauges = torch.cat([gauge(one.scalars if one else None) for one in each])
    return "\n".join(map(words_of, each)), to_image(gauges)


def words_of(code: DegradationCode | None) -> str:
    """Two lines: the damage in words, and in numbers as JSON."""
    if code is None:
        return NO_FACE_HERE
    numbers = json.dumps({name: round(value, 2) for name, value in code.scalars.items()})
    return f"{describe_damage(code.scalars)}\n{numbers}"


class EstimateDegradation(UsesExtractor):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PR_EstimateDegradation",
            display_name="Estimate Degradation from Face",
            category=sockets.SCENE,
            description="Compares a restored face with the damaged one and estimates how the photograph was damaged "
            "(with Face2Scene's FaDeX and MapNet, either the small version that ships with the pack or that of a "
            "trained model). Without a restored face there is no code, and the scene is restored without one. The same as Face "
            "Pair, FaDeX, MapNet and Damage Gauge in a row.",
            search_aliases=["fadex", "mapnet", "face2scene", "damage", "blur estimate", "noise estimate"],
            inputs=[
                io.Image.Input("image", tooltip="The damaged photograph in which the faces were detected."),
                sockets.Faces.Input("faces", tooltip="Restored faces."),
                face_input(),
                extractor_input(optional=True),
                one_for_all_input(optional=True),
                filled_input(),
            ],
            outputs=[
                sockets.Code.Output(
                    display_name="code", tooltip="The degradation code, or nothing if no face reveals the damage."
                ),
                io.String.Output(display_name="report", tooltip="The damage in words and numbers."),
                io.Image.Output(
                    display_name="gauge",
                    tooltip="The four numbers as a bar chart, one for each photograph with a code of its own.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        faces: Faces,
        face: int,
        extractor: str = EMBEDDED,
        one_for_all: bool = False,
        filled: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        photos = to_photos(image)
        check_same_photos("Estimate Degradation", photos, faces)
        masks = None if filled is None else masks_of("Estimate Degradation", filled, photos)
        pairs = face_pairs("Estimate Degradation", photos, faces, face, one_for_all, masks)
        network, space = extractor_named(extractor, "Estimate Degradation")
        code = code_of_maps(network, extracted_maps(network, pairs, extractor, space, progress()))
        return io.NodeOutput(code, *read_gauge(code))

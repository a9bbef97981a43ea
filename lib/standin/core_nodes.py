"""Stand-ins for a few ComfyUI core nodes, with the same names and behavior."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..pictures import comfy_files as files
from ..vocabulary import UserError
from . import host, io, ui


class LoadImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            essentials_category="Basics",
            search_aliases=[
                "load image", "open image", "import image", "image input", "upload image", "read image", "image loader",
            ],
            inputs=[io.Combo.Input("image", options=files.pictures(host.folders.input), extra_dict={"image_upload": True})],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, image: str | None) -> bool | str:
        try:
            return image is None or host.resolve_input(image).is_file() or f"{image!r} is a folder, not a picture"
        except UserError as error:
            return str(error).rstrip(".")

    @classmethod
    def execute(cls, image: str) -> io.NodeOutput:
        return io.NodeOutput(*files.load_image(host.resolve_input(image)))


class SaveImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            essentials_category="Basics",
            description="Saves the input images to your ComfyUI output directory.",
            search_aliases=["save", "save image", "export image", "output image", "write image", "download"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The images to save."),
                io.String.Input(
                    "filename_prefix", default="ComfyUI",
                    tooltip="The prefix for the file to save. This may include formatting information such as "
                    "%date:yyyy-MM-dd% or %Empty Latent Image.width% to include values from nodes.",
                ),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images: torch.Tensor, filename_prefix: str) -> io.NodeOutput:
        prompt = {"prompt": json.dumps(without_paths(cls.hidden.prompt))}
        saved = files.save_images(images, filename_prefix, host.folders.output, prompt)
        return io.NodeOutput(images, ui={"images": [file | {"type": "output"} for file in saved]})


class PreviewImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            essentials_category="Basics",
            description="Preview the images without saving them to the ComfyUI output directory.",
            search_aliases=["preview", "preview image", "show image", "view image", "display image", "image viewer"],
            is_output_node=True,
            inputs=[io.Image.Input("images")],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(cls, images: torch.Tensor) -> io.NodeOutput:
        return io.NodeOutput(images, ui={"images": ui.PreviewImage(images).values})


class PreviewAny(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewAny",
            display_name="Preview as Text",
            category="utilities",
            description="Preview any input value as text.",
            search_aliases=["show output", "inspect", "debug", "print value", "show text"],
            is_output_node=True,
            inputs=[io.AnyType.Input("source")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, source: Any) -> io.NodeOutput:
        text = as_text(source)
        return io.NodeOutput(text, ui={"text": (text,)})


class ImageCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageCompare",
            display_name="Compare Images",
            category="image",
            essentials_category="Image Tools",
            description="Compares two images side by side with a slider.",
            is_experimental=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("image_a", optional=True),
                io.Image.Input("image_b", optional=True),
                io.ImageCompare.Input("compare_view"),
            ],
        )

    @classmethod
    def execute(
        cls, compare_view: Any, image_a: torch.Tensor | None = None, image_b: torch.Tensor | None = None
    ) -> io.NodeOutput:
        shown = {
            f"{side}_images": [] if image is None else ui.PreviewImage(image).values
            for side, image in (("a", image_a), ("b", image_b))
        }
        return io.NodeOutput(ui=shown)


class ImageScaleBy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageScaleBy",
            display_name="Upscale Image By",
            category="image/upscaling",
            essentials_category="Image Tools",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("upscale_method", options=["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]),
                io.Float.Input("scale_by", default=1.0, min=0.01, max=8.0, step=0.01),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, upscale_method: str, scale_by: float) -> io.NodeOutput:
        height, width = image.shape[1:3]
        size = round(height * scale_by), round(width * scale_by)
        if 0 in size:
            raise UserError(
                f"scale_by: {scale_by:g} leaves nothing of a picture of {width}x{height} pixels. Choose a larger one."
            )
        if upscale_method == "lanczos":
            return io.NodeOutput(lanczos(image, size))
        return io.NodeOutput(F.interpolate(image.movedim(-1, 1), size, mode=upscale_method).movedim(1, -1))


class ImageStitch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ImageStitch",
            display_name="Stitch Images",
            category="image/transform",
            description="Stitches image2 to image1 in the specified direction.\nIf image2 is not provided, returns image1 unchanged.\n"
            "Optional spacing can be added between images.",
            search_aliases=["combine images", "join images", "concatenate images", "side by side"],
            inputs=[
                io.Image.Input("image1"),
                io.Combo.Input("direction", options=["right", "down", "left", "up"], default="right"),
                io.Boolean.Input("match_image_size", default=True),
                io.Int.Input("spacing_width", default=0, min=0, max=1024, step=2, advanced=True),
                io.Combo.Input(
                    "spacing_color", options=["white", "black", "red", "green", "blue"], default="white", advanced=True
                ),
                io.Image.Input("image2", optional=True),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(
        cls,
        image1: torch.Tensor,
        direction: str,
        match_image_size: bool,
        spacing_width: int,
        spacing_color: str,
        image2: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        if image2 is None:
            return io.NodeOutput(image1)
        along, across = (2, 1) if direction in ("left", "right") else (1, 2)
        count = max(len(image1), len(image2))
        # The last picture of the shorter batch is repeated; pictures here have no alpha.
        pair = [torch.cat([one, one[-1:].expand(count - len(one), -1, -1, -1)])[..., :3] for one in (image1, image2)]
        color = torch.tensor(COLORS[spacing_color])
        if match_image_size:
            length = int(pair[0].shape[across] * (pair[1].shape[along] / pair[1].shape[across]))
            if length == 0:
                raise UserError(
                    "match_image_size leaves nothing of image2, which is too narrow for image1. Turn it off, or crop image2."
                )
            sides = (pair[0].shape[across], length) if along == 2 else (length, pair[0].shape[across])
            pair[1] = lanczos(pair[1], sides)
        widest = max(one.shape[across] for one in pair)
        for index, one in enumerate(pair):
            missing = widest - one.shape[across]
            before, pads = missing // 2, [0, 0, 0, 0, 0, 0]
            pads[2 * (3 - across) : 2 * (3 - across) + 2] = before, missing - before
            pair[index] = F.pad(one, pads, value=1.0 if spacing_color == "white" else 0.0)
        gap = list(pair[0].shape)
        gap[along] = spacing_width + spacing_width % 2
        first, second = pair if direction in ("right", "down") else pair[::-1]
        return io.NodeOutput(torch.cat([first, color.expand(gap), second], along))


CORE_NODES = (LoadImage, SaveImage, PreviewImage, PreviewAny, ImageCompare, ImageScaleBy, ImageStitch)
COLORS = {
    "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0), "red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}  # fmt: skip

# Not a complete list of core nodes, only those likely to be used with this pack, for a better error message.
COMFYUI_ONLY = frozenset(
    {
        "BasicGuider", "BasicScheduler", "CFGGuider", "CFGNorm", "CLIPLoader", "CLIPTextEncode", "CLIPVisionEncode",
        "CLIPVisionLoader", "CheckpointLoaderSimple", "ConditioningCombine", "ConditioningZeroOut", "ControlNetApply",
        "ControlNetApplyAdvanced", "ControlNetLoader", "DisableNoise", "DualCLIPLoader", "EmptyImage",
        "EmptyLatentImage", "FluxGuidance", "FluxKontextImageScale", "ImageBatch", "ImageBlend", "ImageBlur",
        "ImageCrop", "ImageInvert", "ImagePadForOutpaint", "ImageScale", "ImageSharpen", "ImageToMask",
        "ImageUpscaleWithModel", "KSampler", "KSamplerAdvanced", "KSamplerSelect", "LatentMultiply", "LatentUpscale",
        "LoadImageMask", "LoadImageOutput", "LoadMediaPipeFaceLandmarker", "LoraLoader", "LoraLoaderModelOnly",
        "MaskToImage", "MediaPipeFaceLandmarker", "MediaPipeFaceMask", "MediaPipeFaceMeshVisualize", "ModelPatchLoader",
        "ModelSamplingAuraFlow", "RandomNoise", "ReferenceLatent", "SAM3_Detect", "SDTurboScheduler", "SUPIRApply",
        "SamplerCustom", "SamplerCustomAdvanced", "SeedVR2Conditioning", "SeedVR2PostProcessing", "SeedVR2Preprocess",
        "SetLatentNoiseMask", "TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus", "UNETLoader",
        "UpscaleModelLoader", "VAEDecode", "VAEDecodeTiled", "VAEEncode", "VAEEncodeForInpaint", "VAEEncodeTiled",
        "VAELoader",
    }
)  # fmt: skip


def lanczos(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``[B, H, W, C]`` in 0..1 in another (height, width), as in core: through bytes, truncated and not rounded."""
    pictures = [Image.fromarray((picture.numpy() * 255).clip(0, 255).astype(np.uint8)) for picture in image]
    scaled = [np.array(picture.resize(size[::-1], Image.Resampling.LANCZOS)) for picture in pictures]
    return torch.from_numpy(np.stack(scaled).astype(np.float32) / 255)


def as_text(value: Any) -> str:
    """Lists and objects as JSON if possible, anything else as Python's str."""
    try:
        return json.dumps(value, indent=4, ensure_ascii=False) if isinstance(value, (list, tuple, dict)) else str(value)
    except (TypeError, ValueError):
        return str(value)


def without_paths(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with file names instead of absolute paths, which must not end up in a picture's metadata."""
    return {id: {name: _shortened(value) for name, value in node.items()} for id, node in graph.items()}


def without_path(text: str) -> str:
    """The last part of what is a path from the root, from the user's own folder, or the address of a file; other text as it is."""
    rooted = any(path(text).is_absolute() for path in (PurePosixPath, PureWindowsPath))
    if rooted or text.startswith(("~/", "~\\", "file:")):
        return re.sub(r"^(file:)+", "", re.split(r"[\\/]", text.rstrip("\\/"))[-1])
    return text


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    return without_path(value) if isinstance(value, str) else value

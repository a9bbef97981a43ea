"""Reads and writes pictures byte for byte as ComfyUI's LoadImage and SaveImage do (0.28 to 0.33)."""

from __future__ import annotations

import io
import logging
import mimetypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image, ImageFile, ImageSequence
from PIL.PngImagePlugin import PngInfo

from ..vocabulary import UserError
from .opening import check_claims, upright

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)
T = TypeVar("T")

_EIGHT_BIT = ("yuvj420p", "yuvj422p", "yuvj444p", "rgb24", "rgba", "pal8")


def load_image(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """``[B, H, W, 3]`` in 0..1 and the mask ``[B, H, W]`` (1 where transparent; zeros ``[B, 64, 64]`` without alpha).

    Uses PyAV, then Pillow for files without a PyAV frame (animated WebP). Orientation is applied. Raises `UserError` if
    the file is not a picture.
    """
    check_claims(path)
    try:
        images, alphas = _decode(path)
        if not len(images):
            return _decode_with_pillow(path)
    except Exception as error:  # the readers of both libraries raise anything on a damaged file
        raise UserError(f"{path.name} cannot be read as a picture: {error}.") from error
    mask = torch.zeros(len(images), 64, 64) if alphas is None else 1.0 - alphas[..., -1]
    return images, mask


def quarter_turns(path: Path) -> int:
    """By how many, counterclockwise, `load_image` turns a file, 0 to 3: its decoder may understand less of EXIF than Pillow."""
    import av

    try:
        with _container(path) as container:
            frame = next(container.decode(video=0))
            return round(frame.rotation // 90) % 4
    except (av.error.FFmpegError, StopIteration, OSError, ValueError, IndexError):
        return 0


def pictures(folder: Path) -> list[str]:
    """The names of the picture files in a folder, sorted; empty if there is no such folder."""
    names = (file.name for file in (folder.iterdir() if folder.is_dir() else ()) if file.is_file())
    return sorted(name for name in names if (mimetypes.guess_type(name, strict=False)[0] or "").startswith("image/"))


def _decode(path: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Pictures ``[B, H, W, 3]`` (B may be 0) and alpha ``[B, H, W, 1]`` or None."""
    import av

    frames: list[np.ndarray] = []
    with _container(path) as container:
        if not container.streams.video:
            raise ValueError("it holds no picture")
        image_format = ""
        for packet in container.demux(container.streams.video[0]):
            try:
                for frame in packet.decode():
                    image_format = image_format or _image_format(frame.format)
                    frames.append(_pixels(frame, image_format))
            except av.error.InvalidDataError as error:
                log.info("%s: %s", path.name, error)
    if not frames:
        return torch.zeros(0, 0, 0, 3), None
    pixels = torch.stack([torch.from_numpy(frame) for frame in frames])
    if image_format.startswith("rgb"):
        pixels = pixels.float() / 255.0
    return pixels[..., :3], pixels[..., 3:] if pixels.shape[-1] == 4 else None


def _container(path: Path) -> av.container.InputContainer:
    import av

    try:
        str(path).encode()
    except UnicodeEncodeError:  # a name in another encoding, which PyAV does not take
        return av.open(io.BytesIO(path.read_bytes()), "r")
    return av.open(str(path), "r")


def _image_format(source: av.VideoFormat) -> str:
    alpha = source.name == "pal8" or any(component.is_alpha for component in source.components)
    if source.name in _EIGHT_BIT:
        return "rgba" if alpha else "rgb24"
    return "gbrapf32le" if alpha else "gbrpf32le"


def _pixels(frame: av.VideoFrame, image_format: str) -> np.ndarray:
    """``[H, W, 3 or 4]``, upright."""
    if image_format.endswith("f32le") and frame.width % 32:
        pixels = _padded(frame).to_ndarray(format=image_format)[: frame.height, : frame.width]
    else:
        pixels = frame.to_ndarray(format=image_format)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation // 90)))


def _padded(frame: av.VideoFrame) -> av.VideoFrame:
    """Smeared to multiples of 32: the conversion to float reads beyond the right edge of other widths."""
    import av

    right, bottom = -frame.width % 32, -frame.height % 32
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format.name,  # type: ignore[arg-type]  # PyAV takes a name as well
            time_base=frame.time_base,
        ),
        graph.add("pad", f"{frame.width + right}:{frame.height + bottom}:0:0"),
        graph.add("fillborders", f"left=0:right={right}:top=0:bottom={bottom}:mode=smear"),
        graph.add("buffersink"),
    ]
    for source, target in zip(nodes, nodes[1:], strict=False):
        source.link_to(target)
    graph.configure()
    nodes[0].push(frame)
    padded = nodes[-1].pull()
    assert isinstance(padded, av.VideoFrame)
    return padded


def _decode_with_pillow(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images: list[torch.Tensor] = []
    masks: list[torch.Tensor] = []
    for page in ImageSequence.Iterator(_tolerant(Image.open, path)):
        page = _tolerant(upright, page)
        pixels = torch.from_numpy(np.array(page.convert("RGB")).astype(np.float32) / 255.0)
        if images and pixels.shape != images[0].shape:
            continue
        images.append(pixels)
        if "A" in page.getbands():
            masks.append(1.0 - torch.from_numpy(np.array(page.getchannel("A")).astype(np.float32) / 255.0))
        else:
            masks.append(torch.zeros(64, 64))
    return torch.stack(images), torch.stack(masks)


def _tolerant(function: Callable[..., T], argument: object) -> T:
    """Second try for truncated files, which Pillow refuses by default."""
    try:
        return function(argument)
    except (OSError, ValueError):
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            return function(argument)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def save_images(
    images: torch.Tensor, prefix: str, folder: Path, texts: dict[str, str] | None = None, compress_level: int = 4
) -> list[dict[str, str]]:
    """Writes ``[B, H, W, C]`` in 0..1 as 8-bit PNGs ``<prefix>_00001_.png`` and on, without overwriting anything.

    ``prefix`` may have subfolders and ``%width%``, ``%height%``, ``%year%``, ``%month%``, ``%day%``, ``%hour%``,
    ``%minute%``, ``%second%``, ``%batch_num%``; ``texts`` go into the PNG's metadata. Returns the file names and
    subfolders. Raises `UserError` for a prefix that leads out of the folder or cannot be the name of a file, and where nothing can be
    written.
    """
    try:
        return _save_images(images, prefix, folder, texts or {}, compress_level)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        shown = repr(prefix if len(prefix) <= 200 else f"{prefix[:200]}...")
        raise UserError(
            f"Nothing can be saved under the file name prefix {shown} ({reason}). Choose another one, and check the free space "
            "and the permissions of the output folder."
        ) from error


def _save_images(
    images: torch.Tensor, prefix: str, folder: Path, texts: dict[str, str], compress_level: int
) -> list[dict[str, str]]:
    height, width = images[0].shape[:2]
    path = Path(os.path.normpath(_filled(prefix, width, height)))
    target = folder / path.parent
    if not target.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"The file name prefix {prefix!r} leads out of the output folder. Use a name without '..'.")
    target.mkdir(parents=True, exist_ok=True)
    metadata = PngInfo()
    for key, text in texts.items():
        metadata.add_text(key, text)
    saved = []
    for number, image in enumerate(images, first := _next_number(target, path.name)):
        name = f"{path.name.replace('%batch_num%', str(number - first))}_{number:05}_.png"
        eight_bit(image).save(target / name, pnginfo=metadata, compress_level=compress_level)
        saved.append({"filename": name, "subfolder": "" if path.parent == Path(".") else str(path.parent)})
    return saved


def eight_bit(image: torch.Tensor) -> Image.Image:
    """``[H, W, C]`` in 0..1 with its values cut off, not rounded."""
    return Image.fromarray(np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8))


def _filled(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values: dict[str, int | str] = {"width": width, "height": height, "year": now.tm_year}
    values |= {"month": f"{now.tm_mon:02}", "day": f"{now.tm_mday:02}"}
    values |= {"hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}"}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", str(value))
    return prefix


def _next_number(folder: Path, prefix: str) -> int:
    """One more than the largest number of a file with this prefix."""
    largest = 0
    for file in folder.iterdir():
        start, rest = file.name[: len(prefix) + 1], file.name[len(prefix) + 1 :]
        digits = rest.split(".")[0].split("_")[0]
        if os.path.normcase(start) == os.path.normcase(f"{prefix}_") and digits.isdecimal():
            largest = max(largest, int(digits))
    return largest + 1

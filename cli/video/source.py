"""The frames of a clip, one after the other and as often as asked: those of a video file, or the pictures of a folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace

from ...lib.pictures.comfy_files import load_image
from ...lib.pictures.files import is_picture
from ...lib.vocabulary import UserError
from ..photograph import Photograph, prepared_photograph

UNSAID = 2  # what a file calls a matrix of colors that it does not know
HD = 720  # lines from which such a file is taken to be BT.709, as players do


@dataclass(frozen=True)
class Frame:
    """image: float32 ``[1, H, W, 3]`` in 0..1, upright; name: of its file, and photograph: what that held beside, empty for a video's;
    time: of a video's, in units of its stream."""

    image: torch.Tensor
    name: str = ""
    photograph: Photograph | None = None
    time: int = 0

    @property
    def pixels(self) -> np.ndarray:
        """uint8 ``[H, W, 3]``."""
        return (self.image[0].numpy() * 255).round().astype(np.uint8)


class FolderSource:
    """The pictures of one folder, without its subfolders, in the order of the numbers in their names. count: of them; notes: none."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = sorted((one for one in path.iterdir() if one.is_file() and is_picture(one)), key=_numbered)
        self.count = len(self.files)
        if not self.files:
            raise UserError(f"There are no pictures in {path}. Name the folder that holds the frames themselves.")

    def frames(self) -> Iterator[Frame]:
        for file in self.files:
            with tempfile.TemporaryDirectory(prefix="personal_restore_") as folder:
                photograph = prepared_photograph(file, Path(folder))
                image = load_image(photograph.source)[0][:1]
            yield Frame(image, file.name, photograph)


def _numbered(file: Path) -> list[tuple[int, str]]:
    """So that 10 comes after 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


class VideoSource:
    """A video file. Its frames keep their times, so that a rate that varies stays as it is. count: of the frames, about; notes: what is not
    carried over, a sentence without its end each; colors: the matrix of its colors; sounds: the codecs of its sound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.opened() as file:
            if not file.streams.video:
                raise UserError(f"{path.name} holds no video. Name a video file, or a folder of frames with --clip.")
            stream = file.streams.video[0]
            codec = stream.codec_context
            if stream.time_base is None:
                raise UserError(f"{path.name}: its frames have no times. Convert it, for example to MP4.")
            self.time_base, self.rate = stream.time_base, stream.average_rate
            known = codec.colorspace != UNSAID
            self.colors = codec.colorspace if known else Colorspace.ITU709 if codec.height >= HD else Colorspace.ITU601
            self.sounds = [one.codec_context.name for one in file.streams.audio]
            seconds = file.duration / av.time_base if file.duration else 0.0
            self.count = stream.frames or round(seconds * float(self.rate or 0))
            others = len(file.streams) - 1 - len(file.streams.audio)
            depth = max((part.bits for part in codec.format.components), default=8) if codec.format else 8
        notes = [
            f"{others} other stream(s), such as subtitles, are not carried over" if others else "",
            f"its {depth} bits per color become 8" if depth > 8 else "",
        ]
        self.notes = tuple(filter(None, notes))

    def opened(self) -> av.container.InputContainer:
        try:
            return av.open(str(self.path))
        except (av.error.FFmpegError, OSError, UnicodeEncodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{self.path.name} cannot be read as a video ({reason}).") from error

    def frames(self) -> Iterator[Frame]:
        with self.opened() as file:
            try:
                for number, frame in enumerate(file.decode(video=0)):
                    rgb = frame.reformat(format="rgb24", src_colorspace=self.colors).to_ndarray()
                    rgb = np.ascontiguousarray(np.rot90(rgb, round(frame.rotation // 90)))
                    time = number if frame.pts is None else frame.pts
                    yield Frame(torch.from_numpy(rgb)[None].float() / 255, time=time)
            except av.error.FFmpegError as error:
                raise UserError(
                    f"{self.path.name}: frame {number + 1} cannot be read ({error.strerror}). Repair the file, or cut it before that."
                ) from error

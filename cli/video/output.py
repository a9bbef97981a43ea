"""Where restored frames go: into a folder, or shot by shot into a video with the sound of the clip."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange

from ...lib.pictures.files import to_pil
from ...lib.pictures.mirror import mirrored
from ...lib.storage.whole import put, whole
from ..restore import save_result
from .source import Frame, VideoSource

QUALITY = "14"  # of H.264, as x264 counts: hardly a difference is visible from 18 down
MP4_SOUND = frozenset(
    ["aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"]
)  # what MP4 may hold; Matroska holds anything

Restored = tuple[Frame, torch.Tensor]


class Output(Protocol):
    """ending: of the name of the whole result; room: bytes per pixel of a frame that it needs at most, with what it is made from."""

    ending: str
    room: float

    def write(self, shot: int, frames: Iterable[Restored]) -> None:
        """Writes the shot as the frames come."""
        ...

    def finish(self, target: Path, shots: int) -> None:
        """All shots together get their name."""
        ...


class FolderOutput:
    """A folder of PNG files under the names of the frames."""

    ending, room = "", 4.0

    def __init__(self, workshop: Path) -> None:
        self._workshop, self._frames = workshop, workshop / "frames"

    def write(self, shot: int, frames: Iterable[Restored]) -> None:
        self._frames.mkdir(exist_ok=True)
        for frame, result in frames:
            assert frame.photograph is not None
            with whole(self._frames / mirrored(frame.name), workshop=self._workshop) as partial:
                save_result(frame.photograph, to_pil(result[0].movedim(-1, 0)), partial)

    def finish(self, target: Path, shots: int) -> None:
        for receipt in self._workshop.glob("*.json"):  # first, because the frames go away
            receipt.unlink()
        put(self._frames, target)


class VideoOutput:
    """H.264 with the clip's times, in one file per shot until all are there; then, without coding anything again, with its sound in one."""

    room = 0.6

    def __init__(self, source: VideoSource, workshop: Path) -> None:
        self._source, self._workshop = source, workshop
        self.ending = ".mp4" if MP4_SOUND.issuperset(source.sounds) else ".mkv"

    def _shot(self, shot: int) -> Path:
        return self._workshop / f"shot {shot:05}.nut"  # the one container that keeps any unit of time

    def write(self, shot: int, frames: Iterable[Restored]) -> None:
        with (
            whole(self._shot(shot), workshop=self._workshop) as partial,
            av.open(str(partial), "w", format="nut") as file,
        ):
            stream = None
            for frame, result in frames:
                picture = self._picture(frame, result)
                stream = stream or self._stream(file, picture)
                file.mux(stream.encode(picture))
            if stream is not None:
                file.mux(stream.encode(None))

    def _stream(self, file: av.container.OutputContainer, first: av.VideoFrame) -> av.VideoStream:
        # Without frames that refer to later ones, so that shots can follow each other.
        stream = file.add_stream("libx264", rate=self._source.rate, options={"crf": QUALITY, "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
        stream.codec_context.time_base = stream.time_base = self._source.time_base
        stream.codec_context.colorspace = self._source.colors
        stream.codec_context.color_range = ColorRange.MPEG
        return stream

    def _picture(self, frame: Frame, result: torch.Tensor) -> av.VideoFrame:
        pixels = (result[0].clamp(0, 1).numpy() * 255).round().astype(np.uint8)
        height, width = pixels.shape[:2]
        # Color has half the resolution, so that there is no odd row or column.
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
            format="yuv420p", dst_colorspace=self._source.colors, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = frame.time, self._source.time_base
        return picture

    def finish(self, target: Path, shots: int) -> None:
        with whole(target, workshop=self._workshop) as partial:
            kind = "mp4" if self.ending == ".mp4" else "matroska"
            with av.open(str(partial), "w", format=kind) as file, self._source.opened() as original:
                with av.open(str(self._shot(0))) as first:
                    video = file.add_stream_from_template(first.streams.video[0])
                video.time_base = self._source.time_base
                sounds = {one.index: file.add_stream_from_template(one) for one in original.streams.audio}
                heard = original.demux(original.streams.audio) if sounds else iter(())
                sound = _given(heard, lambda packet: sounds[packet.stream.index])
                seen = _given(self._pictures(shots), lambda packet: video)
                for packet in heapq.merge(seen, sound, key=_time):
                    file.mux(packet)

    def _pictures(self, shots: int) -> Iterator[av.Packet]:
        for shot in range(shots):
            with av.open(str(self._shot(shot))) as file:
                yield from file.demux(video=0)


def _given(packets: Iterable[av.Packet], stream: Callable[[av.Packet], Any]) -> Iterator[av.Packet]:
    """The packets, given to a stream of the output; without those that only end a stream."""
    for packet in packets:
        if packet.dts is not None:
            packet.stream = stream(packet)
            yield packet


def _time(packet: av.Packet) -> Fraction:
    """In seconds."""
    assert packet.dts is not None and packet.time_base is not None
    return packet.dts * packet.time_base

"""Reads video files: pictures with their presentation times, and sound in step with them.

Time 0 is the first picture. Times come from the file's presentation times, never from counting, so
a varying frame rate is read as it was recorded. Pictures are streamed: one is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soxr

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError, MissingExtra
from kfusion.faces import Pixels
from training.corpus.clips import Samples

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

GAP_S: Final = 0.05  # sound that starts later than this after its forerunner's end leaves a gap
PAUSE_S: Final = 10.0  # a longer pause is a broken file
MOST_OUT_OF_ORDER: Final = 0.05  # of the pictures
MOST_ASPECT: Final = 4.0  # of a pixel; more is a broken file
LEAST_SHOWN: Final = 0.9  # of the time that the file says it has; less: it was cut off


@dataclass(frozen=True)
class Picture:
    """``time`` in seconds after the first picture; ``frame`` is the decoder's own, whose pixels
    are ``aspect`` times as wide as high."""

    time: float
    frame: av.VideoFrame
    aspect: float = 1.0

    def pixels(self, longest: int | None = None) -> tuple[Pixels, float]:
        """RGB upright with square pixels, its longer side at most ``longest`` pixels, and by how
        much it shrank."""
        width = self.frame.width * max(1.0, self.aspect)
        height = self.frame.height / min(1.0, self.aspect)
        shrink = 1.0 if longest is None else min(1.0, longest / max(width, height))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        shown = self.frame
        if size != (shown.width, shown.height):
            how = "AREA" if shrink < 1 else "BICUBIC"
            shown = shown.reformat(*size, format="rgb24", interpolation=how)
        rgb = shown.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        turns = round(self.frame.rotation / 90)
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb, shrink


@contextmanager
def _opened(path: Path) -> Generator[InputContainer, None, None]:
    """The file; every error of reading it is a DataError that names it."""
    try:
        import av
        from av.error import FFmpegError
    except ModuleNotFoundError:
        raise MissingExtra(
            "the av package is not installed; pip install 'kfusion[training]'"
        ) from None
    try:
        with av.open(str(path)) as container:
            yield container
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _in_time_order(container: InputContainer) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with their times in the file's own clock.

    A frame without a time stands one frame after the last. One that does not come later than the
    last is left out; where there are many, the times cannot be believed (AVI with B-frames).
    """
    if not container.streams.video:
        raise DataError("has no pictures")
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"  # several processes are at work already
    step = 1 / float(stream.average_rate or 25)
    first = last = None
    count = out_of_order = 0
    for frame in container.decode(stream):
        stamp = frame.pts
        if stamp is None or frame.time_base is None:
            time = 0.0 if last is None else last + step
        else:
            time = float(stamp * frame.time_base)
        if last is not None and time - last > PAUSE_S:
            raise DataError(f"it has no picture for {time - last:.1f} s")
        count += 1
        if last is not None and time <= last:
            out_of_order += 1
            continue
        last = time
        first = time if first is None else first
        yield time, frame
    if out_of_order > MOST_OUT_OF_ORDER * count:
        raise DataError(f"the times of its pictures go backwards ({out_of_order} of {count})")
    if first is None or last is None:
        raise DataError("has no pictures")
    if stream.duration is not None and stream.time_base is not None:
        shown, whole = last + step - first, float(stream.duration * stream.time_base)
        if shown < LEAST_SHOWN * whole:
            raise DataError(f"its pictures end at {shown:.1f} s of {whole:.1f} s")


def _aspect(stream: VideoStream) -> float:
    """How many times as wide as high a pixel is shown; 1 where the file does not say."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / MOST_ASPECT <= aspect <= MOST_ASPECT:
        raise DataError(f"its pixels are {aspect:g} times as wide as high")
    return aspect


def first_time(path: Path) -> float:
    """When the first picture is shown, in seconds of the file's own clock."""
    with _opened(path) as container:
        return next(_in_time_order(container))[0]


def pictures(path: Path) -> Iterator[Picture]:
    """A video's pictures in the order of their times, the first at 0.

    Raises :class:`~kfusion.errors.DataError` for a file that cannot be decoded to its end.
    """
    with _opened(path) as container:
        start: float | None = None
        for time, frame in _in_time_order(container):
            start = time if start is None else start
            yield Picture(time - start, frame, _aspect(container.streams.video[0]))


def sample_pictures(
    path: Path, count: int, longest: int
) -> tuple[list[tuple[Pixels, float]], list[float]]:
    """About ``count`` (to twice that) pictures evenly over a clip, as :meth:`Picture.pixels`
    gives them, and the times of all pictures. One pass, whatever the clip's length."""
    kept: list[tuple[Pixels, float]] = []
    times: list[float] = []
    stride = 1
    for picture in pictures(path):
        if len(times) % stride == 0:
            kept.append(picture.pixels(longest))
            if len(kept) == 2 * count:
                kept, stride = kept[::2], 2 * stride
        times.append(picture.time)
    return kept, times


def crop(pixels: Pixels, square: tuple[int, int, int], size: int = 256) -> Pixels:
    """The ``square`` (left, top, side) of a picture as (size, size, 3); black beyond its edges."""
    import av

    left, top, side = square
    height, width = pixels.shape[:2]
    cut = np.zeros((side, side, 3), np.uint8)
    x0, x1 = np.clip((left, left + side), 0, width)
    y0, y1 = np.clip((top, top + side), 0, height)
    cut[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    how = "AREA" if side > size else "BICUBIC"
    frame = av.VideoFrame.from_ndarray(cut, format="rgb24")
    small = frame.reformat(size, size, interpolation=how)
    return small.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def crops(path: Path, square: tuple[int, int, int], size: int = 256) -> Iterator[Pixels]:
    """One square of every picture, streamed."""
    for picture in pictures(path):
        yield crop(picture.pixels()[0], square, size)


def has_sound(path: Path) -> bool:
    with _opened(path) as container:
        return bool(container.streams.audio)


def sound(path: Path, start: float | None = None) -> Samples:
    """The sound of a file, (N,) at 16 kHz mono in -1..1.

    Sample 0 is at ``start`` seconds of the file's clock: what comes before is cut, what is missing
    is silence. Without ``start`` it is the first sample, wherever the file's clock puts it.
    Raises :class:`~kfusion.errors.DataError` for a file without sound.
    """
    with _opened(path) as container:
        blocks = list(_blocks(container)) if container.streams.audio else []
        if not blocks:
            raise DataError("has no sound")
        rate, first = container.streams.audio[0].rate, blocks[0][0]
        whole = _joined(blocks, rate, first if start is None else start)
    if rate != SAMPLE_RATE:
        whole = soxr.resample(whole, rate, SAMPLE_RATE).astype(np.float32)
    return whole


def _blocks(container: InputContainer) -> Iterator[tuple[float | None, Samples]]:
    """(time, mono samples) as decoded, at the stream's own rate."""
    import av

    stream = container.streams.audio[0]
    mono = av.AudioResampler(format="fltp", layout="mono", rate=stream.rate)
    for frame in container.decode(stream):
        stamp = frame.pts
        time = None
        if stamp is not None and frame.time_base is not None:
            time = float(stamp * frame.time_base)
        for part in mono.resample(frame):
            yield time, part.to_ndarray()[0].astype(np.float32)
            time = None


def _joined(blocks: list[tuple[float | None, Samples]], rate: int, origin: float | None) -> Samples:
    """Blocks end to end from ``origin`` on, with silence where the clock leaves a long gap."""
    placed: list[tuple[int, Samples]] = []
    at = 0  # where the next block goes, in samples after the origin
    for time, block in blocks:
        start = at if time is None or origin is None else round((time - origin) * rate)
        if abs(start - at) > PAUSE_S * rate:
            raise DataError(f"its sound jumps by {(start - at) / rate:.1f} s")
        if not placed or start - at > GAP_S * rate:
            at = start
        placed.append((at, block))
        at += len(block)
    whole = np.zeros(max(0, at), np.float32)
    for first, block in placed:
        cut = min(len(block), max(0, -first))
        whole[first + cut :][: len(block) - cut] = block[cut:]
    return whole

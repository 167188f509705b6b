"""A preview video: the face at 30 fps with its sound, in MP4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from client.atomic_file import WholeFile
from client.errors import OutputError
from client.video.studio import DrawnFace, Picture, Studio
from kfusion.audio import Samples
from kfusion.config import FPS
from kfusion.landmarks import COUNT, Points
from kfusion.mp4 import check, video_codec
from kfusion.stream import sample_of

if TYPE_CHECKING:
    from PIL import Image

AAC_RATES: Final = (
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
)  # fmt: skip
SIZE: Final = 512


def draw_face(points: NDArray[Any], size: int = SIZE) -> Image.Image:
    """The face of (68, 2) canonical landmarks as an RGB picture, ``size`` x ``size``."""
    check()
    from client.video import drawn_face as drawing

    return drawing.draw_face(points, size)


def write_video(
    path: str | Path,
    faces: NDArray[Any],
    samples: Samples,
    rate: int,
    *,
    identity: Points | None = None,
    size: int = SIZE,
    on_frame: Callable[[], object] | None = None,
    studio: Studio | None = None,
) -> None:
    """``faces`` (T, 68, 2) at 30 fps with the mono ``samples`` (n,) at ``rate`` Hz, as MP4.

    Frame n is shown from n / 30 s, where its sound begins. ``identity`` (68, 2): the face at
    rest whose coordinates ``faces`` are in; without one they are canonical. ``size``: pixels,
    even. ``on_frame`` is called after each. ``studio``: draws the pictures instead, at its own
    size and in whatever coordinates its drawer takes.

    Raises :class:`~client.errors.OutputError` where it cannot be written, and
    :class:`~kfusion.errors.MissingExtra`.
    """
    check()
    if faces.ndim != 3 or faces.shape[1:] != (COUNT, 2) or not len(faces):
        raise ValueError(f"faces have shape {faces.shape}; wanted (T, 68, 2), T at least 1")
    if size % 2:
        raise ValueError(f"size is {size}; wanted an even number of pixels")
    studio = studio or Studio(DrawnFace(identity, size))
    if rate not in AAC_RATES:
        import soxr

        samples, rate = soxr.resample(samples, rate, 48_000).astype(np.float32), 48_000
    file = WholeFile(path)
    try:
        with closing(studio.draw(faces)) as pictures:
            _mux(file, pictures, samples, rate, studio.drawer.size, on_frame or (lambda: None))
    except BaseException:
        file.discard()
        raise
    file.keep()


def _mux(
    file: WholeFile,
    pictures: Iterator[Picture],
    samples: Samples,
    rate: int,
    size: tuple[int, int],
    on_frame: Callable[[], object],
) -> None:
    import av
    from av.error import FFmpegError

    codec, options = video_codec()
    try:
        with av.open(str(file.temporary), "w", format="mp4") as out:
            picture = out.add_stream(codec, rate=FPS, options=options)
            assert isinstance(picture, av.VideoStream)
            picture.width, picture.height = size
            picture.pix_fmt = "yuv420p"
            sound = out.add_stream("aac", rate=rate, layout="mono")
            assert isinstance(sound, av.AudioStream)
            sound.bit_rate = 96_000 if rate >= 32_000 else 64_000
            heard = 0
            for n, drawn in enumerate(pictures):
                image = av.VideoFrame.from_ndarray(
                    drawn, "rgb24" if drawn.shape[2] == 3 else "rgba"
                )
                image.pts, image.time_base = n, Fraction(1, FPS)
                out.mux(picture.encode(image))
                begin, heard = heard, sample_of(n + 1, rate)
                _mux_sound(out, sound, samples[begin:heard], begin, rate)
                on_frame()
            _mux_sound(out, sound, samples[heard:], heard, rate)
            out.mux(picture.encode(None))
            out.mux(sound.encode(None))
    except FFmpegError as error:
        raise OutputError(f"{file.path}: cannot be written ({error})") from None


def _mux_sound(out: Any, sound: Any, samples: Samples, begin: int, rate: int) -> None:
    import av

    if not len(samples):
        return
    block = np.ascontiguousarray(samples, np.float32)[None]
    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
    frame.sample_rate = rate
    frame.pts, frame.time_base = begin, Fraction(1, rate)
    out.mux(sound.encode(frame))

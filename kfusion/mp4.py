"""Writes MP4 files: pictures at 30 fps with their sound."""

from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS
from kfusion.errors import KFusionError, MissingExtra
from kfusion.stream import sample_of


class MP4Error(KFusionError):
    """A video cannot be written."""


def require_packages() -> None:
    """Raises :class:`~kfusion.errors.MissingExtra` if a package for videos is missing."""
    for module, package in (("av", "av"), ("PIL", "pillow")):
        if find_spec(module) is None:
            raise MissingExtra(
                f"the {package} package is not installed; pip install 'kfusion[client]'"
            )


def video_codec() -> tuple[str, dict[str, str]]:
    """The available encoder and its options: H.264, else MPEG-4 part 2."""
    import av
    from av.codec.codec import UnknownCodecError

    try:
        av.Codec("libx264", "w")
    except UnknownCodecError:
        return "mpeg4", {"flags": "+qscale", "global_quality": str(3 * 118)}  # 118: FF_QP2LAMBDA
    return "libx264", {"crf": "20", "preset": "veryfast"}


def write_mp4(
    path: Path,
    pictures: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    samples: NDArray[Any],
    rate: int,
) -> None:
    """Writes ``pictures`` (H, W, 3) or (H, W, 4), the fourth unused, with the mono ``samples``.

    ``size`` is their width and height, both even; ``rate`` is one that AAC has. Raises
    :class:`MP4Error`.
    """
    import av
    from av.error import FFmpegError

    codec, options = video_codec()
    try:
        with av.open(str(path), "w", format="mp4") as out:
            video = out.add_stream(codec, rate=FPS, options=options)
            assert isinstance(video, av.VideoStream)
            video.width, video.height = size
            video.pix_fmt = "yuv420p"
            sound = out.add_stream("aac", rate=rate, layout="mono")
            assert isinstance(sound, av.AudioStream)
            sound.bit_rate = 96_000 if rate >= 32_000 else 64_000
            end = 0
            for n, pixels in enumerate(pictures):
                picture = av.VideoFrame.from_ndarray(
                    pixels, "rgb24" if pixels.shape[2] == 3 else "rgba"
                )
                picture.pts, picture.time_base = n, Fraction(1, FPS)
                out.mux(video.encode(picture))
                begin, end = end, sample_of(n + 1, rate)
                _mux_sound(out, sound, samples[begin:end], begin, rate)
            _mux_sound(out, sound, samples[end:], end, rate)
            out.mux(video.encode(None))
            out.mux(sound.encode(None))
    except FFmpegError as error:
        raise MP4Error(str(error)) from None


def _mux_sound(out: Any, sound: Any, samples: NDArray[Any], begin: int, rate: int) -> None:
    import av

    if not len(samples):
        return
    block = np.ascontiguousarray(samples, np.float32)[None]
    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
    frame.sample_rate = rate
    frame.pts, frame.time_base = begin, Fraction(1, rate)
    out.mux(sound.encode(frame))

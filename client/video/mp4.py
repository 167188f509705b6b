"""Preview videos: a face at 30 fps with its sound, in MP4."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client.atomic_file import AtomicFile
from client.errors import OutputError
from kfusion.audio import Samples
from kfusion.config import FPS
from kfusion.landmarks import COUNT
from kfusion.mp4 import require_packages, video_codec
from kfusion.stream import sample_of

AAC_RATES: Final = (
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
)  # fmt: skip

Picture = NDArray[np.uint8]
"""(H, W, 3) or (H, W, 4), the fourth unused."""


class Drawer(Protocol):
    """Draws a frame's points (68, 2); ``size``: width and height of its pictures, both even."""

    @property
    def size(self) -> tuple[int, int]: ...

    def draw(self, points: NDArray[Any]) -> Picture: ...


def write_video(
    path: str | Path,
    faces: NDArray[Any],
    samples: Samples,
    rate: int,
    drawer: Drawer,
    on_frame: Callable[[], object] = lambda: None,
) -> None:
    """Writes ``faces`` (T, 68, 2) at 30 fps with the mono ``samples`` (n,) at ``rate`` Hz as MP4.

    Frame n is shown from n / 30 s, where its sound begins. The faces are in the coordinates that
    ``drawer`` takes. ``on_frame`` is called after each frame.

    Raises :class:`~client.errors.OutputError` if the file cannot be written, and
    :class:`~kfusion.errors.MissingExtra`. Leaves no file then, nor when it is interrupted.
    """
    require_packages()
    if faces.ndim != 3 or faces.shape[1:] != (COUNT, 2) or not len(faces):
        raise ValueError(f"faces have shape {faces.shape}; wanted (T, 68, 2), T at least 1")
    if rate not in AAC_RATES:
        import soxr

        samples, rate = soxr.resample(samples, rate, 48_000).astype(np.float32), 48_000
    file = AtomicFile(path)
    try:
        _mux(file, faces, samples, rate, drawer, on_frame)
    except BaseException:
        file.discard()
        raise
    file.commit()


def _mux(
    file: AtomicFile,
    faces: NDArray[Any],
    samples: Samples,
    rate: int,
    drawer: Drawer,
    on_frame: Callable[[], object],
) -> None:
    import av
    from av.error import FFmpegError

    codec, options = video_codec()
    try:
        with av.open(str(file.temporary), "w", format="mp4") as out:
            picture = out.add_stream(codec, rate=FPS, options=options)
            assert isinstance(picture, av.VideoStream)
            picture.width, picture.height = drawer.size
            picture.pix_fmt = "yuv420p"
            sound = out.add_stream("aac", rate=rate, layout="mono")
            assert isinstance(sound, av.AudioStream)
            sound.bit_rate = 96_000 if rate >= 32_000 else 64_000
            end = 0
            for n, face in enumerate(faces):
                drawn = drawer.draw(face)
                image = av.VideoFrame.from_ndarray(
                    drawn, "rgb24" if drawn.shape[2] == 3 else "rgba"
                )
                image.pts, image.time_base = n, Fraction(1, FPS)
                out.mux(picture.encode(image))
                begin, end = end, sample_of(n + 1, rate)
                _mux_sound(out, sound, samples[begin:end], begin, rate)
                on_frame()
            _mux_sound(out, sound, samples[end:], end, rate)
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

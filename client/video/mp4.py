"""Preview videos: a face at 30 fps with its sound, in MP4."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client.atomic_file import AtomicFile
from client.errors import OutputError
from kfusion.audio import Samples
from kfusion.landmarks import COUNT
from kfusion.mp4 import MP4Error, require_packages, write_mp4

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

    def pictures() -> Iterator[Picture]:
        for face in faces:
            yield drawer.draw(face)
            on_frame()

    file = AtomicFile(path)
    try:
        write_mp4(file.temporary, pictures(), drawer.size, samples, rate)
    except MP4Error as error:
        file.discard()
        raise OutputError(f"{file.path}: cannot be written ({error})") from None
    except BaseException:
        file.discard()
        raise
    file.commit()

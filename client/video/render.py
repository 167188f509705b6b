"""Videos drawn beside what else goes on: while one file is drawn, the next is streamed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from client.video import mp4 as video
from client.video.studio import Drawer, Studio
from kfusion.audio import Samples
from kfusion.system import available_cores


class Stopped(Exception):
    """The drawing was given up because all is."""


class Film:
    """Draws with ``drawer``, one video after the other, in as many processes as there are cores."""

    def __init__(self, drawer: Drawer) -> None:
        self.studio = Studio(drawer, available_cores() if available_cores() > 1 else 0)
        self._thread = ThreadPoolExecutor(1)
        self._stopped = False

    def draw(
        self,
        path: Path,
        faces: NDArray[Any],
        samples: Samples,
        rate: int,
        on_frame: Callable[[], object],
    ) -> Future[None]:
        """Makes a video, as :func:`client.video.mp4.write_video` does."""

        def step() -> None:
            if self._stopped:
                raise Stopped
            on_frame()

        return self._thread.submit(
            video.write_video, path, faces, samples, rate, on_frame=step, studio=self.studio
        )

    def close(self) -> None:
        """Gives up what is not drawn yet."""
        self._stopped = True
        self._thread.shutdown(cancel_futures=True)
        self.studio.close()

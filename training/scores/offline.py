"""Frames of many recordings, the windows of several of them in one step of the engine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE
from kfusion.emotion import vector
from kfusion.landmarks import Identity
from kfusion.runtime import Engine
from kfusion.stream import Stitcher, Window, windows_of

BATCH: Final = 32
"""Windows a step; on the CPU more are slower again."""
CUDA_BATCH: Final = 256

Request = tuple[NDArray[Any], NDArray[Any], Mapping[str, float]]
"""Samples at 16 kHz (N,), an identity (68, 2) in any coordinates, and {emotion: weight}."""


@dataclass
class _Recording:
    """One request, and the frames that it has so far."""

    identity: Identity
    emotion: NDArray[Any]
    stitcher: Stitcher
    frames: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    def add(self, window: Window, output: NDArray[np.float32]) -> None:
        self.frames.append(self.identity.place(self.stitcher.push(window, output)))


def animate_clips(
    engine: Engine, requests: Iterable[Request], hop: int, lookahead: int, batch: int = 0
) -> Iterator[NDArray[np.float32]]:
    """The frames (T, 68, 2) of each request, in order and in its identity's coordinates.

    They are those of :meth:`kfusion.runtime.Animator.animate` of each alone, for the rows of a
    batch do not affect each other. No more than ``batch`` windows are held at a time; 0: as many
    as suit the engine's device.
    """
    on_cuda = str(getattr(engine, "device", "cpu")).startswith("cuda")
    batch = batch or (CUDA_BATCH if on_cuda else BATCH)
    windows = _windows(requests, hop, lookahead)
    current: _Recording | None = None
    while rows := list(islice(windows, batch)):
        outputs = engine.step(
            np.stack([window.audio for _, window in rows]),
            np.stack([recording.identity.canonical for recording, _ in rows]),
            np.stack([recording.emotion for recording, _ in rows]),
        )
        for (recording, window), output in zip(rows, outputs, strict=True):
            if current is not None and recording is not current:
                yield np.concatenate(current.frames)
            current = recording
            recording.add(window, output)
    if current is not None:
        yield np.concatenate(current.frames)


def _windows(
    requests: Iterable[Request], hop: int, lookahead: int
) -> Iterator[tuple[_Recording, Window]]:
    for audio, identity, emotion in requests:
        recording = _Recording(
            Identity.from_points(identity), vector(emotion), Stitcher(hop, lookahead)
        )
        for window in windows_of(np.clip(audio, -1, 1), SAMPLE_RATE, hop, lookahead):
            yield recording, window

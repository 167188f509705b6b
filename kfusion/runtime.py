"""The bundled model for whole recordings, and the engines.

import kfusion
frames = kfusion.load().animate("speech.wav", emotion={"happy": 0.7})   # (T, 68, 2)
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion import emotion as emotions
from kfusion.audio import Samples, read_audio
from kfusion.config import MAX_RATE, MIN_RATE
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.engines import (
    ENGINES,
    EXPORTED,
    WEIGHTS,
    Engine,
    EngineName,
    OnnxEngine,
    SyntheticEngine,
    TorchEngine,
    make_engine,
)
from kfusion.errors import BadAudio
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity
from kfusion.stream import Stitcher, Window, windows_of

__all__ = [
    "ENGINES", "EXPORTED", "WEIGHTS", "Animator", "Engine", "EngineName", "OnnxEngine",
    "SyntheticEngine", "TorchEngine", "load", "make_engine",
]  # fmt: skip


class Animator:
    """An engine with the offline call around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def animate(
        self,
        audio: str | Path | ArrayLike,
        rate: int | None = None,
        *,
        emotion: Mapping[str, float] | EmotionTimeline | None = None,
        identity: ArrayLike | None = None,
        hop: int = 3,
        lookahead: int = 3,
        batch: int = 16,
    ) -> NDArray[np.float32]:
        """The frames of a whole recording: (T, 68, 2), T = ceil(30 x samples / rate).

        ``audio`` is a file, or samples (N,) in -1..1 with their ``rate`` (8000-96000).
        ``identity`` (68, 2) is a face at rest in any coordinates, which the answer is in; without
        one it is in pixels of the canonical 256 x 256 crop. ``emotion`` is {name: weight} or an
        :class:`~kfusion.emotion_timeline.EmotionTimeline`. The frames are those of a stream of the
        same samples at this hop and look-ahead (frames).

        Raises :class:`~kfusion.errors.AudioFileError`, ``BadAudio``, ``BadEmotion`` or
        ``BadIdentity``.
        """
        samples, rate = _samples(audio, rate)
        face = NEUTRAL_IDENTITY if identity is None else Identity.from_points(identity)
        curve = (
            emotion.curve()
            if isinstance(emotion, EmotionTimeline)
            else emotions.EmotionCurve(emotions.vector(emotion or {}))
        )
        stitcher = Stitcher(hop, lookahead)
        frames = [np.zeros((0, 68, 2), np.float32)]
        batches = _batched(windows_of(samples, rate, hop, lookahead), batch)
        for windows, outputs in self._run(batches, face.canonical, curve):
            for window, output in zip(windows, outputs, strict=True):
                frames.append(face.place(stitcher.push(window, output)))
        return np.concatenate(frames)

    def _run(
        self, batches: Iterator[list[Window]], face: NDArray[Any], curve: emotions.EmotionCurve
    ) -> Iterator[tuple[list[Window], NDArray[np.float32]]]:
        """Each batch with the engine's output, in order, computed on all lanes."""

        def step(windows: list[Window]) -> NDArray[np.float32]:
            rows = len(windows)
            return self.engine.step(
                np.stack([w.audio for w in windows]),
                np.repeat(face[None], rows, axis=0),
                np.stack([curve.at(w.last - 1) for w in windows]),
            )

        if self.engine.lanes == 1:
            yield from ((windows, step(windows)) for windows in batches)
            return
        running: deque[tuple[list[Window], Future[NDArray[np.float32]]]] = deque()
        with ThreadPoolExecutor(self.engine.lanes) as lanes:
            for windows in batches:
                running.append((windows, lanes.submit(step, windows)))
                if len(running) > self.engine.lanes:
                    first, output = running.popleft()
                    yield first, output.result()
            for first, output in running:
                yield first, output.result()


def _samples(audio: str | Path | ArrayLike, rate: int | None) -> tuple[Samples, int]:
    if isinstance(audio, (str, Path)):
        return read_audio(audio)
    samples = np.asarray(audio, dtype=np.float32)
    if samples.ndim != 1:
        raise BadAudio(f"samples have shape {samples.shape}; wanted (N,), one channel")
    if rate is None or not MIN_RATE <= rate <= MAX_RATE:
        raise BadAudio(f"rate is {rate}; wanted {MIN_RATE} to {MAX_RATE} Hz with the samples")
    if not np.isfinite(samples).all():
        raise BadAudio("samples are not finite; wanted -1..1")
    return np.clip(samples, -1, 1), rate


def _batched(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    while batch := list(islice(windows, size)):
        yield batch


def load(
    checkpoint: str | Path | None = None, *, engine: EngineName = "auto", device: str = "auto"
) -> Animator:
    """The bundled model, or the one in ``checkpoint``, ready to animate."""
    return Animator(make_engine(engine, Path(checkpoint) if checkpoint else None, device))

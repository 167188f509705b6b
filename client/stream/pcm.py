"""Samples -> the PCM bytes that a stream carries, in chunks that each fit a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion.audio import check_whole, frame_bytes
from kfusion.errors import BadAudio, BadMessage
from kfusion.wire import AudioFormat

CHUNK_S: Final = 0.5
SILENCE_S: Final = 10


@dataclass(frozen=True)
class Chunk:
    """Audio that goes in one message: ``pcm``, or silence where that is None."""

    samples: int
    pcm: bytes | None


def chunks(samples: ArrayLike | bytes, audio: AudioFormat) -> Iterator[Chunk]:
    """Audio in messages of at most half a second. Raises as :func:`encode_pcm`."""
    pcm = encode_pcm(samples, audio)
    size = frame_bytes(audio.format, audio.channels)
    step = size * max(1, round(CHUNK_S * audio.rate))
    for at in range(0, len(pcm), step):
        part = pcm[at : at + step]
        yield Chunk(len(part) // size, part)


def silent_chunks(samples: int, rate: int) -> Iterator[Chunk]:
    """Silence, in messages of at most 10 s."""
    if samples < 0:
        raise BadMessage(f"silence of {samples} samples; wanted 0 or more")
    longest = SILENCE_S * rate
    for at in range(0, samples, longest):
        yield Chunk(min(longest, samples - at), None)


def encode_pcm(samples: ArrayLike | bytes, audio: AudioFormat) -> bytes:
    """Samples in the format of ``audio``, interleaved.

    ``samples`` is floats in -1..1 (clipped) or int16, of shape (n,) for one channel or
    (n, channels); or PCM bytes, of which only the length is checked.

    Raises :class:`~kfusion.errors.BadAudio` for another shape, for numbers that are not finite,
    and for bytes that are not whole sample frames.
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        data = bytes(samples)
        check_whole(data, audio.format, audio.channels)
        return data
    array: NDArray[Any] = np.asarray(samples)
    if array.ndim == 1 and audio.channels == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != audio.channels:
        shape = "(n,)" if audio.channels == 1 else f"(n, {audio.channels})"
        raise BadAudio(f"samples have shape {array.shape}; wanted {shape}")
    if array.dtype == np.int16:
        if audio.format == "s16le":
            return array.astype("<i2").tobytes()
        return (array / np.float32(32768)).astype("<f4").tobytes()
    if array.dtype.kind != "f":
        raise BadAudio(f"samples are {array.dtype}; wanted floats in -1..1, int16 or bytes")
    if not np.isfinite(array).all():
        raise BadAudio("samples are not finite; wanted -1..1")
    array = np.clip(array, -1, 1)
    if audio.format == "f32le":
        return array.astype("<f4").tobytes()
    return np.clip(np.round(array * 32768), -32768, 32767).astype("<i2").tobytes()

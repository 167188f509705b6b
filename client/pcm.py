"""Samples -> the PCM bytes that a stream carries."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion.errors import BadAudio
from kfusion.wire import AudioFormat

BYTES: Final = {"s16le": 2, "f32le": 4}


def frame_bytes(audio: AudioFormat) -> int:
    """Bytes of one sample frame: one sample of every channel."""
    return BYTES[audio.format] * audio.channels


def encode_pcm(samples: ArrayLike | bytes, audio: AudioFormat) -> bytes:
    """Samples as ``audio`` wants them, interleaved.

    ``samples`` is floats in -1..1 (clipped) or int16, of shape (n,) for one channel or
    (n, channels); or bytes, which are PCM already and only checked for length.

    Raises :class:`~kfusion.errors.BadAudio` for another shape, for numbers that are not finite,
    and for bytes that are not whole sample frames.
    """
    if isinstance(samples, (bytes, bytearray, memoryview)):
        return _whole(bytes(samples), audio)
    array: NDArray[Any] = np.asarray(samples)
    if array.ndim == 1 and audio.channels == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != audio.channels:
        wanted = "(n,)" if audio.channels == 1 else f"(n, {audio.channels})"
        raise BadAudio(f"samples have shape {array.shape}; wanted {wanted}")
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


def _whole(data: bytes, audio: AudioFormat) -> bytes:
    size = frame_bytes(audio)
    if len(data) % size:
        raise BadAudio(
            f"{len(data)} bytes are not whole sample frames; wanted a multiple of {size} "
            f"({audio.format}, {audio.channels} channel{'s' if audio.channels > 1 else ''})"
        )
    return data

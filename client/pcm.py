"""Samples -> the PCM bytes that a stream carries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion.audio import check_whole
from kfusion.errors import BadAudio
from kfusion.wire import AudioFormat


def encode_pcm(samples: ArrayLike | bytes, audio: AudioFormat) -> bytes:
    """Samples as ``audio`` wants them, interleaved.

    ``samples`` is floats in -1..1 (clipped) or int16, of shape (n,) for one channel or
    (n, channels); or bytes, which are PCM already and only checked for length.

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

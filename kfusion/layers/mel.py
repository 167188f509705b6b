"""Log-mel's constants and filters, and the power spectrum in NumPy for engines without torch."""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE

N_FFT: Final = 512
FRAME: Final = 400  # samples of a Hann-windowed analysis frame, 25 ms
STRIDE: Final = 160  # samples from one analysis frame to the next, 10 ms
FLOOR: Final = 1e-8  # added to mel power before the logarithm
QUIETEST: Final = -2.0  # loud GRID speech peaks at 4, its room tone at -1.3
SPAN: Final = 6.0  # nats that one unit stands for
LOWEST: Final = -2.5  # units below the loudest bin at which silence is cut off


@lru_cache(maxsize=4)
def mel_filters(mels: int) -> NDArray[np.float32]:
    """Triangular, area-normalised mel filters as torchaudio's, (N_FFT // 2 + 1, mels)."""
    top, knee, slope, log_step = SAMPLE_RATE / 2, 1000.0, 200 / 3, np.log(6.4) / 27
    knee_mel = knee / slope
    points = np.linspace(0, knee_mel + np.log(top / knee) / log_step, mels + 2)
    hz = np.where(points < knee_mel, points * slope, knee * np.exp((points - knee_mel) * log_step))
    bins = np.linspace(0, top, N_FFT // 2 + 1)[:, None]
    rise = (bins - hz[:-2]) / (hz[1:-1] - hz[:-2])
    fall = (hz[2:] - bins) / (hz[2:] - hz[1:-1])
    triangles = np.clip(np.minimum(rise, fall), 0, None)
    return (triangles * (2 / (hz[2:] - hz[:-2]))).astype(np.float32)


def hann(length: int) -> NDArray[np.float32]:
    """The periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


_HANN: Final = hann(FRAME)


def power_spectrum(samples: NDArray[Any]) -> NDArray[np.float32]:
    """(B, N) at 16 kHz -> power (B, N // 160, 257) of bins 31.25 Hz apart.

    Frame t holds the 400 samples that end before sample 160 (t + 1), zeros before the first.
    """
    padded = np.pad(np.asarray(samples, np.float32), ((0, 0), (FRAME - STRIDE, 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME, axis=1)[:, ::STRIDE]
    spectrum = np.fft.rfft(frames * _HANN, n=N_FFT)
    return np.square(spectrum.real) + np.square(spectrum.imag)

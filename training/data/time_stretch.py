"""Speed and pitch of sound, as torchaudio's but several times as fast for a second of it."""

import math
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from kfusion.layers.torchaudio_python import torchaudio

PITCH_FFT: Final = 512


@lru_cache(1)
def _torchaudio() -> Any:
    return torchaudio()


@lru_cache(32)
def resampling(speed: float) -> tuple[Tensor, int]:
    """torchaudio's filter for playing ``speed`` (in hundredths) times as fast, and its hop.

    (taps, phases): each run of ``taps`` samples, ``hop`` after the last, makes ``phases`` new ones.
    """
    played = round(100 * speed)
    kernel = _torchaudio().transforms.Resample(played, 100).kernel[:, 0].T.contiguous()
    return kernel, played // math.gcd(played, 100)


def resampled(samples: Tensor, speed: float) -> Tensor:
    """(N,) -> about (N / speed,), as far as whole runs of the filter go.

    The first is at sample ``(taps - hop) / 2``. As torchaudio's Resample, but as one matrix
    product: its convolution takes three times as long for a second of sound.
    """
    kernel, hop = resampling(speed)
    return (samples.unfold(0, len(kernel), hop) @ kernel).flatten()


def pitched(audio: Tensor, ratio: float) -> Tensor:
    """(N,) at the same speed and ``ratio`` times the pitch: slowed, then resampled.

    As torchaudio's pitch_shift, whose semitones need resampling filters of many thousand taps.
    """
    kernel, hop = resampling(ratio)
    reach = (len(kernel) - hop) // 2
    longer = slowed(audio, ratio)
    return resampled(torch.nn.functional.pad(longer, (reach, len(kernel))), ratio)[: len(audio)]


def slowed(audio: Tensor, ratio: float) -> Tensor:
    """(N,) -> (N * ratio,) of the same pitch: torchaudio's phase_vocoder, without angles.

    From one new frame to the next each bin turns by as much as it did between the two frames
    of the sound that lie there; a product of unit numbers costs a fifth of adding up angles.
    """
    window = torch.hann_window(PITCH_FFT)
    hop = PITCH_FFT // 4
    frames = torch.stft(audio, PITCH_FFT, hop, window=window, return_complex=True).T.contiguous()
    frames = torch.nn.functional.pad(frames, (0, 0, 0, 1))
    at = torch.arange(0, len(frames) - 1, 1 / ratio)
    before = at.long()
    units = torch.sgn(frames + 1e-9)  # of silence 1, for from 0 on the product stays 0
    turns = (units[1:] * units[:-1].conj())[before[:-1]]
    phases = torch.cat([units[:1], turns]).cumprod(0)
    sizes = (frames * frames.conj()).real.sqrt()
    sizes = torch.lerp(sizes[before], sizes[before + 1], (at - before)[:, None])
    pieces = torch.fft.irfft(sizes * phases, PITCH_FFT) * window
    whole = _overlap_add(pieces, hop) / _overlap_add((window**2).expand(pieces.shape), hop)
    return whole[PITCH_FFT // 2 :][: round(len(audio) * ratio)]


def _overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """The sum of pieces (K, L) that each begin ``hop``, a part of L, after the last."""
    count, length = pieces.shape
    out = torch.zeros(count + length // hop, hop)
    for k in range(length // hop):
        out[k : k + count] += pieces[:, k * hop : (k + 1) * hop]
    return out.flatten()

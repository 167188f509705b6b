"""Audio front ends: log-mel, the strided stem, and the step from encoder time to frame time."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import FPS, FRAMES, SAMPLE_RATE

N_FFT: Final = 512
FRAME: Final = 400  # samples of a Hann-windowed analysis frame, 25 ms
STRIDE: Final = 160  # samples from one analysis frame to the next, 10 ms
_FLOOR: Final = 1e-8  # added to mel power before the logarithm


def mel_filters(mels: int) -> Tensor:
    """Slaney-style triangular mel filters, area-normalised, (N_FFT // 2 + 1, mels).

    The same as ``torchaudio.functional.melscale_fbanks`` with ``norm='slaney'`` and
    ``mel_scale='slaney'`` from 0 to 8000 Hz: linear below 1 kHz, logarithmic above (Slaney
    1998, Auditory Toolbox).
    """
    top, knee, slope, log_step = SAMPLE_RATE / 2, 1000.0, 200 / 3, torch.log(torch.tensor(6.4)) / 27
    knee_mel = knee / slope
    top_mel = knee_mel + torch.log(torch.tensor(top / knee)) / log_step
    points = torch.linspace(0, float(top_mel), mels + 2, dtype=torch.float64)
    hz = torch.where(
        points < knee_mel, points * slope, knee * torch.exp((points - knee_mel) * log_step)
    )
    bins = torch.linspace(0, top, N_FFT // 2 + 1, dtype=torch.float64)
    rise = (bins[:, None] - hz[:-2]) / (hz[1:-1] - hz[:-2])
    fall = (hz[2:] - bins[:, None]) / (hz[2:] - hz[1:-1])
    triangles = torch.minimum(rise, fall).clamp(min=0)
    return (triangles * (2 / (hz[2:] - hz[:-2]))).float()


def log_mel(samples: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """(B, N) at 16 kHz -> log mel power (B, N // 160, mels).

    Analysis frame t holds the 400 samples that end before sample 160 (t + 1), zeros before
    the first.
    """
    frames = F.pad(samples, (FRAME - STRIDE, 0)).unfold(-1, FRAME, STRIDE)
    spectrum = torch.fft.rfft(frames * window, n=N_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log(power @ filters + _FLOOR)


class LogMel(nn.Module):
    """Log-mel, made independent of gain: (B, N) -> (B, N // 160, mels), within -1.5..1.

    The reference is the loudest bin of the window, but never below ``quietest``, so that
    speech looks alike at any level while silence stays silence. While training, ``vtlp`` > 0
    stretches the mel axis of each row by a random factor within 1 -+ vtlp (vocal tract length
    perturbation, Jaitly & Hinton 2013) and, like dropout, does nothing in evaluation.
    """

    window: Tensor
    filters: Tensor

    quietest: Final = -2.0  # loud GRID speech peaks at 4, its room tone at -1.3
    span: Final = 6.0  # nats that one unit stands for

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.vtlp = 0.0
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)
        self.register_buffer("filters", mel_filters(mels), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        mel = log_mel(samples, self.window, self.filters)
        reference = mel.amax(dim=(1, 2), keepdim=True).clamp(min=self.quietest)
        mel = ((mel - reference) / self.span).clamp(min=-2.5) + 1.0
        if self.training and self.vtlp > 0:
            mel = self._stretched(mel)
        return mel

    def _stretched(self, mel: Tensor) -> Tensor:
        rows, _, mels = mel.shape
        factor = 1 + self.vtlp * (2 * torch.rand(rows, 1, 1, device=mel.device) - 1)
        at = (torch.arange(mels, device=mel.device) * factor).clamp(max=mels - 1).expand(mel.shape)
        low = at.floor()
        left = mel.gather(2, low.long())
        right = mel.gather(2, (low.long() + 1).clamp(max=mels - 1))
        return left + (right - left) * (at - low)


class Stem(nn.Module):
    """Log-mel (B, 2 S, mels) -> (B, S, d), a step each 20 ms, with positions."""

    def __init__(self, mels: int, width: int) -> None:
        super().__init__()
        self.rise = nn.Conv1d(mels, width, 3, padding=1)
        self.stride = nn.Conv1d(width, width, 3, stride=2, padding=1)
        steps = SAMPLE_RATE // STRIDE // 2
        self.positions = nn.Parameter(0.02 * torch.randn(steps, width))

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.rise(mel.transpose(1, 2)))
        x = F.gelu(self.stride(x)).transpose(1, 2)
        return x + self.positions


def step_times(steps: int) -> Tensor:
    """Seconds from the window's start at the centre of each of the stem's steps, (S,)."""
    centre = STRIDE - FRAME / 2
    return (torch.arange(steps) * 2 * STRIDE + centre) / SAMPLE_RATE


class ToFrames(nn.Module):
    """Conv of eq. 5-6: (B, S, d) at the encoder's steps -> (B, C, d) at the video frames.

    Linear interpolation at the frames' true times (frame c is at c / 30 s), then a
    convolution along time.
    """

    weights: Tensor

    def __init__(self, times: Tensor, width: int) -> None:
        super().__init__()
        at = torch.arange(FRAMES) / FPS
        step = float(times[1] - times[0])
        hat = 1 - (at[:, None] - times[None, :]).abs() / step
        weights = hat.clamp(min=0)
        self.register_buffer("weights", weights / weights.sum(1, keepdim=True), persistent=False)
        self.conv = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        frames = self.weights @ x
        return self.conv(frames.transpose(1, 2)).transpose(1, 2)

"""Audio front ends: log-mel, the strided stems, and the step from encoder time to frame time."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW
from kfusion.layers.blocks import TimeConv
from kfusion.layers.mel import (
    FLOOR,
    FRAME,
    LOWEST,
    N_FFT,
    QUIETEST,
    SPAN,
    STRIDE,
    hann,
    mel_filters,
)


def log_mel(samples: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """(B, N) at 16 kHz -> log mel power (B, N // 160, mels), framed as ``power_spectrum``."""
    frames = F.pad(samples, (FRAME - STRIDE, 0)).unfold(-1, FRAME, STRIDE)
    spectrum = torch.fft.rfft(frames * window, n=N_FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.log(power @ filters + FLOOR)


def normalised(mel: Tensor) -> Tensor:
    """Log mel power (B, T, mels) made independent of gain, within -1.5..1.

    The reference is the window's loudest bin, at least QUIETEST, so that silence stays silence.
    """
    reference = mel.amax(dim=(1, 2), keepdim=True).clamp(min=QUIETEST)
    return ((mel - reference) / SPAN).clamp(min=LOWEST) + 1.0


def stretched(mel: Tensor, factor: Tensor) -> Tensor:
    """(B, T, mels) with each row's mel axis stretched by its ``factor`` (B,)."""
    mels = mel.shape[-1]
    at = torch.arange(mels, device=mel.device) * factor[:, None, None]
    at = at.clamp(max=mels - 1).expand(mel.shape)
    low = at.floor()
    left = mel.gather(2, low.long())
    right = mel.gather(2, (low.long() + 1).clamp(max=mels - 1))
    return left + (right - left) * (at - low)


class LogMel(nn.Module):
    """Log-mel, made independent of gain: (B, N) -> (B, N // 160, mels).

    ``stretch`` (B,): factors for the mel axis (vocal tract length, Jaitly & Hinton 2013).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.from_numpy(hann(FRAME)), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(mels)), persistent=False)

    def forward(self, samples: Tensor, stretch: Tensor | None = None) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):  # powers span 100 dB
            mel = normalised(log_mel(samples.float(), self.window, self.filters))
        return mel if stretch is None else stretched(mel, stretch)


class Stem(nn.Module):
    """Log-mel (B, 2 S, mels) -> (B, S, d), a step each 20 ms, with positions."""

    def __init__(self, mels: int, width: int) -> None:
        super().__init__()
        self.rise = TimeConv(mels, width, 3)
        self.stride = TimeConv(width, width, 3, stride=2)
        steps = WINDOW // STRIDE // 2
        self.positions = nn.Parameter(0.02 * torch.randn(steps, width))
        # Step s is centred on analysis frame 2 s.
        self.times = (torch.arange(steps) * 2 * STRIDE + STRIDE - FRAME / 2) / SAMPLE_RATE

    def forward(self, mel: Tensor) -> Tensor:
        return F.gelu(self.stride(F.gelu(self.rise(mel)))) + self.positions


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """(samples that a step of stacked convolutions sees, samples from step to step)."""
    field, stride = 1, 1
    for k, s in zip(kernels, strides, strict=True):
        field += (k - 1) * stride
        stride *= s
    return field, stride


class RawStem(nn.Module):
    """The signal (B, N), divided by its RMS -> (B, N // 320, d) by strided convolutions.

    With ``loudness`` each step also gets the log energy of its own 20 ms, which is undivided.
    """

    KERNELS: Final = (10, 8, 4, 4)
    STRIDES: Final = (5, 4, 4, 4)
    QUIET: Final = 0.01
    SILENCE: Final = 1e-6  # -60 dBFS

    def __init__(self, width: int, *, loudness: bool = False) -> None:
        super().__init__()
        channels = (1, width // 8, width // 4, width // 2, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(channels[k], channels[k + 1], self.KERNELS[k], self.STRIDES[k])
            for k in range(len(self.KERNELS))
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, c) for c in channels[1:])
        field, stride = receptive_field(self.KERNELS, self.STRIDES)
        steps = WINDOW // stride
        self.positions = nn.Parameter(0.02 * torch.randn(steps, width))
        # Padded on the left only, so that step s ends with sample stride (s + 1).
        self.times = (torch.arange(1, steps + 1) * stride - field / 2) / SAMPLE_RATE
        self.step = stride
        self.loudness = nn.Linear(1, width) if loudness else None

    def forward(self, samples: Tensor) -> Tensor:
        rms = samples.square().mean(dim=1, keepdim=True).sqrt()
        x = (samples / rms.clamp(min=self.QUIET)).unsqueeze(1)
        for conv, norm, k, s in zip(
            self.convs, self.norms, self.KERNELS, self.STRIDES, strict=True
        ):
            x = F.gelu(norm(conv(F.pad(x, (k - s, 0)))))
        y = x.transpose(1, 2) + self.positions
        if self.loudness is not None:
            steps = samples.unflatten(-1, (-1, self.step))
            energy = steps.square().mean(-1, keepdim=True)
            y = y + self.loudness(torch.log(energy + self.SILENCE))
        return y


class ToFrames(nn.Module):
    """Conv of eq. 5-6: (B, S, d) -> (B, C, d), interpolated at the frames' times and convolved.

    ``times`` (S,): seconds at the centres of the steps. Frame c is at c / 30 s.
    """

    weights: Tensor

    def __init__(self, times: Tensor, width: int) -> None:
        super().__init__()
        at = (torch.arange(FRAMES) / FPS).clamp(float(times[0]), float(times[-1]))
        step = float(times[1] - times[0])
        weights = (1 - (at[:, None] - times[None, :]).abs() / step).clamp(min=0)
        self.register_buffer("weights", weights / weights.sum(1, keepdim=True), persistent=False)
        self.conv = TimeConv(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.weights @ x)

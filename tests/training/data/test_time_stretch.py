"""Speed and pitch: as torchaudio's, and silence stays silence."""

import pytest
import torch

from kfusion.layers.torchaudio_python import torchaudio
from training.corpus.format import Corpus
from training.data.augment import PLAIN
from training.data.time_stretch import pitched, resampled, resampling, slowed


@pytest.mark.parametrize("speed", [*PLAIN.speeds, *PLAIN.pitches])
def test_resampling_is_torchaudios(speed: float) -> None:
    sound = torch.randn(18_000, generator=torch.Generator().manual_seed(0))
    expected = torchaudio().transforms.Resample(round(100 * speed), 100)(sound)
    kernel, hop = resampling(speed)
    reach = (len(kernel) - hop) // 2
    padded = torch.nn.functional.pad(sound, (reach, reach + hop))
    torch.testing.assert_close(resampled(padded, speed)[: len(expected)], expected)


@pytest.mark.parametrize("ratio", PLAIN.pitches)
def test_slowing_is_torchaudios_phase_vocoder(corpus: Corpus, ratio: float) -> None:
    sound = torch.from_numpy(corpus.sound(corpus.entries[0], -3000, 16_000))  # begins in silence
    window = torch.hann_window(512)
    spectrum = torch.stft(sound, 512, 128, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * 128, 257)[:, None]
    other = torchaudio().functional.phase_vocoder(spectrum, 1 / ratio, advance)
    expected = torch.istft(other, 512, 128, window=window, length=round(16_000 * ratio))
    torch.testing.assert_close(slowed(sound, ratio), expected, atol=2e-3, rtol=0)


def test_silence_stays_silence_at_any_pitch() -> None:
    assert not pitched(torch.zeros(16_000), 1.25).any()


def test_pitch_moves_and_time_does_not() -> None:
    t = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 300 * t) * (t > 0.5)
    for ratio in (0.8, 1.25):
        moved = pitched(tone, ratio)
        assert moved.shape == tone.shape
        assert abs(int(torch.fft.rfft(moved).abs().argmax()) - 300 * ratio) <= 3
        begins = int((moved.abs() > 0.3).nonzero()[0])
        assert abs(begins - 8000) < 400

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kfusion.layers import mel
from kfusion.layers.encoder import LogMel, RawStem, Stem, ToFrames, log_mel, normalised
from kfusion.layers.mel import FRAME, N_FFT, STRIDE
from kfusion.layers.torchaudio_python import torchaudio
from tests.conftest import voice


def test_log_mel_is_torchaudios() -> None:
    front = LogMel(80)
    samples = torch.from_numpy(voice(1.0))[None]
    transform = torchaudio().transforms.MelSpectrogram(
        16_000, n_fft=N_FFT, win_length=FRAME, hop_length=STRIDE, n_mels=80, center=False,
        power=2.0, norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    # Its window lies in the middle of the transform's 512 samples; ours ends with its frame.
    margin = (N_FFT - FRAME) // 2
    padded = F.pad(samples, (FRAME - STRIDE + margin, margin))
    theirs = torch.log(transform(padded).transpose(1, 2) + 1e-8)
    ours = log_mel(samples, front.window, front.filters)
    assert ours.shape == (1, 100, 80)
    torch.testing.assert_close(ours, theirs[:, :100], atol=2e-3, rtol=1e-4)


def test_loudness_does_not_change_what_the_network_hears_and_silence_stays_silence() -> None:
    front = LogMel(80).eval()
    speech = torch.from_numpy(voice(1.0))[None]
    loud, quiet = front(speech), front(speech * 0.3)
    assert (loud - quiet).abs().mean() < 0.02
    assert front(torch.zeros(1, 16_000)).max() < 0
    assert loud.max() == 1


def test_the_mel_axis_is_stretched_row_by_row_on_request() -> None:
    front = LogMel(80)
    t = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 1000 * t).expand(3, -1)
    peaks = front(tone, torch.tensor([1.0, 0.8, 1.25])).mean(1).argmax(1).tolist()
    assert abs(peaks[1] - peaks[0] / 0.8) <= 1 and abs(peaks[2] - peaks[0] / 1.25) <= 1
    torch.testing.assert_close(front(tone, torch.ones(3)), front(tone))


def test_the_numpy_twin_hears_the_same() -> None:
    front = LogMel(80).eval()
    for scale in (1.0, 1e-3, 0.0):
        sound = np.stack([voice(1.0, seed=k) for k in range(3)]) * np.float32(scale)
        power = torch.from_numpy(mel.power_spectrum(sound))
        ours = normalised(torch.log(power @ front.filters + mel.FLOOR))
        torch.testing.assert_close(ours, front(torch.from_numpy(sound)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("stem", [Stem(80, 16), RawStem(16)])
def test_encoder_steps_are_taken_to_frames_at_their_true_times(stem: Stem | RawStem) -> None:
    to_frames = ToFrames(stem.times, 1)
    assert to_frames.conv.bias is not None
    with torch.no_grad():
        to_frames.conv.weight.copy_(torch.tensor([0.0, 1.0, 0.0]))  # changes nothing
        to_frames.conv.bias.zero_()
        at = to_frames(stem.times[None, :, None])[0, :, 0]
    expected = (torch.arange(30) / 30).clamp(float(stem.times[0]), float(stem.times[-1]))
    torch.testing.assert_close(at, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["mel", "raw"])
def test_a_click_is_heard_at_its_own_step(kind: str) -> None:
    torch.manual_seed(0)
    front = LogMel(80).eval()
    stem = Stem(80, 16) if kind == "mel" else RawStem(16)
    quiet = 1e-3 * torch.randn(1, 16_000)
    click = quiet.clone()
    click[0, 8000:8080] += 0.02 * torch.randn(80)
    steps = [stem(front(x) if kind == "mel" else x) for x in (quiet, click)]
    assert steps[0].shape == (1, 50, 16)
    change = (steps[1] - steps[0]).abs().sum(-1)[0]
    assert abs(float(stem.times[int(change.argmax())]) - 0.5025) < 0.025

from __future__ import annotations

import torch
from torch.nn import functional as F

from kfusion.encoder import FRAME, N_FFT, STRIDE, LogMel, ToFrames, log_mel, mel_filters, step_times
from tests.conftest import voice
from training.torchaudio_python import torchaudio


def test_mel_filters_are_torchaudios() -> None:
    theirs = torchaudio.functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, 8000.0, 80, 16_000, norm="slaney", mel_scale="slaney"
    )
    torch.testing.assert_close(mel_filters(80), theirs, atol=1e-6, rtol=1e-4)


def test_log_mel_is_torchaudios() -> None:
    front = LogMel(80)
    samples = torch.from_numpy(voice(1.0))[None]
    transform = torchaudio.transforms.MelSpectrogram(
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


def test_mel_stretching_happens_only_in_training() -> None:
    front = LogMel(80)
    front.vtlp = 0.2
    speech = torch.from_numpy(voice(1.0))[None]
    torch.manual_seed(1)
    stretched = front.train()(speech)
    assert not torch.equal(stretched, front.eval()(speech))
    front.vtlp = 0.0
    assert torch.equal(front.train()(speech), front.eval()(speech))


def test_encoder_steps_are_taken_to_frames_at_their_true_times() -> None:
    times = step_times(50)
    to_frames = ToFrames(times, 1)
    at = to_frames.weights @ times
    wanted = torch.arange(30) / 30
    torch.testing.assert_close(at, wanted, atol=1e-6, rtol=0)

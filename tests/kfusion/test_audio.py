from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.audio import SampleQueue, decode_pcm, read_audio, resample, resampling_delay
from kfusion.errors import AudioFileError, BadAudio
from tests.conftest import voice

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 12347]


def resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    queue = SampleQueue()
    queue.append(samples)
    return resample(queue, rate, 0, len(samples) * 16_000 // rate)


def tone(hz: float, rate: int, seconds: float = 1.0) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def level_db(samples: NDArray[np.float32]) -> float:
    """RMS of the middle against that of a full-scale sine."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(20 * np.log10(np.sqrt(2 * np.mean(middle.astype(np.float64) ** 2)) + 1e-12))


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_browsers_rates_wait_at_most_12_ms(rate: int) -> None:
    assert 0 < resampling_delay(rate) / rate <= 0.012


@pytest.mark.parametrize("rate", [22_050, 32_000, 44_100, 48_000, 96_000])
def test_aliases_are_rejected_by_50_db(rate: int) -> None:
    top = rate / 2
    for hz in np.linspace(8_010, top - 10, 60):
        assert level_db(resampled(tone(hz, rate), rate)) < -50, hz


@pytest.mark.parametrize("rate", RATES)
def test_speech_band_passes_unchanged_and_in_time(rate: int) -> None:
    for hz in (100, 1000, min(3400, 0.42 * rate)):
        out = resampled(tone(hz, rate), rate)
        middle = slice(1000, len(out) - 1000)
        np.testing.assert_allclose(out[middle], tone(hz, 16_000)[: len(out)][middle], atol=4e-3)


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_images_are_rejected_too(rate: int) -> None:
    out = resampled(tone(1000, rate, 2.0), rate)[4000:-4000]
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    hz = np.fft.rfftfreq(len(out), 1 / 16_000)
    elsewhere = spectrum[np.abs(hz - 1000) > 50].max() / spectrum.max()
    assert 20 * np.log10(elsewhere) < -50


@given(
    st.sampled_from(RATES),
    st.lists(st.integers(1, 700), min_size=1, max_size=12),
    st.integers(0, 2**31),
)
def test_any_division_of_the_work_gives_the_same_bits(
    rate: int, cuts: list[int], seed: int
) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, 4000).astype(np.float32)
    whole = SampleQueue()
    whole.append(samples)
    parts = SampleQueue()
    at = 0
    for cut in [*cuts, 4000]:
        parts.append(samples[at : at + cut])
        at += cut
    count = 4000 * 16_000 // rate
    expected = resample(whole, rate, 0, count)
    pieces, at = [], 0
    while at < count:
        step = min(count - at, cuts[at % len(cuts)])
        pieces.append(resample(parts, rate, at, at + step))
        at += step
    assert np.array_equal(np.concatenate(pieces), expected)


@pytest.mark.parametrize("rate", RATES)
def test_the_delay_is_enough_for_every_window(rate: int) -> None:
    # Window W is read when W*R//30 + D samples are in: later ones must not change it.
    d = resampling_delay(rate)
    rng = np.random.default_rng(rate)
    for w in (1, 2, 7, 30, 61):
        received = w * rate // 30 + d
        known = rng.uniform(-1, 1, received).astype(np.float32)
        stop = w * 16_000 // 30
        short, long = SampleQueue(), SampleQueue()
        short.append(known)
        long.append(np.concatenate([known, np.ones(rate, np.float32)]))
        assert np.array_equal(resample(short, rate, 0, stop), resample(long, rate, 0, stop))


def test_silence_in_the_queue_is_zeros_and_costs_no_samples() -> None:
    queue = SampleQueue()
    queue.append(np.ones(10, np.float32))
    queue.append_silence(10**12)
    queue.append(np.ones(10, np.float32))
    assert queue.received == 10**12 + 20 and len(queue.chunks) == 2
    assert queue.read(5, 15).tolist() == [1] * 5 + [0] * 5
    assert queue.read(10**12 + 8, 10**12 + 30).tolist() == [0] * 2 + [1] * 10 + [0] * 10
    assert queue.read(-3, 2).tolist() == [0, 0, 0, 1, 1]
    queue.discard(SampleQueue.BLOCK)
    assert len(queue.chunks) == 1


def test_single_samples_are_kept_in_blocks() -> None:
    queue = SampleQueue()
    samples = voice(1.0)
    for sample in samples:
        queue.append(np.array([sample]))
    assert len(queue.chunks) <= 1 + len(samples) // (SampleQueue.BLOCK // 2)
    assert np.array_equal(queue.read(0, len(samples)), samples)


def test_pcm_of_both_formats_and_channel_counts_reads_the_same() -> None:
    samples = voice(0.1)
    s16 = np.round(samples * 32767).astype("<i2")
    from_s16 = decode_pcm(s16.tobytes(), "s16le", 1)
    np.testing.assert_allclose(from_s16, samples, atol=1e-4)
    stereo = np.repeat(s16, 2).tobytes()
    np.testing.assert_array_equal(decode_pcm(stereo, "s16le", 2), from_s16)
    f32 = samples.astype("<f4")
    np.testing.assert_array_equal(decode_pcm(f32.tobytes(), "f32le", 1), samples)
    left = np.stack([f32, np.zeros_like(f32)], 1).tobytes()
    np.testing.assert_allclose(decode_pcm(left, "f32le", 2), samples / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("data", "audio_format", "channels", "says"),
    [
        (b"abc", "s16le", 1, "multiple of 2"),
        (b"abcd" + b"ab", "s16le", 2, "multiple of 4"),
        (b"abcde", "f32le", 1, "multiple of 4"),
        (np.array([0, np.nan], "<f4").tobytes(), "f32le", 1, "sample 1"),
        (np.array([np.inf, 0], "<f4").tobytes(), "f32le", 2, "sample 0"),
    ],
)
def test_bytes_that_are_no_samples_are_refused(
    data: bytes, audio_format: str, channels: int, says: str
) -> None:
    with pytest.raises(BadAudio, match=says):
        decode_pcm(data, audio_format, channels)  # pyright: ignore[reportArgumentType]


@given(st.binary(max_size=200), st.sampled_from(["s16le", "f32le"]), st.sampled_from([1, 2]))
def test_any_bytes_are_finite_samples_or_bad_audio(
    data: bytes, audio_format: str, channels: int
) -> None:
    try:
        samples = decode_pcm(data, audio_format, channels)  # pyright: ignore[reportArgumentType]
    except BadAudio:
        return
    assert np.isfinite(samples).all() and (np.abs(samples) <= 1).all()


def test_files_are_read_at_their_own_rate_and_mixed_to_one_channel(tmp_path: Path) -> None:
    samples = voice(0.5, 22_050)
    soundfile.write(tmp_path / "a.flac", np.stack([samples, samples], 1), 22_050)
    read, rate = read_audio(tmp_path / "a.flac")
    assert rate == 22_050
    np.testing.assert_allclose(read, samples, atol=1e-4)


@pytest.mark.parametrize("rate", [4000, 192_000])
def test_files_beyond_the_wires_rates_are_brought_to_48_khz(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, rate) * 0.5, rate, subtype="FLOAT")
    read, now = read_audio(tmp_path / "a.wav")
    assert now == 48_000 and len(read) == pytest.approx(48_000, abs=48)
    np.testing.assert_allclose(read[5000:40_000], 0.5 * tone(440, 48_000)[5000:40_000], atol=3e-3)


def test_files_that_are_no_sound_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="no such file"):
        read_audio(tmp_path / "none.wav")
    text = tmp_path / "text.wav"
    text.write_text("not a sound")
    with pytest.raises(AudioFileError, match=r"text\.wav"):
        read_audio(text)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioFileError, match=r"empty\.wav: holds no sound"):
        read_audio(tmp_path / "empty.wav")

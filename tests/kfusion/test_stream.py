from itertools import chain, repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.audio import Samples, resampling_delay
from kfusion.stream import (
    HOPS,
    Slider,
    Stitcher,
    Window,
    frame_count,
    latency_ms,
    sample_of,
    windows_of,
)

shapes = st.sampled_from(HOPS).flatmap(
    lambda hop: st.tuples(st.just(hop), st.integers(0, 30 - hop))
)
rates = st.sampled_from([8000, 11025, 16000, 44100, 48000, 96000, 12347])


def drain(slider: Slider) -> list[Window]:
    out: list[Window] = []
    while (window := slider.take()) is not None:
        out.append(window)
    return out


@given(rates, shapes, st.integers(0, 60_000))
def test_the_windows_of_a_recording_yield_each_frame_once(
    rate: int, shape: tuple[int, int], count: int
) -> None:
    windows = list(windows_of(np.zeros(count, np.float32), rate, *shape))
    frames = [n for w in windows for n in range(w.first, w.last)]
    assert frames == list(range(-(-count * 30 // rate)))


@given(rates, shapes, st.lists(st.integers(1, 3000), max_size=40))
def test_a_window_runs_exactly_when_its_sound_is_in(
    rate: int, shape: tuple[int, int], chunks: list[int]
) -> None:
    hop, lookahead = shape
    slider, ran = Slider(rate, hop, lookahead), 0
    d = resampling_delay(rate)
    for chunk in chunks:
        slider.push(np.zeros(chunk, np.float32))
        for window in drain(slider):
            ran += 1
            assert window.end == lookahead + ran * hop
        due = lookahead + (ran + 1) * hop
        assert due * rate // 30 + d > slider.received


@given(
    rates,
    shapes,
    st.lists(st.integers(0, 9000), max_size=8),
    st.lists(st.integers(1, 9000), max_size=9),
    st.integers(0, 2**31),
)
def test_any_chunks_and_any_pieces_of_work_give_the_same_windows(
    rate: int, shape: tuple[int, int], cuts: list[int], pieces: list[int], seed: int
) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, 20_000).astype(np.float32)
    expected = list(windows_of(samples, rate, *shape))
    slider, windows, at = Slider(rate, *shape), list[Window](), 0
    limits = chain(pieces, repeat(4000))
    for cut in [*cuts, len(samples), None]:
        if cut is None:
            slider.finish()
        else:
            slider.push(samples[at : at + cut])
            at += cut
        while slider.ready:
            if slider.prepare(next(limits)):
                window = slider.take()
                assert window is not None
                windows.append(window)
    for a, b in zip(windows, expected, strict=True):
        assert (a.end, a.first, a.last) == (b.end, b.first, b.last)
        assert np.array_equal(a.audio, b.audio)


def test_what_was_prepared_before_a_reset_is_silence_after_it() -> None:
    slider = Slider(16_000, 30, 0)
    slider.push(np.ones(40_000, np.float32))
    assert not slider.prepare(8000)
    slider.reset()
    slider.finish()
    assert not any(window.audio.any() for window in drain(slider))


@given(rates, shapes, st.integers(0, 40), st.integers(0, 2**31))
def test_later_sound_never_changes_a_window(
    rate: int, shape: tuple[int, int], n: int, seed: int
) -> None:
    hop, lookahead = shape
    limit = (n + lookahead + hop) * rate // 30 + resampling_delay(rate)
    rng = np.random.default_rng(seed)
    head: Samples = rng.uniform(-1, 1, limit).astype(np.float32)
    tails: list[Samples] = [rng.uniform(-1, 1, 2 * rate).astype(np.float32) for _ in range(2)]
    audio: list[Samples] = []
    for tail in tails:
        sound = np.concatenate([head, tail]).astype(np.float32)
        windows = windows_of(sound, rate, hop, lookahead)
        audio.append(next(w.audio for w in windows if w.first <= n < w.last))
    assert np.array_equal(audio[0], audio[1])


def test_at_16_khz_a_window_is_the_last_second_with_zeros_before_the_start() -> None:
    samples = (np.arange(1, 20_001) / 20_000).astype(np.float32)
    windows = list(windows_of(samples, 16_000, 3, 3))
    assert windows[0].end == 6 and np.array_equal(windows[0].audio[-3200:], samples[:3200])
    assert not windows[0].audio[:-3200].any()
    later = windows[9]
    stop = later.end * 16_000 // 30
    assert np.array_equal(later.audio, samples[stop - 16_000 : stop])
    assert (later.first, later.last) == (later.end - 6, later.end - 3)


@given(rates, shapes, st.integers(0, 30_000), st.integers(0, 2**31))
def test_after_a_reset_windows_are_as_if_zeros_had_been_sent(
    rate: int, shape: tuple[int, int], before: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    head, tail = (rng.uniform(-1, 1, k).astype(np.float32) for k in (before, rate))
    slider = Slider(rate, *shape)
    slider.push(head)
    drain(slider)
    n = slider.reset()
    assert n == -(-before * 30 // rate)
    slider.push(tail)
    slider.finish()
    windows = drain(slider)
    zeros = np.concatenate([np.zeros(before, np.float32), tail])
    expected = {w.end: w for w in windows_of(zeros, rate, *shape)}
    assert [k for w in windows for k in range(w.first, w.last)] == list(
        range(n, frame_count(before + rate, rate))
    )
    for window in windows:
        assert np.array_equal(window.audio, expected[window.end].audio)


def output(value: float) -> NDArray[np.float32]:
    return np.full((30, 68, 2), value, np.float32)


def stitch(hop: int, lookahead: int, values: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stitcher = Stitcher(hop, lookahead)
    samples = np.zeros(len(values) * hop * 16_000 // 30 + 16_000, np.float32)
    windows = list(windows_of(samples, 16_000, hop, lookahead))
    return np.concatenate([stitcher.push(w, v) for w, v in zip(windows, values, strict=False)])[
        :, 0, 0
    ]


@given(shapes, st.floats(-5, 5))
def test_windows_that_agree_are_left_as_they_are(shape: tuple[int, int], value: float) -> None:
    frames = stitch(*shape, [output(value)] * 4)
    np.testing.assert_allclose(frames, np.float32(value), atol=1e-6)


@pytest.mark.parametrize(
    ("hop", "lookahead", "outputs", "expected"),
    [
        (3, 3, [0, 4], [0, 0, 0, 1, 2, 3]),  # a step is spread over the look-ahead
        (5, 2, [0, 3], [0] * 5 + [1, 2, 3, 3, 3]),
        (3, 0, [0, 3], [0, 0, 0, 1, 2, 3]),  # without, it decays over two frames
        (1, 0, [0, 3, 3, 3], [0, 1, 2, 3]),
        (30, 0, [0, 3], [0] * 30 + [3] * 30),  # the paper's own mode blends nothing
    ],
)
def test_a_step_between_windows_is_blended(
    hop: int, lookahead: int, outputs: list[float], expected: list[float]
) -> None:
    frames = stitch(hop, lookahead, [output(value) for value in outputs])
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_a_window_whose_predecessor_did_not_run_is_not_blended() -> None:
    stitcher = Stitcher(3, 3)
    windows = list(windows_of(np.zeros(16_000, np.float32), 16_000, 3, 3))
    stitcher.push(windows[0], output(0.0))
    assert (stitcher.push(windows[2], output(4.0)) == 4).all()


def test_after_a_reset_the_face_eases_over_100_ms() -> None:
    stitcher = Stitcher(2, 2)
    windows = list(windows_of(np.zeros(16_000, np.float32), 16_000, 2, 2))
    stitcher.reset(4, np.full((68, 2), 4.0, np.float32))
    frames = [stitcher.push(w, output(0.0))[:, 0, 0] for w in windows[2:5]]
    np.testing.assert_allclose(np.concatenate(frames), [3, 2, 1, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("hop", "lookahead"), [(7, 0), (3, -1), (30, 1), (15, 16)])
def test_impossible_hops_are_refused(hop: int, lookahead: int) -> None:
    with pytest.raises(ValueError, match=f"hop {hop}"):
        Slider(16_000, hop, lookahead)


def test_an_hour_of_any_rate_ends_within_a_frame_of_an_hour() -> None:
    for rate in (8000, 11025, 16000, 44100, 48000, 96000):
        assert frame_count(3600 * rate, rate) == 108_000
        assert sample_of(108_000, rate) == 3600 * rate


def test_latency_is_what_buffering_takes() -> None:
    assert latency_ms(16_000, 3, 3) == pytest.approx(200)
    assert 200 < latency_ms(48_000, 3, 3) < 212

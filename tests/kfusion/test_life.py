from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.coefficients import ARKIT52, Rig
from kfusion.landmarks import (
    BROWS,
    EYES,
    MOUTH,
    NEUTRAL,
    NEUTRAL_IDENTITY,
    NEUTRAL_INTER_OCULAR,
    RIGID,
    Identity,
    align,
    lip_gap,
)
from kfusion.life import HISTORY, CounterRandom, Life, LoudnessHistory, accents
from kfusion.stream import HOPS, Window, windows_of
from tests.conftest import folder_of, voice

MINUTE = 1800  # frames

SHAPES = [(h, k) for h in HOPS for k in (0, 1, 3, 12, 25, 29) if h + k <= 30]


def still(count: int) -> NDArray[np.float32]:
    return np.zeros((count, 68, 2), np.float32)


def quiet(count: int) -> NDArray[np.float64]:
    return np.zeros(HISTORY + count)


def lively(life: Life, first: int, count: int) -> NDArray[np.float32]:
    return life.add(NEUTRAL_IDENTITY, first, still(count), quiet(count))


def accents_of(sound: NDArray[Any], rate: int, hop: int, lookahead: int) -> NDArray[np.float64]:
    """The brow accents of a whole recording."""
    loudness = LoudnessHistory()
    return np.concatenate(
        [accents(loudness.push(w)) for w in windows_of(sound, rate, hop, lookahead)]
    )


def starts(closed: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.flatnonzero((closed[1:] > 0) & (closed[:-1] == 0)) + 1


# A function of the seed, the frame's number and the sound


@given(st.integers(-(2**70), 2**70), st.integers(0, 10**7), st.data())
def test_frames_are_the_same_bits_in_any_chunks_and_from_any_first(
    seed: int, first: int, data: st.DataObject
) -> None:
    count = 60
    rng = np.random.default_rng(abs(seed))
    moved = rng.normal(0, 2, (count, 68, 2)).astype(np.float32)
    levels = rng.uniform(0, 0.6, HISTORY + count)
    whole = Life(seed, 0.8).add(NEUTRAL_IDENTITY, first, moved, levels)
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=8))})
    order = data.draw(st.permutations(list(pairwise(cuts))))
    other = Life(seed, 0.8)
    for a, b in order:
        part = other.add(NEUTRAL_IDENTITY, first + a, moved[a:b], levels[a : b + HISTORY])
        assert np.array_equal(part, whole[a:b])


def test_numbers_are_those_of_splitmix64_on_every_machine() -> None:
    """Its first outputs from state 0: e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f."""
    random = CounterRandom(0, 0)
    random._key = np.zeros(1, np.uint64)  # pyright: ignore[reportPrivateUsage]
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert random(np.arange(1, 4)).tolist() == [(k >> 11) / 2**53 for k in known]


def test_another_seed_gives_another_life() -> None:
    one, other = Life(1, 1.0), Life(2, 1.0)
    assert not np.array_equal(starts(one.closure(0, MINUTE)), starts(other.closure(0, MINUTE)))
    a, b = (lively(life, 0, MINUTE)[:, 27, 0] for life in (one, other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.5


def test_at_zero_nothing_is_added() -> None:
    moved = np.random.default_rng(0).normal(0, 3, (300, 68, 2)).astype(np.float32)
    levels = np.random.default_rng(1).uniform(0, 1, 300 + HISTORY)
    assert np.array_equal(Life(3, 0.0).add(NEUTRAL_IDENTITY, 0, moved, levels), moved)


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_an_amount_outside_0_to_1_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        Life(0, amount)


def test_half_the_life_is_half_the_motion_of_the_head() -> None:
    n = next(k for k in range(0, 900, 30) if not Life(5, 1.0).closure(k, 1).any())
    whole, half = (lively(Life(5, amount), n, 1) for amount in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 2, atol=0.02)
    assert np.abs(whole).max() > 0.1


# Blinks


def test_blinks_come_as_often_and_as_unevenly_as_peoples() -> None:
    gaps: list[float] = []
    rates: list[float] = []
    for seed in range(12):
        found = starts(Life(seed, 1.0).closure(0, 20 * MINUTE))
        rates.append(len(found) / 20)
        gaps.extend(np.diff(found) / 30)
    assert 15 <= np.mean(rates) <= 20
    assert min(rates) > 14 and max(rates) < 21
    logs = np.log(gaps)
    skew = float(((logs - logs.mean()) ** 3).mean() / logs.std() ** 3)
    assert 0.45 < logs.std() < 0.65 and abs(skew) < 0.3  # log-normal
    assert min(gaps) >= 0.6 and max(gaps) < 20


def test_lids_close_in_100_to_150_ms_and_open_in_about_200() -> None:
    life = Life(11, 1.0)
    closed = life.closure(0, 5 * MINUTE)
    found = starts(closed)
    assert len(found) > 60
    for n in found:
        blink = closed[n - 1 : n + 16]
        shut = np.flatnonzero(blink == 1)
        assert 3 <= shut[0] <= 4  # frames from the last open one to the first shut one
        opened = int(np.flatnonzero(blink[shut[-1] :] == 0)[0])
        assert 6 <= opened <= 7
        assert (np.diff(blink[: shut[0] + 1]) > 0).all() and (np.diff(blink[shut[-1] :]) <= 0).all()


def shut_frame(life: Life) -> int:
    return int(np.flatnonzero(life.closure(0, MINUTE) == 1)[0])


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1.8))
def test_a_blink_shuts_the_eyes_however_wide_they_are(seed: int, wide: float) -> None:
    rng = np.random.default_rng(seed)
    face = NEUTRAL + rng.normal(0, 1, (68, 2))
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        face[upper, 1] = face[lower, 1] - 8 * wide
    identity = Identity.from_points(face)
    moved = rng.normal(0, 0.5, (1, 68, 2))
    moved[:, [37, 38, 43, 44], 1] -= rng.uniform(-2, 3)  # a wide or a narrowed eye
    life = Life(seed, 1.0)
    n = shut_frame(life)
    shut = life.add(identity, n, moved, quiet(1))
    straight = align(identity.canonical + shut, identity.canonical)[0]
    gaps = straight[[41, 40, 47, 46], 1] - straight[[37, 38, 43, 44], 1]
    before = (identity.canonical + moved[0])[[41, 40, 47, 46], 1]
    before = before - (identity.canonical + moved[0])[[37, 38, 43, 44], 1]
    assert np.abs(gaps[before > 0]).max(initial=0) < 0.15
    coefficients = Rig(NEUTRAL_IDENTITY).arkit52(lively(Life(seed, 1.0), n, 1))
    blink = [ARKIT52.index(f"eyeBlink{side}") for side in ("Left", "Right")]
    assert coefficients[0, blink].tolist() == [1, 1]


def test_eyes_that_are_shut_already_are_left_shut() -> None:
    moved = still(1)
    moved[:, [37, 38, 43, 44], 1] += 12  # beyond the lower lids
    life = Life(0, 1.0)
    out = NEUTRAL + life.add(NEUTRAL_IDENTITY, shut_frame(life), moved, quiet(1))
    np.testing.assert_allclose(align(out, NEUTRAL), NEUTRAL + moved, atol=1e-4)


# The head


def test_the_head_moves_little_and_slowly() -> None:
    frames = NEUTRAL + lively(Life(4, 1.0), 0, 10 * MINUTE)
    middle = frames[:, RIGID].mean(axis=1)
    away = np.linalg.norm(middle - NEUTRAL[list(RIGID)].mean(axis=0), axis=1)
    assert away.max() <= 0.01 * NEUTRAL_INTER_OCULAR
    eyes = frames[:, 45] - frames[:, 36]
    roll = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    assert roll.std() > 0.3 and np.abs(roll).max() <= 1.5
    together = np.corrcoef([roll, middle[:, 0], middle[:, 1]]) - np.eye(3)
    assert np.abs(together).max() < 0.2
    for track in (roll, middle[:, 0], middle[:, 1]):
        power = np.abs(np.fft.rfft(track - track.mean())) ** 2
        assert power[np.fft.rfftfreq(len(track), 1 / 30) > 1].sum() < 1e-3 * power.sum()
        assert abs(track.mean() - np.median(track)) < 0.2
    steps = np.linalg.norm(np.diff(frames, axis=0), axis=-1)
    assert np.delete(steps, np.arange(36, 48), axis=1).max() < 0.4  # no jump but the lids'


def test_apart_from_the_heads_motion_only_lids_and_brows_move() -> None:
    rng = np.random.default_rng(8)
    moved = rng.normal(0, 2, (900, 68, 2))
    moved[:, list(RIGID)] = 0
    levels = rng.uniform(0, 0.6, 900 + HISTORY)
    out = NEUTRAL + Life(9, 1.0).add(NEUTRAL_IDENTITY, 0, moved, levels).astype(np.float64)
    straight = align(out, NEUTRAL) - NEUTRAL - moved
    moves = np.abs(straight).max(axis=(0, 2))
    lids = [37, 38, 40, 41, 43, 44, 46, 47]
    assert np.delete(moves, [*lids, *range(BROWS.start, BROWS.stop)]).max() < 1e-3
    assert moves[MOUTH].max() < 1e-3
    np.testing.assert_allclose(lip_gap(align(out, NEUTRAL)), lip_gap(NEUTRAL + moved), atol=1e-3)
    assert moves[EYES].max() > 3 and moves[BROWS].max() > 0.5


# Brow accents


def test_accents_raise_the_brows_a_little() -> None:
    frames = 900
    levels = np.tile([0.02] * 8 + [0.4] * 7, 1 + (frames + HISTORY) // 15)[: frames + HISTORY]
    life = Life(6, 1.0)
    with_sound = life.add(NEUTRAL_IDENTITY, 0, still(frames), levels)
    up = (lively(life, 0, frames) - with_sound)[:, BROWS, 1]
    assert up.min() > -0.05  # of the head's roll
    assert 1 < up.max() < 0.02 * NEUTRAL_INTER_OCULAR
    inner = Rig(NEUTRAL_IDENTITY).arkit52(with_sound)[:, ARKIT52.index("browInnerUp")]
    assert 0.1 < inner.max() < 0.3


def test_silence_and_steady_noise_raise_no_brow() -> None:
    hiss = (0.01 * np.random.default_rng(0).normal(size=64_000)).astype(np.float32)
    assert accents_of(np.zeros(48_000, np.float32), 16_000, 3, 3).max() == 0
    assert accents_of(hiss, 16_000, 3, 3)[HISTORY + 5 :].max() < 0.05


def test_a_loud_syllable_after_a_pause_is_an_accent_whatever_the_gain() -> None:
    sound = np.zeros(48_000, np.float32)
    sound += 0.001 * np.random.default_rng(1).normal(size=48_000).astype(np.float32)
    sound[24_000:28_000] += 0.3 * np.sin(np.arange(4000) * 0.06).astype(np.float32)
    for gain in (0.2, 1.0):
        found = accents_of(gain * sound, 16_000, 3, 3)
        assert found[46:60].max() > 0.9
        assert found[15:45].max() < 0.05 and found[70:].max() < 0.05


def test_an_accent_comes_within_150_ms_and_goes_more_slowly() -> None:
    levels = np.zeros(HISTORY + 30)
    levels[HISTORY + 5] = 0.5
    found = accents(levels)
    peak = int(found.argmax())
    assert found[peak] == 1 and 2 <= peak - 5 <= 5
    assert not found[:5].any() and not found[5 + HISTORY :].any()
    assert (found > 0)[peak:].sum() > 1.5 * (found > 0)[:peak].sum()


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_accents_are_the_same_for_every_hop_and_look_ahead(rate: int) -> None:
    sound = voice(3.0, rate, seed=2)
    expected = accents_of(sound, rate, 3, 3)
    assert expected.max() > 0.3
    for hop, lookahead in SHAPES:
        assert np.array_equal(accents_of(sound, rate, hop, lookahead), expected), (hop, lookahead)


def test_an_accent_hears_nothing_after_its_frame_and_little_before() -> None:
    sound = voice(3.0, seed=4)
    plain = accents_of(sound, 16_000, 3, 3)
    n = 50
    later = sound.copy()
    later[(n + 1) * 16_000 // 30 :] = 0.7
    assert np.array_equal(accents_of(later, 16_000, 3, 3)[: n + 1], plain[: n + 1])
    earlier = sound.copy()
    earlier[: (n - HISTORY) * 16_000 // 30] = 0.7
    assert np.array_equal(accents_of(earlier, 16_000, 3, 3)[n:], plain[n:])


def test_levels_of_earlier_windows_are_kept_but_not_over_a_reset_or_a_gap() -> None:
    loud, silent = np.full(16_000, 0.25, np.float32), np.zeros(16_000, np.float32)
    loudness = LoudnessHistory()
    loudness.push(Window(30, 0, 30, loud))
    np.testing.assert_allclose(loudness.push(Window(60, 30, 60, silent))[:HISTORY], 0.5)
    loudness.push(Window(90, 60, 90, loud))
    loudness.reset()
    assert loudness.push(Window(120, 90, 120, silent)).max() == 0
    loudness.push(Window(150, 120, 150, loud))
    levels = loudness.push(Window(210, 180, 210, loud))  # the window between did not run
    assert levels[:HISTORY].max() == 0
    np.testing.assert_allclose(levels[HISTORY:], 0.5)


@pytest.mark.data
def test_real_speech_has_about_one_accent_a_second() -> None:
    import soundfile

    folder = folder_of("librispeech")
    counts: list[float] = []
    for path in sorted(folder.glob("1*.ogg"))[:6]:
        sound, rate = soundfile.read(path, dtype="float32")
        found = accents_of(sound, rate, 3, 3)
        assert found.mean() < 0.5
        counts.append(((found[1:] >= 0.3) & (found[:-1] < 0.3)).sum() / len(found) * 30)
    assert 0.5 < np.mean(counts) < 2.5

"""What a load test sends: chunks, positions and starts; loads that cannot be."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from client.loadtest.load import chunked, plan_streams, read_clips, speech_like
from kfusion.errors import KFusionError
from tests.client.loadtest.traces import LOAD
from tests.conftest import voice


@given(
    rate=st.sampled_from([8000, 11_025, 16_000, 44_100, 48_000]),
    ms=st.integers(1, 300),
    seconds=st.floats(0.3, 2.0),
)
def test_chunks_end_at_whole_multiples_of_their_length_and_join_to_the_sound(
    rate: int, ms: int, seconds: float
) -> None:
    samples = speech_like(seconds, rate)
    clip = chunked("a", samples, rate, ms)
    ends = np.cumsum(clip.samples)
    assert ends.tolist() == [k * ms * rate // 1000 for k in range(1, len(ends) + 1)]
    assert [len(pcm) for pcm in clip.pcm] == [2 * n for n in clip.samples]
    assert 0 <= len(samples) - ends[-1] <= rate * ms // 1000
    joined = np.frombuffer(b"".join(clip.pcm), "<i2") / 32768
    np.testing.assert_allclose(joined, samples[: ends[-1]], atol=1 / 32768)


def test_a_sound_shorter_than_a_chunk_is_repeated() -> None:
    ramp = np.arange(100, dtype=np.float32) / np.float32(100)
    clip = chunked("a", ramp, 16_000, 20)
    assert clip.samples == (320,)
    sound = np.frombuffer(clip.pcm[0], "<i2") / 32768
    np.testing.assert_allclose(sound, np.tile(ramp, 4)[:320], atol=1 / 32768)


def test_files_are_brought_to_the_rate_of_the_stream(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0, 22_050), 22_050)
    soundfile.write(tmp_path / "b.wav", voice(2.0, 48_000), 48_000)
    one, two = read_clips([tmp_path / "a.wav", tmp_path / "b.wav"], 48_000, 20)
    assert (len(one.pcm), len(two.pcm)) == (50, 100)
    assert one.name.endswith("a.wav") and sum(two.samples) == 96_000


def test_streams_have_their_own_positions_and_more_streams_leave_them_as_they_were() -> None:
    clips = [chunked(str(k), speech_like(5.0, 16_000, k), 16_000, 20) for k in range(2)]
    few, many = (plan_streams(replace(LOAD, streams=n, hop=3), clips) for n in (20, 50))
    assert many[:20] == few
    assert {plan.clip for plan in many} == {0, 1}
    assert len({(plan.clip, plan.chunk) for plan in many}) > 40
    delays = [plan.delay_s for plan in many]
    assert 0 <= min(delays) < 0.02 and 0.08 < max(delays) < 0.1
    assert plan_streams(replace(LOAD, streams=20, seed=1), clips) != few
    in_phase = plan_streams(replace(LOAD, streams=9, starts="phase"), clips)
    assert {plan.delay_s for plan in in_phase} == {0.0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"streams": 0}, "--streams 0: wanted 1 to"),
        ({"chunk_ms": 0}, "--chunk-ms 0"),
        ({"processes": 0}, "--processes 0"),
        ({"warmup": 4.0}, "less than the 4 s"),
        ({"seed": -1}, "--seed -1: wanted 0 or more"),
        ({"seconds": float("inf")}, "--seconds inf: wanted more than 0"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"hop": 4}, "wanted 1, 2, 3, 5"),
        ({"hop": 30}, "at most 30"),
        ({"rate": 7999}, "8000"),
    ],
)
def test_a_load_that_cannot_be_is_refused_and_why(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(KFusionError, match=re.escape(message)):
        replace(LOAD, **changed).check()

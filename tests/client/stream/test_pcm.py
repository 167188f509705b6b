"""Samples in the forms of a caller -> PCM in messages."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.stream.pcm import chunks, encode_pcm
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.errors import BadAudio


@given(st.lists(st.floats(-2, 2, width=32), max_size=30))
def test_floats_arrive_clipped_and_within_half_a_step(values: list[float]) -> None:
    sound = np.array(values, np.float32)
    clipped = np.clip(sound, -1, 1)
    decoded = decode_pcm(encode_pcm(sound, wire.AudioFormat()), "s16le", 1)
    np.testing.assert_allclose(decoded, np.minimum(clipped, 32767 / 32768), atol=0.51 / 32768)
    exact = decode_pcm(encode_pcm(sound, wire.AudioFormat(format="f32le")), "f32le", 1)
    np.testing.assert_array_equal(exact, clipped)


@given(st.lists(st.integers(-32768, 32767), max_size=30))
def test_int16_samples_go_through_unchanged(values: list[int]) -> None:
    sound = np.array(values, np.int16)
    assert encode_pcm(sound, wire.AudioFormat()) == sound.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("samples", "channels", "says"),
    [
        (np.zeros(4, np.float32), 2, r"\(n, 2\)"),
        (np.zeros((4, 2), np.float32), 1, r"wanted \(n,\)"),
        (np.array([np.nan], np.float32), 1, "not finite"),
        (np.zeros(4, np.int32), 1, "int32"),
        (b"abc", 1, "multiple of 2"),
    ],
)
def test_samples_of_another_form_are_refused(samples: Any, channels: Any, says: str) -> None:
    with pytest.raises(BadAudio, match=says):
        encode_pcm(samples, wire.AudioFormat(channels=channels))


def test_long_sound_is_split_into_messages_within_the_limit() -> None:
    audio = wire.AudioFormat(96_000, 2, "f32le")
    parts = list(chunks(np.zeros((300_001, 2), np.float32), audio))
    assert sum(p.samples for p in parts) == 300_001
    assert all(p.pcm is not None and len(p.pcm) < wire.MESSAGE_BYTES for p in parts)

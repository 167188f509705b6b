"""The receive buffer: packets in order, each once, and silence of exactly the right length."""

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import BadAudio
from server.transports.rtp import MAX_PAUSE, WAIT_S, Packet, ReceiveBuffer, opus_samples

BLOCK = 960
FIRST = 65_530  # so that both counters wrap soon
STAMP = 2**32 - 3 * BLOCK


def packet(k: int, *, pause: int = 0) -> Packet:
    """The k-th of a sender, 20 ms, after ``pause`` samples for which nothing was sent."""
    stamp = (STAMP + k * BLOCK + pause) % 2**32
    return Packet((FIRST + k) % 65536, stamp, b"%d" % k, BLOCK)


def names(parts: list[bytes | int]) -> list[str | int]:
    return [p if isinstance(p, int) else p.decode() for p in parts]


def test_one_that_comes_late_is_waited_for() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    buffer.take(0.0)
    buffer.push(packet(2), 0.04)
    assert buffer.take(0.04) == []
    assert buffer.wake_at() == pytest.approx(0.04 + WAIT_S)
    buffer.push(packet(1), 0.09)
    assert names(buffer.take(0.09)) == ["1", "2"]


def test_one_that_does_not_come_is_silence_of_its_length() -> None:
    buffer = ReceiveBuffer()
    for k in (0, 3, 4):
        buffer.push(packet(k), k / 50)
    assert names(buffer.take(0.08)) == ["0"]
    assert names(buffer.take(0.06 + WAIT_S)) == [2 * BLOCK, "3", "4"]
    assert buffer.lost == 2 * BLOCK
    buffer.push(packet(2), 0.2)
    assert buffer.take(0.2) == []
    assert buffer.late == 1


def test_a_pause_of_the_sender_is_silence_at_once() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    buffer.push(packet(1, pause=12_345), 0.3)
    assert names(buffer.take(0.3)) == ["0", 12_345, "1"]
    assert buffer.lost == 0


def test_a_pause_is_not_filled_twice() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    buffer.take(0.0)
    buffer.skip(10_000)
    buffer.push(packet(1, pause=12_000), 0.3)
    assert names(buffer.take(0.3)) == [2_000, "1"]


def test_a_sender_that_begins_anew_is_no_pause() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    buffer.take(0.0)
    buffer.push(packet(1, pause=MAX_PAUSE + BLOCK), 0.02)
    buffer.push(packet(2, pause=MAX_PAUSE + BLOCK), 0.04)
    assert names(buffer.take(0.04)) == ["1", "2"]


def test_nothing_is_awaited_at_the_end() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    buffer.push(packet(2), 0.0)
    assert names(buffer.take(0.0, flush=True)) == ["0", BLOCK, "2"]


@given(st.data())
def test_whatever_the_network_does_time_is_true(data: st.DataObject) -> None:
    """Every part lies where its timestamp says, and comes at most ``WAIT_S`` after the first that
    came behind it."""
    sent = data.draw(st.integers(1, 60))
    fates = data.draw(
        st.lists(
            st.one_of(st.none(), st.floats(0, 0.2)), min_size=sent, max_size=sent
        )
    )  # fmt: skip
    arrivals = sorted((k / 50 + fate, k) for k, fate in enumerate(fates) if fate is not None)
    buffer, at, first = ReceiveBuffer(), 0, None
    events = [(t, k) for t, k in arrivals]
    for t, k in events:
        while buffer.wake_at() <= t:
            at = check(buffer.take(buffer.wake_at()), at, first)
        if first is None:
            first = k
        buffer.push(packet(k), t)
        at = check(buffer.take(t), at, first)
    check(buffer.take(10.0), at, first)
    assert not buffer.packets


def check(parts: list[bytes | int], at: int, first: int | None) -> int:
    for part in parts:
        if isinstance(part, int):
            at += part
        else:
            assert first is not None and int(part) == first + at / BLOCK
            at += BLOCK
    return at


@pytest.mark.parametrize("milliseconds", ["2.5", "5", "10", "20", "40", "60"])
def test_a_packet_says_how_long_it_is(milliseconds: str) -> None:
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = 48_000, "mono", "s16"
    codec.options = {"frame_duration": milliseconds}
    samples = round(float(milliseconds) * 48)
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, samples), np.int16), format="s16", layout="mono"
    )
    frame.sample_rate = 48_000
    (coded,) = codec.encode(frame)
    assert opus_samples(bytes(coded)) == samples


@given(st.binary(max_size=40))
def test_any_bytes_have_a_length_or_are_refused(payload: bytes) -> None:
    try:
        assert 120 <= opus_samples(payload) <= 5760
    except BadAudio:
        return


def test_one_lost_before_a_burst_costs_no_more_than_itself() -> None:
    buffer = ReceiveBuffer()
    buffer.push(packet(0), 0.0)
    said = buffer.take(0.0)
    for k in range(2, 300):  # all at once, after the network stood still
        buffer.push(packet(k), 5.0)
        said += buffer.take(5.0)
    said += buffer.take(5.0 + WAIT_S)
    assert names(said) == ["0", BLOCK, *[str(k) for k in range(2, 300)]]
    assert (buffer.late, buffer.lost) == (0, BLOCK)

"""When audio is heard and its frames are shown: samples and times only, no device."""

from collections import deque
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Frame
from client.audio.playout import DeviceClock, EventSchedule, PlayoutBuffer, Timeline
from kfusion import wire
from kfusion.landmarks import NEUTRAL
from kfusion.stream import frame_count, sample_of

FACE: Final = NEUTRAL.astype(np.float32)


def face(n: int) -> Frame:
    return Frame(n, n / 30, FACE)


# The buffer


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), max_size=12),
    st.lists(st.integers(1, 50), max_size=12),
)
def test_audio_is_played_in_its_place_whatever_the_device_takes(
    sounds: list[tuple[int, int]], takes: list[int]
) -> None:
    buffer, place, expected = PlayoutBuffer(2), 0, np.zeros(2000, "<i2")
    for pause, samples in sounds:
        place += pause
        expected[place : place + samples] = np.arange(1, samples + 1)
        buffer.put(place, expected[place : place + samples].tobytes())
        place += samples
    played = b"".join(buffer.take(samples) for samples in [*takes, 2000 - sum(takes)])
    assert played == expected.tobytes()
    assert (buffer.taken, buffer.missed) == (2000, 0)


def test_late_audio_is_counted_and_the_rest_keeps_its_place() -> None:
    buffer = PlayoutBuffer(2)
    buffer.take(10)
    buffer.put(4, np.arange(20, dtype="<i2").tobytes())
    assert buffer.take(14) == np.arange(6, 20, dtype="<i2").tobytes()
    assert buffer.missed == 6


# The device's clock


@pytest.mark.parametrize("step", [1.9, -0.05])
def test_a_device_that_paused_or_skipped_is_followed_at_once(step: float) -> None:
    clock = DeviceClock(16_000)
    for k in range(300):
        clock.report((320 * k, 0.02 * k))
    for k in range(300, 308):
        clock.report((320 * k, 0.02 * k + step))
    assert clock.time_of(0) == pytest.approx(step)


# The places of sound


def test_a_pause_moves_what_follows_and_only_the_frames_not_shown_yet() -> None:
    line = Timeline()
    assert line.device_sample(0) is None
    assert line.place(0, 1000, preferred=500, earliest=400, unshown=0) == 500
    # Sound that follows on stays there, though little time is left, ...
    assert line.place(1000, 1000, preferred=1600, earliest=1500, unshown=700) == 1500
    # ... and after a pause of which the stream counts 600 samples it waits for its frames.
    assert line.place(2600, 1000, preferred=9000, earliest=8900, unshown=2300) == 9000
    assert [line.device_sample(s) for s in (0, 1999, 2299, 2300, 2600)] == [
        500,
        2499,
        2799,
        8700,
        9000,
    ]
    assert line.gaps == 0


def test_audio_that_comes_too_late_leaves_a_gap_that_is_counted() -> None:
    line = Timeline()
    line.place(0, 1000, preferred=500, earliest=400, unshown=0)
    assert line.place(1000, 1000, preferred=1800, earliest=1700, unshown=0) == 1800
    assert [line.device_sample(s) for s in (999, 1000)] == [1499, 1800]
    assert line.gaps == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 900), st.integers(1, 900), st.integers(0, 3000)),
        min_size=1,
        max_size=20,
    )
)
def test_audio_never_overlaps_and_is_never_too_early(
    pushes: list[tuple[int, int, int]],
) -> None:
    line, first, now, free = Timeline(), 0, 0, 0
    for silence, samples, passed in pushes:
        first, now = first + silence, now + passed
        before = {s: line.device_sample(s) for s in range(0, line.end, 97)}
        place = line.place(first, samples, preferred=now + 300, earliest=now + 200, unshown=0)
        assert place >= max(free, now + 200)
        assert {s: line.device_sample(s) for s in before} == before
        free, first = place + samples, first + samples


# Frames


def schedule(rate: int = 30_000) -> EventSchedule:
    """Sample s is heard at 10 + s / rate."""
    device = DeviceClock(rate)
    device.report((0, 10.0))
    line = Timeline()
    line.place(0, 10 * rate, preferred=0, earliest=0, unshown=0)
    return EventSchedule(rate, line, device)


def test_of_late_frames_only_the_last_is_given_and_all_are_counted() -> None:
    frames = schedule()
    for n in range(4):
        frames.put(face(n), 10.08)  # 0, 1 and 2 should have been shown
    given_ = frames.due(10.08)
    assert isinstance(given_, Frame) and given_.n == 2
    assert frames.due(10.08) is None
    assert (frames.late, frames.skipped) == (3, 2)
    assert frames.max_late_s == pytest.approx(0.08)


def test_a_mark_waits_for_its_sound_and_an_error_does_not() -> None:
    frames = schedule()
    refused = wire.Error("bad_emotion", "no", False)
    for event in (refused, face(0), wire.MarkReached("m", 1), face(1), wire.End(2, 0, 10.0)):
        frames.put(event, 9.0)
    assert frames.due(9.0) == refused
    assert frames.due(9.0) is None
    assert isinstance(frames.due(10.0), Frame)
    assert frames.due(10.03) is None
    assert frames.due(10.034) == wire.MarkReached("m", 1)
    assert isinstance(frames.due(10.034), Frame)
    assert frames.due(19.99) is None  # the sound is longer than its frames that came
    assert isinstance(frames.due(20.0), wire.End)


# Together: ten minutes of a device whose second is not ours

RATE: Final = 24_000
BLOCK: Final = 480
LATENCY_S: Final = 0.2  # of the stream
MARGIN_S: Final = 0.15


class SkewedDevice:
    """Plays at its own true rate, calls back with jitter, and tells times with jitter."""

    def __init__(self, ppm: float, rng: np.random.Generator) -> None:
        self.rate = RATE * (1 + ppm * 1e-6)
        self.rng = rng
        self.taken = 0
        self.played = bytearray()

    def heard_at(self, sample: float) -> float:
        return 1000.0 + sample / self.rate

    def next_call(self) -> float:
        """Some 40 ms before its block is heard, or up to 30 ms later than that."""
        late = 0.03 if self.rng.random() < 0.02 else self.rng.exponential(0.002)
        return self.heard_at(self.taken) - 0.04 + min(late, 0.03)

    def call(self, buffer: PlayoutBuffer, clock: DeviceClock) -> None:
        wild = 0.05 * (self.rng.random() < 0.01)
        clock.report((self.taken, self.heard_at(self.taken) + self.rng.normal(0, 0.003) + wild))
        self.played += buffer.take(BLOCK)
        self.taken += BLOCK


def numbered(first: int, samples: int) -> bytes:
    """Audio whose values are its times in the stream: in ms, from 1, modulo 30 s."""
    return (1 + np.arange(first, first + samples) // 24 % 30_000).astype("<i2").tobytes()


@pytest.mark.parametrize(("ppm", "pauses"), [(-200, False), (200, False), (-200, True)])
def test_ten_minutes_of_a_skewed_device_stay_in_time(ppm: int, pauses: bool) -> None:
    rng = np.random.default_rng(abs(ppm) + pauses)
    device, buffer, clock = SkewedDevice(ppm, rng), PlayoutBuffer(2), DeviceClock(RATE)
    line = Timeline()
    frames = EventSchedule(RATE, line, clock)
    coming: deque[tuple[float, int]] = deque()  # frames: when, which
    shown: list[tuple[float, int]] = []
    voiced: set[int] = set()  # tenths of a second of the stream
    placed, next_frame, push_at, call_at, pausing = 0, 0, 1001.0, 0.0, 0
    while len(device.played) < 2 * RATE * 600:
        now = min(push_at, call_at, coming[0][0] if coming else np.inf)
        while (wake := frames.wake_at()) <= now:
            event = frames.due(wake)
            assert isinstance(event, Frame)
            shown.append((wake, event.n))
        if now == call_at:
            device.call(buffer, clock)
            call_at = max(call_at, device.next_call())
        elif now < push_at:
            frames.put(face(coming.popleft()[1]), now)
        else:
            # 100 ms a time: with pauses a source at its own pace, else as soon as there is room.
            heard = clock.sample_at(now + LATENCY_S)
            push_at = now + 0.1
            if pausing:
                pausing -= 1  # six steps of silence are counted by the stream, as the SDK does
                placed += RATE // 10 * (pausing >= 20)
                push_at += 0 if pausing else rng.uniform(0.0, 0.1)
            else:
                place = line.place(
                    placed, RATE // 10, preferred=heard + round(MARGIN_S * RATE), earliest=heard,
                    unshown=frames.unshown,
                )  # fmt: skip
                buffer.put(place, numbered(placed, RATE // 10))
                voiced.add(placed // (RATE // 10))
                placed += RATE // 10
                if not pauses:
                    push_at = now + max(0.001, (place - clock.sample_at(now)) / RATE - 2.0)
                elif rng.random() < 0.03:
                    pausing, push_at = 26, now + 0.2
            while sample_of(next_frame, RATE) + RATE // 10 <= placed:
                arrives = now + LATENCY_S / 2 + rng.uniform(0.005, 0.03)
                coming.append((max(arrives, coming[-1][0] if coming else 0.0), next_frame))
                next_frame += 1
    assert frames.skipped == frames.late == 0
    assert [n for _, n in shown] == list(range(len(shown)))
    assert len(shown) > (10_000 if pauses else 17_900)

    played = np.frombuffer(bytes(device.played), "<i2").astype(np.int64)

    def heard_ms(at: float) -> int:
        return played[round((at - 1000.0) * device.rate)] - 1

    apart: list[float] = []
    for at, n in shown:
        if sample_of(n, RATE) // (RATE // 10) in voiced:
            ms = heard_ms(at)
            if ms < 0:  # a few ms before a sound begins or after it has ended
                ms = max(heard_ms(at + 0.015) - 15, heard_ms(at - 0.015) + 15)
            apart.append(abs((ms - n * 1000 / 30 + 15_000) % 30_000 - 15_000))
    print(f"\n{ppm:+} ppm, pauses {pauses}: {len(shown)} frames, {line.gaps} gaps,",
          f"apart p50 {np.median(apart):.1f} ms, most {max(apart):.1f} ms")  # fmt: skip
    assert max(apart) <= 20
    assert buffer.missed == 0
    assert len(shown) <= frame_count(placed, RATE)

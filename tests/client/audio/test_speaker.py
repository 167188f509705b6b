"""The output device with a fake one; PortAudio itself is not needed."""

import time

import pytest

from client.audio.speaker import Speaker
from kfusion import wire
from kfusion.errors import SpeakerError
from tests.client.fake_sounddevice import FakeSounddevice

AUDIO = wire.AudioFormat(48_000)


def test_the_default_output_is_given_the_time_of_each_block(
    sounddevice: FakeSounddevice,
) -> None:
    calls: list[tuple[int, float]] = []

    def fill(samples: int, heard_at: float) -> bytes:
        calls.append((samples, heard_at - time.monotonic()))
        return b"\x07" * (2 * samples)

    speaker = Speaker()
    speaker.start(AUDIO, fill, lambda: pytest.fail("it was stopped, not gone"))
    (stream,) = sounddevice.streams
    assert stream.running
    assert (stream.options["device"], stream.options["channels"]) == (2, 1)
    assert (stream.options["samplerate"], stream.options["dtype"]) == (48_000, "int16")
    assert stream.play(500.03) == b"\x07" * 1920
    stream.play(0.0, underflow=True)  # a device that does not know its times
    speaker.stop()
    assert [samples for samples, _ in calls] == [960, 960]
    assert [ahead for _, ahead in calls] == pytest.approx([0.03, 0.07], abs=0.01)
    assert speaker.underruns == 1
    assert not stream.running


def test_a_device_that_stops_by_itself_is_reported(sounddevice: FakeSounddevice) -> None:
    gone: list[str] = []
    Speaker("head").start(AUDIO, lambda n, at: bytes(2 * n), lambda: gone.append("gone"))
    sounddevice.streams[0].options["finished_callback"]()
    assert gone == ["gone"]


def test_a_rate_that_the_device_does_not_take_is_an_error(
    sounddevice: FakeSounddevice,
) -> None:
    speaker = Speaker("Headphones")
    slow = wire.AudioFormat(16_000)
    assert (speaker.takes(AUDIO), speaker.takes(slow)) == (True, False)
    with pytest.raises(SpeakerError, match=r"Headphones: .* 16000 Hz.* its own rate is 44100 Hz"):
        speaker.start(slow, lambda n, at: bytes(2 * n), lambda: None)
    speaker.stop()

"""The player with a device and a clock that a test turns, and the device's shell."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from client import Frame, connect
from client.__main__ import main
from client.audio.player import Player
from client.audio.speaker import Fill, Speaker
from client.cli.say import playable
from client.stream.memory import Answer, MemoryTransport
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import ConnectionLost, MissingExtra, SpeakerError
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import MemoryServer
from tests.conftest import voice

RATE = 24_000
BLOCK = 480


class HandSpeaker:
    """A device that runs as the test's clock does, its second 300 ppm short.

    ``held_s``: how long before a block is heard it takes it. ``played``: all that it took.
    """

    name = "Test loudspeaker"
    underruns = 0

    def __init__(self, clock: ManualClock, held_s: float = 0.25, runs: bool = True) -> None:
        self.clock, self.held_s, self.runs = clock, held_s, runs
        self.rate = RATE * 1.0003
        self.played = bytearray()
        self.began = clock.now()
        self.stopped = False

    def start(self, audio: wire.AudioFormat, fill: Fill, gone: Callable[[], None]) -> None:
        assert audio.rate == RATE
        self.fill, self.gone = fill, gone
        self.run()

    def run(self) -> None:
        """Takes what it may by now."""
        while (
            self.runs
            and hasattr(self, "fill")
            and self.heard_at(len(self.played) // 2) <= self.clock.now() + self.held_s
        ):
            at = self.heard_at(len(self.played) // 2)
            self.played += self.fill(BLOCK, at)

    def heard_at(self, sample: int) -> float:
        return self.began + sample / self.rate

    def stop(self) -> None:
        self.stopped = True

    def sound(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        return np.frombuffer(bytes(self.played), "<i2")


class Stage:
    """A player on a stream within the process, and time as the test turns it."""

    def __init__(self, player: Player, speaker: HandSpeaker, clock: ManualClock) -> None:
        self.player, self.speaker, self.clock = player, speaker, clock
        self.shown: list[tuple[float, Any]] = []

    async def watch(self) -> None:
        async for event in self.player.events():
            self.shown.append((self.clock.now(), event))

    async def turn(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.speaker.run()
            await self.clock.advance(0.005, 0.005)

    def frames(self) -> list[int]:
        return [e.n for _, e in self.shown if isinstance(e, Frame)]


@asynccontextmanager
async def stage(
    transport: MemoryTransport | None = None, options: Any = None, **more: Any
) -> AsyncGenerator[Stage, None]:
    clock = ManualClock()
    speaker = HandSpeaker(clock, **(options or {}))
    transport = transport or MemoryTransport(MemoryServer())
    async with connect("memory", transport=transport, rate=RATE, clock=clock) as face:
        player = Player(face, speaker, **more)
        on = Stage(player, speaker, clock)
        entering = asyncio.create_task(player.__aenter__())
        while not entering.done():
            await on.turn(0.005)
        await entering
        watching = asyncio.create_task(on.watch())
        try:
            yield on
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await player.__aexit__(None, None, None)
    assert speaker.stopped


@pytest.mark.asyncio
@pytest.mark.parametrize("held_s", [0.02, 0.25, 1.0])
async def test_what_is_sent_is_what_is_played_and_each_frame_comes_with_its_sound(
    held_s: float,
) -> None:
    sound = (voice(4.0, RATE) * 32767).astype(np.int16)
    sound[0] = 1
    transport = MemoryTransport(MemoryServer())
    async with stage(transport, {"held_s": held_s}) as on:
        said = on.clock.now()
        assert await on.player.say(sound)
        await on.player.end()
        assert on.clock.now() == said  # all of it was sent at once
        await on.turn(6.0)
        assert b"".join(m for m in transport.sent if isinstance(m, bytes)) == sound.tobytes()
        played = on.speaker.sound()
        first = int(np.flatnonzero(played)[0])
        np.testing.assert_array_equal(played[first : first + len(sound)], sound)
        # It began the stream's latency and 150 ms after it was sent, or as soon as it could.
        began = on.speaker.heard_at(first)
        assert began - said == pytest.approx(max(0.35, held_s + 0.04), abs=0.025)
        assert on.frames() == list(range(120))
        for at, event in on.shown[:-1]:
            heard = on.speaker.heard_at(first + event.n * RATE // 30)
            assert -0.001 < at - heard <= 0.008  # time passes in steps of 5 ms
        at, end = on.shown[-1]
        assert isinstance(end, wire.End)
        assert 0 <= at - on.speaker.heard_at(first + len(sound)) <= 0.008
        assert (on.player.schedule.late, on.player.schedule.skipped) == (0, 0)


@pytest.mark.asyncio
async def test_speech_after_a_pause_is_delayed_as_the_first_and_no_frame_is_late() -> None:
    async with stage() as on:
        for seed in range(3):
            said = on.clock.now()
            await on.player.say(np.full(RATE, 0.1 + seed / 10))
            assert on.player.ahead_s == pytest.approx(1.35, abs=0.03)
            await on.turn(4.0)
            first = int(np.flatnonzero(on.speaker.sound() == round(3276.8 * (1 + seed)))[0])
            assert on.speaker.heard_at(first) - said == pytest.approx(0.35, abs=0.03)
        await on.player.end()
        await on.turn(1.0)
        assert on.frames() == list(range(len(on.frames())))
        assert len(on.frames()) >= 90 + 2 * 18  # the silence of the pauses is shown too
        assert (on.player.schedule.late, on.player.timeline.gaps) == (0, 0)


@pytest.mark.asyncio
async def test_a_mark_is_told_when_its_sound_is_heard() -> None:
    async with stage() as on:
        await on.player.say(np.full(RATE, 0.1))
        await on.player.face.mark("half")
        await on.player.say(np.full(RATE, 0.2))
        await on.turn(4.0)
        (told,) = [at for at, e in on.shown if isinstance(e, wire.MarkReached)]
        played = on.speaker.sound()
        heard = on.speaker.heard_at(int(np.flatnonzero(played == round(0.2 * 32768))[0]))
        assert 0 <= told - heard <= 0.01


@pytest.mark.asyncio
async def test_who_is_interrupted_is_silent_at_once_and_speaks_again_in_time() -> None:
    async with stage() as on:
        on.player.max_ahead_s = 2.0
        speaking = asyncio.create_task(on.player.say(np.full(50 * RATE, 0.1)))
        await on.turn(2.0)
        assert not speaking.done()
        assert 2.0 <= on.player.ahead_s <= 2.5
        before = on.clock.now()
        await on.player.reset()
        assert await speaking is False
        await on.turn(1.5)
        loud = np.flatnonzero(on.speaker.sound())
        assert on.speaker.heard_at(int(loud[-1])) - before <= 0.25 + 0.03  # what it had taken
        said = on.clock.now()
        await on.player.say(np.full(RATE, 0.2))
        await on.player.end()
        await on.turn(3.0)
        again = np.flatnonzero(on.speaker.sound() == round(0.2 * 32768))
        assert on.speaker.heard_at(int(again[0])) - said == pytest.approx(0.35, abs=0.03)
        reset = next(e for _, e in on.shown if isinstance(e, wire.ResetDone))
        seen = [at for at, e in on.shown if isinstance(e, Frame) and e.n < reset.n]
        assert max(seen) - before <= 0.01  # no face of what was forgotten
        shown = [n for n in on.frames() if n >= reset.n]
        assert shown == list(range(reset.n, reset.n + len(shown)))
        assert isinstance(on.shown[-1][1], wire.End)


class Slow:
    """A server that answers ``late_s`` after what was asked, by the test's clock."""

    def __init__(self, late_s: float) -> None:
        self.server, self.late_s = MemoryServer(), late_s
        self.clock: ManualClock | None = None
        self.waiting: list[tuple[float, Answer]] = []

    def __call__(self, message: str | bytes) -> Iterator[Answer]:
        answers = list(self.server(message))
        if self.clock is None:
            yield from answers
        else:
            self.waiting += [(self.clock.now() + self.late_s, a) for a in answers]

    def arrived(self) -> list[Answer]:
        assert self.clock is not None
        now = self.clock.now()
        ready = [a for at, a in self.waiting if at <= now]
        self.waiting = [(at, a) for at, a in self.waiting if at > now]
        return ready


@pytest.mark.asyncio
@pytest.mark.parametrize("margin_s", [None, 0.05])
async def test_where_frames_come_late_the_last_is_shown_and_what_follows_waits_longer(
    margin_s: float | None,
) -> None:
    server = Slow(0.4)
    transport = MemoryTransport(server)
    async with stage(transport, margin_s=margin_s) as on:
        server.clock = on.clock
        late: list[int] = []
        for _ in range(3):
            before = on.player.schedule.late
            await on.player.say(np.full(RATE, 0.1))
            for _ in range(500):
                transport.feed(*server.arrived())
                await on.turn(0.005)
            late.append(on.player.schedule.late - before)
        assert late[0] > 0
        assert on.player.schedule.skipped > 0
        shown = on.frames()
        assert shown == sorted(set(shown))  # each once, in order
        if margin_s is None:
            assert max(late[1:]) < late[0] / 4
            assert 0.3 < on.player.margin_s <= 0.5
        else:
            assert late[2] >= late[0] and on.player.margin_s == 0.05


@pytest.mark.asyncio
async def test_frames_can_come_ahead_of_their_sound_for_those_who_draw_slowly() -> None:
    async with stage(lead_s=0.1) as on:
        await on.player.say(np.full(RATE, 0.1))
        await on.turn(3.0)
        first = on.speaker.heard_at(int(np.flatnonzero(on.speaker.sound())[0]))
        at = next(at for at, e in on.shown if isinstance(e, Frame))
        assert at - first == pytest.approx(-0.1, abs=0.01)
        assert on.player.schedule.late == 0


@pytest.mark.asyncio
async def test_what_ends_the_stream_is_raised_after_what_came_before_it() -> None:
    transport = MemoryTransport(MemoryServer())
    async with stage(transport) as on:
        await on.player.say(np.full(RATE, 0.1))
        await settle()
        transport.feed(Closed(1006, "cut"))
        shown = 0
        with pytest.raises(ConnectionLost):
            watching = asyncio.create_task(anext(on.player.frames(), None))
            await on.turn(2.0)
            shown = len(on.frames())
            await watching
            await on.player.next_event()
        assert shown > 15
        with pytest.raises(ConnectionLost):
            await on.player.say(np.full(RATE, 0.1))


@pytest.mark.asyncio
async def test_a_device_that_is_unplugged_ends_the_frames_and_the_speech() -> None:
    async with stage() as on:
        await on.player.say(np.full(RATE, 0.1))
        on.speaker.gone()
        with pytest.raises(SpeakerError, match="Test loudspeaker stopped playing"):
            await on.player.next_event()
        with pytest.raises(SpeakerError):
            await on.player.say(np.full(RATE, 0.1))


@pytest.mark.asyncio
async def test_a_device_that_plays_nothing_is_named() -> None:
    clock = ManualClock()
    speaker = HandSpeaker(clock, runs=False)
    transport = MemoryTransport(MemoryServer())
    async with connect("memory", transport=transport, rate=RATE, clock=clock) as face:
        entering = asyncio.create_task(Player(face, speaker).__aenter__())
        await clock.advance(6.0, 0.1)
        with pytest.raises(SpeakerError, match="Test loudspeaker plays nothing: within 5 s"):
            await entering
    assert speaker.stopped


# The device's shell


AUDIO = wire.AudioFormat(48_000)


def test_the_default_output_is_opened_and_asked_when_its_block_is_heard(
    sounddevice: FakeSounddevice,
) -> None:
    asked: list[tuple[int, float]] = []

    def fill(samples: int, heard_at: float) -> bytes:
        asked.append((samples, heard_at - time.monotonic()))
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
    assert [samples for samples, _ in asked] == [960, 960]
    assert [ahead for _, ahead in asked] == pytest.approx([0.03, 0.07], abs=0.01)
    assert speaker.underruns == 1
    assert not stream.running


def test_a_device_that_stops_by_itself_is_told(sounddevice: FakeSounddevice) -> None:
    gone: list[str] = []
    Speaker("head").start(AUDIO, lambda n, at: bytes(2 * n), lambda: gone.append("gone"))
    sounddevice.streams[0].options["finished_callback"]()
    assert gone == ["gone"]


def test_a_rate_that_the_device_does_not_take_is_told_with_its_own(
    sounddevice: FakeSounddevice,
) -> None:
    speaker = Speaker("Headphones")
    slow = wire.AudioFormat(16_000)
    assert (speaker.takes(AUDIO), speaker.takes(slow)) == (True, False)
    with pytest.raises(SpeakerError, match=r"Headphones: .* 16000 Hz.* its own rate is 44100 Hz"):
        speaker.start(slow, lambda n, at: bytes(2 * n), lambda: None)
    speaker.stop()


@pytest.mark.parametrize("wanted", ["USB Microphone", "1", "tape"])
def test_what_is_no_output_is_refused_with_those_there_are(
    sounddevice: FakeSounddevice, wanted: str
) -> None:
    with pytest.raises(SpeakerError, match=r"no output device.*0 Headphones; 2 Built-in Audio"):
        Speaker(wanted)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kfusion\[client\]'"):
        Speaker()


# The command


def test_sound_is_said_at_its_own_rate_or_else_at_the_devices(sounddevice: FakeSounddevice) -> None:
    speaker = Speaker("Headphones")
    sound = voice(1.0, 16_000)
    assert playable(voice(1.0, 48_000), 48_000, speaker)[1] == 48_000
    other, rate = playable(sound, 16_000, speaker)
    assert (rate, len(other), other.dtype) == (44_100, 44_100, np.float32)


def test_the_command_says_which_outputs_there_are(
    sounddevice: FakeSounddevice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "speech.wav", voice(0.2), 16_000)
    assert main(["say", str(tmp_path / "speech.wav"), "--device", "tape"]) == 2
    assert capsys.readouterr().err == (
        "kfusion-client: 'tape' is no output device; wanted one of: "
        "0 Headphones; 2 Built-in Audio\n"
    )

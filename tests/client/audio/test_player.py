"""The player with a device and a clock that the test moves."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from client import Frame, connect
from client.audio.player import Player
from client.audio.speaker import Fill
from client.stream.memory import Answer, MemoryTransport
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import ConnectionLost, SpeakerError
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import MemoryServer, memory_transport
from tests.conftest import voice

pytestmark = pytest.mark.asyncio

RATE = 24_000
BLOCK = 480


class ManualSpeaker:
    """A device that runs by the test's clock, 300 ppm fast.

    ``held_s``: how long before a block is heard the device takes it. ``played``: all it took.
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
        """Takes the blocks that are due."""
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


class Playback:
    """A player on a stream within the process, and time which the test moves."""

    def __init__(self, player: Player, speaker: ManualSpeaker, clock: ManualClock) -> None:
        self.player, self.speaker, self.clock = player, speaker, clock
        self.shown: list[tuple[float, Any]] = []

    async def watch(self) -> None:
        async for event in self.player.events():
            self.shown.append((self.clock.now(), event))

    async def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.speaker.run()
            await self.clock.advance(0.005, 0.005)

    def frames(self) -> list[int]:
        return [e.n for _, e in self.shown if isinstance(e, Frame)]


@asynccontextmanager
async def playback(
    transport: MemoryTransport | None = None, options: Any = None, **more: Any
) -> AsyncGenerator[Playback, None]:
    clock = ManualClock()
    speaker = ManualSpeaker(clock, **(options or {}))
    transport = transport or memory_transport()
    async with connect("memory", transport=transport, rate=RATE, clock=clock) as face:
        player = Player(face, speaker, **more)
        run = Playback(player, speaker, clock)
        entering = asyncio.create_task(player.__aenter__())
        while not entering.done():
            await run.advance(0.005)
        await entering
        watching = asyncio.create_task(run.watch())
        try:
            yield run
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await player.__aexit__(None, None, None)
    assert speaker.stopped


@pytest.mark.parametrize("held_s", [0.02, 0.25, 1.0])
async def test_the_audio_that_is_sent_is_played_and_each_frame_comes_with_it(
    held_s: float,
) -> None:
    sound = (voice(4.0, RATE) * 32767).astype(np.int16)
    sound[0] = 1
    transport = memory_transport()
    async with playback(transport, {"held_s": held_s}) as run:
        sent_at = run.clock.now()
        assert await run.player.say(sound)
        await run.player.end()
        assert run.clock.now() == sent_at  # all of it was sent at once
        await run.advance(6.0)
        assert b"".join(m for m in transport.sent if isinstance(m, bytes)) == sound.tobytes()
        played = run.speaker.sound()
        first = int(np.flatnonzero(played)[0])
        np.testing.assert_array_equal(played[first : first + len(sound)], sound)
        # It began the stream's latency and 150 ms after it was sent, or as soon as it could.
        began = run.speaker.heard_at(first)
        assert began - sent_at == pytest.approx(max(0.35, held_s + 0.04), abs=0.025)
        assert run.frames() == list(range(120))
        for at, event in run.shown[:-1]:
            heard = run.speaker.heard_at(first + event.n * RATE // 30)
            assert -0.001 < at - heard <= 0.008  # time passes in steps of 5 ms
        at, end = run.shown[-1]
        assert isinstance(end, wire.End)
        assert 0 <= at - run.speaker.heard_at(first + len(sound)) <= 0.008
        assert (run.player.schedule.late, run.player.schedule.skipped) == (0, 0)


async def test_speech_after_a_pause_is_delayed_as_the_first() -> None:
    async with playback() as run:
        for seed in range(3):
            sent_at = run.clock.now()
            await run.player.say(np.full(RATE, 0.1 + seed / 10))
            assert run.player.ahead_s == pytest.approx(1.35, abs=0.03)
            await run.advance(4.0)
            first = int(np.flatnonzero(run.speaker.sound() == round(3276.8 * (1 + seed)))[0])
            assert run.speaker.heard_at(first) - sent_at == pytest.approx(0.35, abs=0.03)
        await run.player.end()
        await run.advance(1.0)
        assert run.frames() == list(range(len(run.frames())))
        assert len(run.frames()) >= 90 + 2 * 18  # the silence of the pauses is shown too
        assert (run.player.schedule.late, run.player.timeline.gaps) == (0, 0)


async def test_a_reset_silences_at_once_and_later_speech_is_in_time() -> None:
    async with playback() as run:
        run.player.max_ahead_s = 2.0
        speaking = asyncio.create_task(run.player.say(np.full(50 * RATE, 0.1)))
        await run.advance(2.0)
        assert not speaking.done()
        assert 2.0 <= run.player.ahead_s <= 2.5
        before = run.clock.now()
        await run.player.reset()
        assert await speaking is False
        await run.advance(1.5)
        loud = np.flatnonzero(run.speaker.sound())
        assert run.speaker.heard_at(int(loud[-1])) - before <= 0.25 + 0.03  # what it had taken
        sent_at = run.clock.now()
        await run.player.say(np.full(RATE, 0.2))
        await run.player.end()
        await run.advance(3.0)
        again = np.flatnonzero(run.speaker.sound() == round(0.2 * 32768))
        assert run.speaker.heard_at(int(again[0])) - sent_at == pytest.approx(0.35, abs=0.03)
        reset = next(e for _, e in run.shown if isinstance(e, wire.ResetDone))
        shown_at = [at for at, e in run.shown if isinstance(e, Frame) and e.n < reset.n]
        assert max(shown_at) - before <= 0.01  # no face of what was forgotten
        shown = [n for n in run.frames() if n >= reset.n]
        assert shown == list(range(reset.n, reset.n + len(shown)))
        assert isinstance(run.shown[-1][1], wire.End)


@pytest.mark.parametrize("margin_s", [None, 0.05])
async def test_late_frames_are_skipped_and_raise_the_margin(
    margin_s: float | None,
) -> None:
    server = MemoryServer()
    transport = MemoryTransport(server)
    async with playback(transport, margin_s=margin_s) as run:
        delayed: deque[tuple[float, Answer]] = deque()

        def answer_late(message: str | bytes) -> list[Answer]:
            delayed.extend((run.clock.now() + 0.4, answer) for answer in server(message))
            return []

        transport.server = answer_late
        late: list[int] = []
        for _ in range(3):
            before = run.player.schedule.late
            await run.player.say(np.full(RATE, 0.1))
            for _ in range(500):
                while delayed and delayed[0][0] <= run.clock.now():
                    transport.feed(delayed.popleft()[1])
                await run.advance(0.005)
            late.append(run.player.schedule.late - before)
        assert late[0] > 0
        assert run.player.schedule.skipped > 0
        shown = run.frames()
        assert shown == sorted(set(shown))  # each once, in order
        if margin_s is None:
            assert max(late[1:]) < late[0] / 4
            assert 0.3 < run.player.margin_s <= 0.5
        else:
            assert late[2] >= late[0] and run.player.margin_s == 0.05


async def test_frames_come_lead_s_before_their_audio() -> None:
    async with playback(lead_s=0.1) as run:
        await run.player.say(np.full(RATE, 0.1))
        await run.advance(3.0)
        first = run.speaker.heard_at(int(np.flatnonzero(run.speaker.sound())[0]))
        at = next(at for at, e in run.shown if isinstance(e, Frame))
        assert at - first == pytest.approx(-0.1, abs=0.01)
        assert run.player.schedule.late == 0


async def test_a_lost_stream_is_raised_after_its_frames() -> None:
    transport = memory_transport()
    async with playback(transport) as run:
        await run.player.say(np.full(RATE, 0.1))
        await settle()
        transport.feed(Closed(1006, "cut"))
        shown = 0
        with pytest.raises(ConnectionLost):
            watching = asyncio.create_task(anext(run.player.frames(), None))
            await run.advance(2.0)
            shown = len(run.frames())
            await watching
            await run.player.next_event()
        assert shown > 15
        with pytest.raises(ConnectionLost):
            await run.player.say(np.full(RATE, 0.1))


async def test_an_unplugged_device_ends_frames_and_speech() -> None:
    async with playback() as run:
        await run.player.say(np.full(RATE, 0.1))
        run.speaker.gone()
        with pytest.raises(SpeakerError, match="Test loudspeaker stopped playing"):
            await run.player.next_event()
        with pytest.raises(SpeakerError):
            await run.player.say(np.full(RATE, 0.1))


async def test_a_device_that_plays_nothing_is_an_error() -> None:
    clock = ManualClock()
    speaker = ManualSpeaker(clock, runs=False)
    transport = memory_transport()
    async with connect("memory", transport=transport, rate=RATE, clock=clock) as face:
        entering = asyncio.create_task(Player(face, speaker).__aenter__())
        await clock.advance(6.0, 0.1)
        with pytest.raises(SpeakerError, match="Test loudspeaker plays nothing: within 5 s"):
            await entering
    assert speaker.stopped

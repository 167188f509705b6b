"""Frames to several sinks: each in its time, none waits for another, no mouth freezes open."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from client import Backoff, Frame, connect
from client.sinks.bridge import MAX_QUEUED, Bridge
from client.sinks.schedule import EASE_FRAMES
from kfusion import wire
from kfusion.coefficients.vrm import VRM
from kfusion.errors import ConnectionLost
from kfusion.landmarks import INNER_LOWER, NEUTRAL, lip_gap
from tests.client.cut_connections import CutConnections
from tests.client.manual_clock import ManualClock, settle

pytestmark = pytest.mark.asyncio


class RecordingSink:
    """A sink that keeps its frames and their times."""

    needs: tuple[wire.Output, ...] = ("vrm",)
    trouble = ""

    def __init__(self, now: Callable[[], float], *, live: bool = True) -> None:
        self.now, self.live = now, live
        self.received: list[tuple[float, Frame]] = []
        self.open = True

    def send(self, frame: Frame) -> None:
        self.received.append((self.now(), frame))

    def close(self) -> None:
        self.open = False

    def discard(self) -> None:
        self.open = False

    @property
    def numbers(self) -> list[int]:
        return [frame.n for _, frame in self.received]

    @property
    def gaps(self) -> NDArray[np.float64]:
        return np.array([lip_gap(frame.points.astype(np.float64)) for _, frame in self.received])


def talking(n: int) -> Frame:
    face = NEUTRAL.copy()
    face[list(INNER_LOWER), 1] += 10
    return Frame(n, n / 30, face.astype(np.float32))


async def test_files_have_a_frame_as_it_comes_and_live_sinks_in_its_time() -> None:
    clock = ManualClock()
    file, live = RecordingSink(clock.now, live=False), RecordingSink(clock.now)
    async with Bridge([live, file], clock=clock) as bridge:
        for n in range(9):
            await bridge.put(talking(n))
        await settle()
        assert (len(file.received), len(live.received)) == (9, 1)
        await clock.advance(0.25)
        assert live.numbers == list(range(8))
        finishing = asyncio.create_task(clock.advance(1.0))
    await finishing
    assert live.numbers == list(range(9 + EASE_FRAMES)) and live.gaps[-1] < 1e-3
    assert file.numbers == list(range(9))
    bridge.close()
    assert not (live.open or file.open)


async def test_whoever_puts_a_file_waits_and_a_microphone_never_does() -> None:
    clock = ManualClock()
    for skips, waits in ((False, True), (True, False)):
        live = RecordingSink(clock.now)
        async with Bridge([live], skips=skips, clock=clock) as bridge:

            async def put(bridge: Bridge) -> None:
                for n in range(2 * MAX_QUEUED):
                    await bridge.put(talking(n))

            putting = asyncio.create_task(put(bridge))
            await settle()
            assert putting.done() != waits
            finishing = asyncio.create_task(clock.advance(4.0))
            await putting
        await finishing
        assert bool(bridge.schedule.skipped) == skips
        assert len(bridge.troubles) == skips


async def test_what_a_bridge_asks_for_is_what_its_sinks_need() -> None:
    bridge = Bridge.open(
        None,
        ["vmc://127.0.0.1:9", "osf://127.0.0.1:9", "livelink://127.0.0.1:9", "vmc://127.0.0.1:9"],
        None, hop=3, skips=True,
    )  # fmt: skip
    assert bridge.outputs == ("points", "vrm", "arkit52")
    assert (bridge.life(None), bridge.life(0.0), bridge.life(0.3)) == (1.0, 0.0, 0.3)
    bridge.close()
    plain = Bridge.open("-", [], None, hop=3, skips=False)
    assert (plain.outputs, plain.life(None), plain.life(0.5)) == (("points",), 0.0, 0.5)


async def test_a_stream_that_fails_leaves_a_closed_mouth() -> None:
    clock = ManualClock()
    live = RecordingSink(clock.now)
    turning = None
    with pytest.raises(ConnectionLost):
        async with Bridge([live], clock=clock) as bridge:
            await bridge.put(talking(0))
            await settle()
            turning = asyncio.create_task(clock.advance(1.0))
            raise ConnectionLost("the cable")
    assert turning is not None
    await turning
    assert live.gaps[0] > 9 and live.gaps[-1] < 1e-3 and len(live.received) == 1 + EASE_FRAMES


@pytest.mark.parametrize("ended_by", [asyncio.CancelledError, KeyboardInterrupt, OSError])
async def test_whatever_ends_it_leaves_a_closed_mouth(ended_by: type[BaseException]) -> None:
    clock = ManualClock()
    live, file = RecordingSink(clock.now), RecordingSink(clock.now, live=False)
    with pytest.raises(ended_by):
        async with Bridge([live, file], clock=clock) as bridge:
            await bridge.put(replace(talking(0), vrm=np.full(len(VRM), 0.5, np.float32)))
            await settle()
            assert live.gaps[-1] > 9
            for n in range(1, 9):  # these are not waited for
                await bridge.put(talking(n))
            raise ended_by
    assert live.gaps[-1] < 1e-3 and live.numbers == [0, 1] and clock.now() == 100.0
    assert len(asyncio.all_tasks()) == 1
    rest = live.received[-1][1]
    assert rest.vrm is not None and rest.vrm[-1] == 1 and rest.vrm[:-1].max() == 0
    assert rest.arkit52 is None and file.numbers == list(range(9))


async def test_being_cancelled_on_the_way_to_rest_is_at_rest_at_once() -> None:
    clock = ManualClock()
    live = RecordingSink(clock.now)

    async def stream() -> None:
        async with Bridge([live], clock=clock) as bridge:
            await bridge.put(talking(0))
            await settle()

    streaming = asyncio.create_task(stream())
    await clock.advance(0.08)
    assert not streaming.done() and live.gaps[-1] > 1
    streaming.cancel()
    await asyncio.gather(streaming, return_exceptions=True)
    assert streaming.cancelled() and live.gaps[-1] < 1e-3


async def test_a_sink_that_breaks_is_told_of_and_hangs_nobody() -> None:
    class Broken(RecordingSink):
        def send(self, frame: Frame) -> None:
            raise RuntimeError("a sink's own mistake")

    with pytest.raises(RuntimeError, match="own mistake"):
        async with asyncio.timeout(5), Bridge([Broken(time.monotonic)]) as bridge:
            for n in range(5 * MAX_QUEUED):
                await bridge.put(talking(n))


async def test_while_a_lost_connection_is_replaced_the_mouth_is_closed() -> None:
    clock = ManualClock()
    live = RecordingSink(clock.now)
    connections = CutConnections()
    loud = np.full(1600, 0.3, np.float32) * np.resize([1, -1], 1600)
    async with (
        Bridge([live], skips=True, clock=clock) as bridge,
        connect(
            "memory", transport=connections, clock=clock, outputs=live.needs,
            reconnect=Backoff(0.5, 0.5, 0.0),
        ) as face,
    ):  # fmt: skip

        async def listen() -> None:
            async for frame in face.frames():
                await bridge.put(frame)

        async def speak(seconds: float) -> tuple[int, int]:
            """The indices of the frames received meanwhile."""
            before = len(live.received)
            for _ in range(round(10 * seconds)):
                await face.send(loud)
                await clock.advance(0.1)
            return before, len(live.received)

        listening = asyncio.create_task(listen())
        await speak(2.0)
        assert live.gaps[-1] > 2
        connections.cuts = [(0, 0)] * 99
        connections.cut()
        start, end = await speak(2.0)
        assert abs(live.gaps[end - 1]) < 1e-3
        # Some frames were on their way; then 0.3 s of nothing, and 30 a second again.
        assert 40 <= end - start <= 54
        assert np.abs(np.diff(live.gaps[start:end])).max() < 0.4 * live.gaps[start]
        rest = live.received[end - 1][1]
        assert rest.vrm is not None and rest.vrm[-1] == 1 and rest.vrm[:-1].max() == 0
        connections.cuts = []
        start, end = await speak(2.0)
        assert live.gaps[end - 1] > 2
        await face.end()
        await listening
        finishing = asyncio.create_task(clock.advance(1.0))
    await finishing
    assert abs(live.gaps[-1]) < 1e-3
    assert (np.diff(live.numbers) > 0).all()
    times = [at for at, _ in live.received]
    assert np.diff(times).max() < 0.3 + 0.05

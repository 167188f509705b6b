"""Recordings played again: the same events to the bit, also through lost connections."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from client import Frame, Reconnecting, Resumed, connect
from client.__main__ import main
from client.errors import RecordingError
from client.recording.format import MAGIC, Opened, Recording, RecordingHeader, encode
from client.recording.replay import AT_ONCE, events, play
from client.stream.memory import MemoryTransport
from client.stream.transport import Closed
from kfusion.errors import ConnectionLost, UnknownSession
from tests.client.cut_connections import NO_WAIT, CutConnections, RefusingServer
from tests.client.events import all_events
from tests.client.manual_clock import ManualClock
from tests.client.memory_server import MemoryServer
from tests.client.scripts import ACTIONS, CUTS, Script, run_script
from tests.conftest import RunningServer, voice


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "one.kfr"


def comparable(recorded: list[Any]) -> list[Any]:
    """The events of the server, frames as bytes."""
    return [
        (e.n, e.t, e.points.tobytes()) if isinstance(e, Frame) else e
        for e in recorded
        if not isinstance(e, (Reconnecting, Resumed))
    ]


# Events


@given(
    st.lists(ACTIONS, max_size=14), st.integers(2, 12), CUTS, st.integers(1, 6),
    st.sampled_from(["json", "binary"]), st.sampled_from(["file", "live"]),
)  # fmt: skip
def test_replay_gives_the_recorded_events_whatever_was_cut(
    path: Path, script: Script, first: int, cuts: list[tuple[int, int]], capacity: int,
    encoding: str, mode: str,
) -> None:  # fmt: skip
    connections = CutConnections(cuts=[(first, first), *cuts], capacity=capacity)
    options: dict[str, Any] = {"mode": mode, "encoding": encoding, "fill_silence": False}
    recorded = asyncio.run(run_script(script, connections, record=path, **options))
    replayed = [event for _, event in events(Recording(path))]
    assert comparable(replayed) == comparable(recorded)


# Times


@pytest.mark.asyncio
@pytest.mark.parametrize(("speed", "takes"), [(1.0, 3.0), (2.0, 1.5), (0.0, 0.0), (AT_ONCE, 0.0)])
async def test_play_keeps_the_times_or_is_as_much_faster(
    tmp_path: Path, speed: float, takes: float
) -> None:
    clock, transport = ManualClock(), MemoryTransport(MemoryServer())
    path = tmp_path / "a.kfr"
    async with connect(
        "memory", transport=transport, clock=clock, record=path, fill_silence=False
    ) as face:
        for _ in range(30):
            await clock.advance(0.1)
            await face.send(np.full(1600, 0.5))
        await face.end()
        await all_events(face)
    clock = ManualClock()
    again: list[tuple[float, int]] = []

    async def watch() -> None:
        async for event in play(Recording(path), speed, clock):
            if isinstance(event, Frame):
                again.append((clock.now() - 100.0, event.n))  # noqa: PERF401 - when, too

    watching = asyncio.create_task(watch())
    await clock.advance(takes + 0.1)
    await watching
    assert [n for _, n in again] == list(range(90))
    recorded = [at for at, e in events(Recording(path)) if isinstance(e, Frame)]
    for (at, _), was in zip(again, recorded, strict=True):
        assert at == pytest.approx(was * takes / 3.0, abs=0.021)


# Ends


@pytest.mark.parametrize("torn", [False, True])
def test_a_stream_that_was_lost_for_good_ends_with_its_error(tmp_path: Path, torn: bool) -> None:
    path = tmp_path / "a.kfr"
    transport = MemoryTransport(MemoryServer())
    recorded: list[Any] = []

    async def lose() -> None:
        async with connect("memory", transport=transport, mode="file", record=path) as face:
            await face.send(voice(1.0))
            transport.feed(Closed(1006, "pulled"))
            async for event in face.events():
                recorded.append(event)  # noqa: PERF401 - it ends with an error

    with pytest.raises(ConnectionLost) as lost:
        asyncio.run(lose())
    recording = Recording(path)
    if torn:  # within what came last: the loss
        path.write_bytes(path.read_bytes()[:-1])
    again = events(recording)
    assert comparable([next(again)[1] for _ in recorded]) == comparable(recorded)
    if torn:
        assert list(again) == [] and "cut off" in recording.torn
    else:
        with pytest.raises(ConnectionLost) as second:
            next(again)
        assert str(second.value) == str(lost.value)


@pytest.mark.asyncio
async def test_a_refusal_of_the_server_is_raised_again(tmp_path: Path) -> None:
    path = tmp_path / "a.kfr"
    connections = CutConnections(RefusingServer(UnknownSession("forgotten"), 4400))
    with pytest.raises(UnknownSession):
        async with connect("memory", transport=connections, reconnect=NO_WAIT, record=path) as face:
            await face.send(voice(0.5))
            connections.cut()
            await all_events(face)
    with pytest.raises(UnknownSession, match="forgotten"):
        list(events(Recording(path)))


def test_a_recording_without_a_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.kfr").write_bytes(MAGIC + encode(RecordingHeader("")) + encode(Opened(0, 0)))
    with pytest.raises(RecordingError, match=r"a\.kfr: no stream was started in it"):
        list(events(Recording(tmp_path / "a.kfr")))


# The command


def test_the_command_records_and_replays_with_the_same_lines(
    synthetic_server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "speech.wav", voice(1.5), 16_000)
    live, again = (str(tmp_path / f"{k}.jsonl") for k in range(2))
    record, url = str(tmp_path / "a.kfr"), synthetic_server.url
    file = ["file", str(tmp_path / "speech.wav"), "--url", url, "--out", live]
    assert main([*file, "--record", record]) == 0
    assert main(["replay", record, "--speed", "0", "--out", again]) == 0
    assert Path(again).read_bytes() == Path(live).read_bytes()
    assert capsys.readouterr().err.count("kfusion-client: 45 frames of ") == 1

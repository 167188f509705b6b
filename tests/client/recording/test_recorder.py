"""Recording a stream: all of it, in order, and no token."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from client import Backoff, connect
from client.errors import OutputError
from client.recording.format import Failed, Left, Lost, Opened, Received, Recording, Sent
from client.recording.recorder import REDACTED, Recorder
from client.stream.memory import MemoryTransport
from client.stream.transport import Closed, Transport
from kfusion import wire
from kfusion.errors import BadMessage, ConnectionFailed
from tests.client.cut_connections import NO_WAIT, CutConnections
from tests.client.events import all_events
from tests.client.manual_clock import ManualClock
from tests.client.memory_server import MemoryServer
from tests.conftest import voice

FULL = Path("/dev/full")
SECRET = "wq8Zr-very-secret"


@pytest.mark.asyncio
async def test_every_message_is_recorded_with_its_time(tmp_path: Path) -> None:
    clock, transport = ManualClock(), MemoryTransport(MemoryServer())
    path = tmp_path / "a.kfr"
    async with connect(
        "memory", transport=transport, mode="file", clock=clock, record=path
    ) as face:
        await clock.advance(1.5)
        await face.send(voice(0.5))
        await clock.advance(0.25)
        await face.end()
        frames = [frame async for frame in face.frames()]
    recording = Recording(path)
    entries = list(recording.entries())
    assert [e.message for e in entries if isinstance(e, Sent)] == list(transport.sent)
    blocks = [
        e.message for e in entries if isinstance(e, Received) and isinstance(e.message, bytes)
    ]
    points = np.concatenate([wire.decode_frames(m).values for m in blocks]).reshape(-1, 68, 2)
    np.testing.assert_array_equal(points, np.stack([f.points for f in frames]))
    assert isinstance(entries[0], Opened) and isinstance(entries[-1], Left)
    sent = [round(e.us / 1e4) for e in entries if isinstance(e, Sent)]
    assert sent == [0, 150, 175]  # the start, the sound, the end
    assert recording.torn == ""


@pytest.mark.asyncio
async def test_all_connections_are_recorded_without_tokens(tmp_path: Path) -> None:
    server = MemoryServer(resume_s=30)
    connections = CutConnections(server, [(3, 9), (4, 3)])
    path = tmp_path / "a.kfr"
    url = f"ws://me:{SECRET}-pass@host:1/v1/stream?token={SECRET}-query"
    async with connect(
        url,
        transport=connections,
        mode="file",
        reconnect=NO_WAIT,
        record=path,
        token=f"{SECRET}-own",
    ) as face:
        reading = asyncio.create_task(all_events(face))
        await face.mark(f"a mark with {SECRET}-own")
        await face.send(voice(3.0))
        await face.end()
        await reading
    recording = Recording(path)
    entries = list(recording.entries())
    assert [e.link for e in entries if isinstance(e, Opened)] == [0, 1, 2]
    assert [(e.link, e.code) for e in entries if isinstance(e, Lost)] == [(0, 1006), (1, 1006)]
    assert SECRET.encode() not in path.read_bytes()
    assert recording.header.url == "ws://host:1/v1/stream"
    messages = [e.message for e in entries if isinstance(e, Sent)]
    resumes = [json.loads(m)["resume"] for m in messages if isinstance(m, str) and '"resume"' in m]
    assert [r["token"] for r in resumes] == [REDACTED, REDACTED]
    sent = [m for connection in connections.opened for m in connection.sent]
    assert sum(SECRET in m for m in sent if isinstance(m, str)) == 1  # the server had it
    starts = [json.loads(connection.sent[0]) for connection in connections.opened]
    tokens = [start["resume"]["token"] for start in starts[1:]] + [server.session.token]
    assert len(set(tokens)) == 3
    assert not any(token.encode() in path.read_bytes() for token in tokens)


@pytest.mark.asyncio
async def test_why_no_connection_was_opened_is_recorded_without_the_token(tmp_path: Path) -> None:
    url = f"ws://host:1?token={SECRET}"

    async def opener() -> Transport:
        raise ConnectionFailed(f"cannot connect to {url}")

    with pytest.raises(ConnectionFailed, match=SECRET):
        async with connect(url, transport=opener, record=tmp_path / "a.kfr"):
            pass
    (failed,) = Recording(tmp_path / "a.kfr").entries()
    assert isinstance(failed, Failed)
    assert failed.why == f"cannot connect to ws://host:1?{REDACTED}"


def test_messages_that_are_no_json_or_hold_no_token_are_kept_as_they_are(tmp_path: Path) -> None:
    with Recorder(tmp_path / "a.kfr") as recorder:
        for message in ("{", "[1]", '{"resume": 5}', '{"a" :1.50}', '{"resume": ""}', b"\x00\xff"):
            assert recorder.redacted(message) == message


@pytest.mark.asyncio
async def test_a_bad_option_writes_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadMessage):
        async with connect("memory", hop=4, record=tmp_path / "a.kfr"):
            pass
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_written_is_named_before_a_connection_is_opened(
    tmp_path: Path,
) -> None:
    connections = CutConnections()
    with pytest.raises(OutputError, match=r"a\.kfr: cannot be written \(No such file"):
        async with connect("memory", transport=connections, record=tmp_path / "no" / "a.kfr"):
            pass
    assert connections.opened == []


@pytest.mark.asyncio
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
async def test_a_full_disk_ends_the_recording_and_not_the_stream() -> None:
    transport = MemoryTransport(MemoryServer())
    with pytest.raises(OutputError, match=r"/dev/full: .* after 0 bytes \(No space"):
        async with connect("memory", transport=transport, mode="file", record=FULL) as face:
            await face.send(voice(0.5))
            await face.end()
            assert len([frame async for frame in face.frames()]) == 15


@pytest.mark.asyncio
async def test_an_error_of_the_caller_is_raised_and_the_recording_is_whole(tmp_path: Path) -> None:
    transport = MemoryTransport(MemoryServer())
    with pytest.raises(KeyError, match="mine"):
        async with connect("memory", transport=transport, record=tmp_path / "a.kfr"):
            raise KeyError("mine")
    entries = list(Recording(tmp_path / "a.kfr").entries())
    assert isinstance(entries[-1], Left)


@pytest.mark.asyncio
async def test_every_entry_is_in_the_file_at_once(tmp_path: Path) -> None:
    connections = CutConnections()
    path = tmp_path / "a.kfr"
    async with connect(
        "memory", transport=connections, mode="file", reconnect=Backoff(), record=path
    ) as face:
        await face.send(voice(0.5))
        await face.mark("here")
        sent = [e.message for e in Recording(path).entries() if isinstance(e, Sent)]
        assert sent == list(connections.opened[0].sent)  # without a close or a flush
        connections.opened[0].feed(Closed(1000, "over"))

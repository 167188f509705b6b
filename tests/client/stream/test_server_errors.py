"""The errors of a server, and messages that break the protocol."""

from typing import Any

import numpy as np
import pytest

from client import Frame, connect
from client.stream.memory import Answer, MemoryTransport
from client.stream.state import ClientStream
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import (
    BadMessage,
    Busy,
    ConnectionFailed,
    ConnectionLost,
    Unauthorized,
    WireError,
)
from tests.client.events import of_type
from tests.client.memory_server import MemoryServer, memory_transport
from tests.conftest import voice


def error(code: str, *, fatal: bool = True, retry_after_s: int | None = None) -> str:
    retry = wire.UNSET if retry_after_s is None else retry_after_s
    return wire.encode(wire.Error(code, "message of the server", fatal, retry))


@pytest.mark.asyncio
@pytest.mark.parametrize("before_start", [True, False])
@pytest.mark.parametrize(
    ("answer", "code", "kind", "message"),
    [
        (error("busy", retry_after_s=7), 1013, Busy, "message of the server"),
        (error("unauthorized"), 1008, Unauthorized, "message of the server"),
        (error("of_later_version"), 4400, WireError, "of_later_version: message of the server"),
    ],
)
async def test_a_refusal_is_raised_by_its_code(
    answer: str, code: int, kind: type[WireError], message: str, before_start: bool
) -> None:
    transport = MemoryTransport(lambda message: [answer, Closed(code, "why")])
    if before_start:  # the connection is closed before the start is sent
        transport.feed(answer)
        transport.closed = Closed(code, "why")
    with pytest.raises(kind, match=message) as caught:
        async with connect("memory", transport=transport):
            pass
    assert not isinstance(caught.value, Busy) or caught.value.retry_after_s == 7


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("messages", "kind", "message"),
    [
        ([error("idle"), Closed(4400)], WireError, "message of the server"),
        ([Closed(1006, "gone")], ConnectionLost, r"after 12 frames, before the end.*1006, gone"),
    ],
)
async def test_what_ends_a_stream_is_raised_after_its_frames_and_by_every_method(
    messages: list[Answer], kind: type[Exception], message: str
) -> None:
    transport = memory_transport()
    async with connect("memory", transport=transport, fill_silence=False) as face:
        await face.send(voice(0.5))
        transport.feed(*messages)
        numbers: list[int] = []
        with pytest.raises(kind, match=message) as caught:
            async for frame in face.frames():
                numbers.append(frame.n)  # noqa: PERF401 - the iteration ends with an error
        assert numbers == list(range(12))
        for again in (face.send(voice(0.1)), face.mark("m")):
            with pytest.raises(kind) as raised:
                await again
            assert raised.value is caught.value


@pytest.mark.asyncio
async def test_a_server_that_never_answers_is_given_up() -> None:
    with pytest.raises(ConnectionFailed, match="no answer to start within"):
        async with connect("memory", transport=MemoryTransport(lambda _: []), open_timeout=0.01):
            pass


# Messages that break the protocol


def ready() -> str:
    return next(iter(MemoryServer()(wire.encode(wire.Start()))))  # type: ignore[return-value]


def block(output: wire.Output, first: int, count: int, width: int) -> bytes:
    values = np.zeros((count, width), np.float32)
    return wire.encode_frames(wire.FrameBlock(output, first, 0, values))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (block("points", 1, 3, 136), "frame 1 where 0 was due"),
        (wire.encode(wire.Dropped(5, 1, "overload")), "dropped 5 where 0 was due"),
        (ready(), "a second ready"),
        ("{", "from the server"),
        (b"KFL2" + bytes(24), "binary frames"),
    ],
)
def test_a_message_that_breaks_the_protocol_is_an_error(message: Any, says: str) -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    stream.receive(ready())
    with pytest.raises(BadMessage, match=says):
        stream.receive(message)


def test_messages_of_a_later_version_are_ignored() -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    assert stream.receive(ready()) == []
    assert stream.receive('{"type":"weather","sun":true}') == []
    assert stream.receive(block("arkit52", 0, 3, 52)) == []
    frames = of_type(Frame, stream.receive(block("points", 0, 2, 136)))
    assert [frame.n for frame in frames] == [0, 1]


def test_a_server_of_another_protocol_version_is_refused() -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    with pytest.raises(BadMessage, match="different versions"):
        stream.receive(ready().replace('"protocol":1', '"protocol":2'))

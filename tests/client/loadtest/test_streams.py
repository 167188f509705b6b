"""One stream of a load test: what it makes of the server's bytes, and what it sends when."""

import asyncio
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from client.loadtest.load import chunked, plan_streams, speech_like
from client.loadtest.sender import ChunkSender, websocket_messages
from client.loadtest.streams import Endpoint, LoadState, LoadStream
from client.loadtest.trace import StreamTrace
from kfusion import wire
from tests.client.loadtest.traces import LOAD

CLIP = chunked("a second", speech_like(1.0, 16_000), 16_000, 20)


class Recorder(asyncio.Transport):
    """A transport that keeps what is written; what is read is fed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def ready_text() -> str:
    return wire.encode(
        wire.ready(
            wire.Start(), session="s", resume="t", model=wire.Model("m", "0"), emotion={},
            identity=None, limits=wire.Limits(),
        )
    )  # fmt: skip


def block(first: int, count: int) -> bytes:
    values = np.zeros((count, 136), np.float32)
    return wire.encode_frames(wire.FrameBlock("points", first, 0, values))


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


RECEIVED = [
    frame(Opcode.PING, b"are you there"),
    frame(Opcode.BINARY, block(0, 3)),
    frame(Opcode.BINARY, block(3, 3)[:700], fin=False),
    frame(Opcode.PING, b""),
    frame(Opcode.CONT, block(3, 3)[700:]),
    frame(Opcode.TEXT, b'{"type": "news", "of": "a later version"}'),
    frame(Opcode.TEXT, wire.encode(wire.Dropped(6, 2, "overload")).encode()),
    frame(Opcode.BINARY, block(8, 1)),
    frame(Opcode.BINARY, block(9, 200)),  # a length of 64 bits
    frame(Opcode.TEXT, wire.encode(wire.Error("too_fast", "held", False)).encode()),
    frame(Opcode.BINARY, block(300, 1)),
    frame(Opcode.TEXT, wire.encode(wire.End(207, 2, 7.0)).encode()),
    frame(Opcode.CLOSE, b"\x03\xe8"),
]


def opened_stream() -> tuple[LoadStream, Recorder]:
    """A stream that has its ``ready``; what it wrote until then is discarded."""
    (plan,) = plan_streams(LOAD, [CLIP])
    endpoint, transport = Endpoint.of(LOAD), Recorder()
    stream = LoadStream(endpoint, plan, websocket_messages(CLIP), CLIP, 16_000)
    stream.connection_made(transport)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", transport.written)
    assert key is not None
    accept = accept_key(key[1].decode())
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: kfusion.v1\r\n\r\n"
    )
    response = head.encode() + frame(Opcode.TEXT, ready_text().encode())
    for k in range(0, len(response), 100):
        stream.data_received(response[k : k + 100])
    assert stream.state is LoadState.OPEN and stream.opened.done()
    transport.written = b""
    return stream, transport


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=60))
def test_a_stream_hears_the_same_however_the_bytes_come(sizes: list[int]) -> None:
    async def receive() -> tuple[StreamTrace, LoadState, bytes]:
        stream, transport = opened_stream()
        data, k = b"".join(RECEIVED), 0
        while data:
            size = sizes[k % len(sizes)]
            stream.data_received(data[:size])
            data, k = data[size:], k + 1
        return stream.trace, stream.state, transport.written

    trace, state, written = asyncio.run(receive())
    assert list(zip(trace.firsts, trace.counts, strict=True)) == [
        (0, 3), (3, 3), (8, 1), (9, 200), (300, 1)
    ]  # fmt: skip
    assert trace.dropped == {"overload": 2} and trace.errors == {"too_fast": 1, "out_of_order": 1}
    assert (state, trace.lost) == (LoadState.DONE, None)
    assert [written[0], written[19], written[25]] == [0x8A, 0x8A, 0x88]  # two pongs and a close


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (frame(Opcode.BINARY, b"KFL1"), "4 bytes; wanted at least 24"),
        (frame(Opcode.BINARY, b"KFL2" + block(0, 1)[4:]), "wanted b'KFL1'"),
        (frame(Opcode.BINARY, block(0, 3)[:-4]), "wanted points of frames"),
        (frame(Opcode.TEXT, b"{}"), "from the server"),
        (b"\x89\x80\1\2\3\4", "a masked frame"),
        (frame(Opcode.TEXT, wire.encode(wire.Error("idle", "silent", True)).encode()), "silent"),
    ],
)
def test_what_is_no_stream_is_lost_and_why(wrong: bytes, message: str) -> None:
    async def receive() -> tuple[LoadStream, Recorder]:
        stream, transport = opened_stream()
        stream.data_received(wrong + frame(Opcode.BINARY, block(0, 3)))
        return stream, transport

    stream, transport = asyncio.run(receive())
    assert stream.state is LoadState.LOST and transport.aborted
    assert message in str(stream.trace.lost) and not stream.trace.firsts


def test_a_stream_sends_its_chunks_when_they_are_due_and_then_the_end() -> None:
    async def send() -> tuple[LoadStream, bytes]:
        stream, transport = opened_stream()
        sender = ChunkSender()
        stream.begin(sender.loop.time(), 16_000 // 10)
        sender.add(stream)
        async with asyncio.timeout(5):
            while stream.state is LoadState.OPEN:  # noqa: ASYNC110 (it has nothing else to tell)
                await asyncio.sleep(0.01)
        return stream, transport.written

    stream, written = asyncio.run(send())
    assert list(stream.trace.positions) == [320, 640, 960, 1280, 1600]
    late = np.array(stream.trace.sent) - stream.trace.start - np.arange(1, 6) * 0.02
    assert late.min() >= 0
    assert len(written) == 5 * (8 + 640) + 6 + len(wire.encode(wire.EndOfAudio()))

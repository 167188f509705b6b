"""One stream of many: its socket, what it sends and what it receives.

A stream must cost little CPU: chunks are encoded as WebSocket messages before the run, and only the
header of a received message is read. The rest is left to the websockets library.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

from client.errors import named_error
from client.loadtest.load import Load, LoadClip, StreamPlan
from client.loadtest.trace import StreamTrace
from client.stream.websocket import redacted_url, stream_url
from kfusion import wire
from kfusion.errors import (
    BadMessage,
    Busy,
    ConnectionFailed,
    KFusionError,
    MissingExtra,
)
from kfusion.landmarks import COUNT

try:
    from websockets.client import ClientProtocol
    from websockets.exceptions import InvalidHandshake
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Response
    from websockets.typing import Subprotocol
    from websockets.uri import WebSocketURI, parse_uri
except ImportError:
    raise MissingExtra(
        "the websockets package is not installed; pip install 'kfusion[client]'"
    ) from None

_TEXT: Final = 0x81  # the first byte of a whole message
_BINARY: Final = 0x82
_FRAME_BYTES: Final = 2 * COUNT * 4


class LoadState(Enum):
    CONNECTING = "connecting"
    STARTING = "starting"  # start was sent
    OPEN = "open"
    ENDING = "ending"  # end was sent
    DONE = "done"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(frozen=True)
class Endpoint:
    """The address at which streams are opened, and their first message."""

    name: str  # the URL without credentials, for messages
    token: str | None
    start: str
    uri: WebSocketURI

    @classmethod
    def of(cls, load: Load) -> Endpoint:
        url = stream_url(load.url)
        return cls(redacted_url(url), load.token, wire.encode(load.start), parse_uri(url))


class LoadStream(asyncio.Protocol):
    """One stream, from its handshake to its close."""

    transport: asyncio.Transport

    def __init__(
        self,
        endpoint: Endpoint,
        plan: StreamPlan,
        messages: list[bytes],
        clip: LoadClip,
        rate: int,
    ) -> None:
        self.endpoint, self.plan, self.messages, self.sizes = endpoint, plan, messages, clip.samples
        self.rate = rate
        self.trace = StreamTrace(plan.index)
        self.state = LoadState.CONNECTING
        self.ws = ClientProtocol(endpoint.uri, subprotocols=[Subprotocol(wire.SUBPROTOCOL)])
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.buffer = b""  # the beginning of a frame, or of the handshake's response
        self.fragments: list[bytes] = []
        self.opcode = Opcode.BINARY  # of the fragments
        self.next_frame = 0  # the server should send
        self.chunk = plan.chunk
        self.samples = 0  # sent
        self.total = 0  # to send
        self.due = 0.0  # when the next chunk is to be sent

    # Sending

    def begin(self, start: float, samples: int) -> None:
        """Sends at least so many samples, at the pace of their playback from ``start`` on."""
        self.trace.start, self.total = start, samples
        self.due = start + self.sizes[self.chunk] / self.rate

    def send_chunk(self) -> bool:
        """Sends the chunk that is due; False once there is nothing more to send."""
        if self.state is not LoadState.OPEN:
            return False
        chunk = self.chunk
        self.trace.sent.append(time.monotonic())
        self.transport.write(self.messages[chunk])
        self.samples += self.sizes[chunk]
        self.trace.positions.append(self.samples)
        self.chunk = chunk = (chunk + 1) % len(self.messages)
        if self.samples >= self.total:
            self.state = LoadState.ENDING
            self._send_text(wire.encode(wire.EndOfAudio()))
            return False
        self.due = self.trace.start + (self.samples + self.sizes[chunk]) / self.rate
        return True

    def _send_text(self, text: str) -> None:
        self.ws.send_text(text.encode())
        self._flush()

    def _flush(self) -> None:
        for data in self.ws.data_to_send():
            if data:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.transport.write_eof()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        request = self.ws.connect()
        if self.endpoint.token:
            request.headers["Authorization"] = f"Bearer {self.endpoint.token}"
        self.ws.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data, self.buffer = self.buffer + data, b""
        if self.state is LoadState.CONNECTING:
            data = self._handshake(data)
        if self.state is not LoadState.CONNECTING:
            self.buffer = self._frames(data, now)

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self.closed.set_result(None)

    def _gone(self) -> None:
        """Handles the end of the connection, at the end of the stream or too early."""
        if self.state in (LoadState.DONE, LoadState.REFUSED, LoadState.LOST):
            return
        close = self.ws.close_rcvd
        how = "without a word" if close is None else f"code {close.code} {close.reason}".strip()
        if self.state in (LoadState.CONNECTING, LoadState.STARTING):
            self._fail(f"{self.endpoint.name} closed before the stream was ready ({how})")
        else:
            self._fail(f"the connection closed after {self.next_frame} frames ({how})")

    def give_up(self) -> None:
        """Closes the connection without the server's end."""
        self.trace.unfinished = self.state in (LoadState.OPEN, LoadState.ENDING)
        self.state = LoadState.DONE
        self.transport.abort()

    def _fail(self, why: str, error: KFusionError | None = None) -> None:
        if not self.opened.done():  # a cancelled one is done
            self.opened.set_exception(error or ConnectionFailed(why))
        if self.state is not LoadState.LOST:
            self.state, self.trace.lost = LoadState.LOST, why
            self.transport.abort()

    def _handshake(self, data: bytes) -> bytes:
        """Returns what follows the handshake's response; nothing until that is complete."""
        head, end, after = data.partition(b"\r\n\r\n")
        if not end:
            self.buffer = data
            return b""
        accepted = head.startswith(b"HTTP/1.1 101")
        self.ws.receive_data(head + end if accepted else data)
        for event in self.ws.events_received():
            if isinstance(event, Response) and event.status_code != 101:
                name, status = self.endpoint.name, event.status_code
                self._fail(f"{name} answered HTTP {status}; wanted a KFusion stream")
        if self.ws.handshake_exc is not None:
            reason = self.ws.handshake_exc if accepted else InvalidHandshake("no HTTP")
            self._fail(f"{self.endpoint.name} is no KFusion stream ({reason})")
        elif accepted:
            self.state = LoadState.STARTING
            self._send_text(self.endpoint.start)
            return after
        return b""

    # Receiving

    def _frames(self, data: bytes, now: float) -> bytes:
        """Takes every whole WebSocket frame; returns the beginning of the next."""
        at, size = 0, len(data)
        while size - at >= 2 and self.state is not LoadState.LOST:
            length, begin = data[at + 1], at + 2
            if length >= 126:
                if length > 127:
                    self._fail("a masked frame; wanted none from a server")
                    break
                wide = 2 if length == 126 else 8
                begin += wide
                length = int.from_bytes(data[at + 2 : begin], "big")
                if begin > size:
                    break
            end = begin + length
            if end > size:
                break
            if data[at] == _BINARY:
                self._binary(data[begin : min(end, begin + wire.HEADER.size)], length, now)
            elif data[at] == _TEXT:
                self._text(data[begin:end])
            else:
                self._other_frame(data[at:end], now)
            at = end
        return data[at:]

    def _other_frame(self, data: bytes, now: float) -> None:
        """A ping, a close or a fragment of a message."""
        self.ws.receive_data(data)
        for event in self.ws.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.opcode, self.fragments = event.opcode, []
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self.fragments.append(bytes(event.data))
                if event.fin:
                    self._message(b"".join(self.fragments), now)
        self._flush()

    def _message(self, data: bytes, now: float) -> None:
        if self.opcode is Opcode.TEXT:
            self._text(data)
        else:
            self._binary(data[: wire.HEADER.size], len(data), now)

    def _binary(self, header: bytes, length: int, now: float) -> None:
        try:
            block = wire.read_header(header)
        except BadMessage as error:
            self._fail(str(error))
            return
        if block.output != "points" or length != wire.HEADER.size + block.count * _FRAME_BYTES:
            self._fail(f"a binary message that begins {header[:8]!r}; wanted points of frames")
            return
        trace = self.trace
        trace.received.append(now)
        trace.firsts.append(block.first)
        trace.counts.append(block.count)
        if block.first != self.next_frame:
            trace.errors["out_of_order"] = trace.errors.get("out_of_order", 0) + 1
        self.next_frame = block.first + block.count

    def _text(self, text: bytes) -> None:
        try:
            message = wire.parse_server(text.decode(errors="replace"))
        except BadMessage as error:
            self._fail(str(error))
            return
        match message:
            case wire.Ready():
                self.state = LoadState.OPEN
                self.opened.set_result(None)
            case wire.Dropped():
                dropped = self.trace.dropped
                dropped[message.reason] = dropped.get(message.reason, 0) + message.count
                self.next_frame = message.first + message.count
            case wire.Error():
                self._error(message)
            case wire.End():
                self.state = LoadState.DONE
            case _:  # of a later version
                pass

    def _error(self, error: wire.Error) -> None:
        if error.code == Busy.code and self.state is LoadState.STARTING:
            self.state, self.trace.refused = LoadState.REFUSED, error.message
            self.opened.set_result(None)
            return
        self.trace.errors[error.code] = self.trace.errors.get(error.code, 0) + 1
        if error.fatal:
            self._fail(f"{error.message} ({error.code})", named_error(error))

"""One stream of many: a socket, what is said over it and what is heard.

Two cores carry the server as well, so that a stream must cost little: chunks are whole WebSocket
messages before the run begins, and of a message that came only its header is read. The handshake,
pings, closing and everything rare is the websockets library's.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from client.errors import named_error
from client.loadtest.log import Log
from client.loadtest.plan import Load, Part, Sound
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

_TEXT: Final = 0x81  # a whole message's first byte
_BINARY: Final = 0x82
_HEADER: Final = struct.Struct("<4sBBHQQ")
_FRAME_BYTES: Final = 2 * COUNT * 4


class _FrameNumber(msgspec.Struct, frozen=True, tag_field="type", tag="frame"):
    n: int


_decoder = msgspec.json.Decoder(_FrameNumber | wire.Ready | wire.Dropped | wire.Error | wire.End)


class State(Enum):
    """How far a stream is; LOST and REFUSED will say no more."""

    CONNECTING = "connecting"
    STARTING = "starting"  # start is said
    OPEN = "open"
    ENDING = "ending"  # end is said
    DONE = "done"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(frozen=True)
class Door:
    """Where and how streams are opened."""

    where: str
    token: str | None
    start: str
    uri: WebSocketURI

    @classmethod
    def of(cls, load: Load) -> Door:
        where = stream_url(load.url)
        return cls(redacted_url(where), load.token, wire.encode(load.start), parse_uri(where))


class Stream(asyncio.Protocol):
    """One stream, from its handshake to its close."""

    transport: asyncio.Transport

    def __init__(self, door: Door, part: Part, messages: list[bytes], sound: Sound, rate: int):
        self.door, self.part, self.messages, self.sizes = door, part, messages, sound.samples
        self.rate = rate
        self.log = Log(part.index)
        self.state = State.CONNECTING
        self.ws = ClientProtocol(door.uri, subprotocols=[Subprotocol(wire.SUBPROTOCOL)])
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.rest = b""  # the beginning of a frame, or of the handshake's answer
        self.fragments: list[bytes] = []
        self.kind = Opcode.BINARY  # of the fragments
        self.next = 0  # the frame that is due from the server
        self.chunk = part.chunk
        self.samples = 0
        self.total = 0
        self.due = 0.0  # when the next chunk has been spoken

    # Speaking

    def begin(self, start: float, samples: int) -> None:
        """From ``start`` on it speaks, at least so many samples."""
        self.log.start, self.total = start, samples
        self.due = start + self.sizes[self.chunk] / self.rate

    def speak(self) -> bool:
        """Sends the chunk that is due; False once there is nothing more to say."""
        if self.state is not State.OPEN:
            return False
        chunk = self.chunk
        self.log.sent.append(time.monotonic())
        self.transport.write(self.messages[chunk])
        self.samples += self.sizes[chunk]
        self.log.positions.append(self.samples)
        self.chunk = chunk = (chunk + 1) % len(self.messages)
        if self.samples >= self.total:
            self.state = State.ENDING
            self._say(wire.encode(wire.EndOfAudio()))
            return False
        self.due = self.log.start + (self.samples + self.sizes[chunk]) / self.rate
        return True

    def _say(self, text: str) -> None:
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
        if self.door.token:
            request.headers["Authorization"] = f"Bearer {self.door.token}"
        self.ws.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        data, self.rest = self.rest + data, b""
        if self.state is State.CONNECTING:
            data = self._handshake(data)
        if self.state is not State.CONNECTING:
            self.rest = self._frames(data, now)

    def eof_received(self) -> None:
        self._gone()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self.closed.set_result(None)

    def _gone(self) -> None:
        """The server has closed: as it should, or too soon."""
        if self.state in (State.DONE, State.REFUSED, State.LOST):
            return
        close = self.ws.close_rcvd
        how = "without a word" if close is None else f"code {close.code} {close.reason}".strip()
        if self.state in (State.CONNECTING, State.STARTING):
            self._fail(f"{self.door.where} closed before the stream was ready ({how})")
        else:
            self._fail(f"the connection closed after {self.next} frames ({how})")

    def give_up(self) -> None:
        """Waits no longer for what the server still owes."""
        self.log.unfinished = self.state in (State.OPEN, State.ENDING)
        self.state = State.DONE
        self.transport.abort()

    def _fail(self, why: str, error: KFusionError | None = None) -> None:
        if not self.opened.done():  # a cancelled one is done
            self.opened.set_exception(error or ConnectionFailed(why))
        if self.state is not State.LOST:
            self.state, self.log.lost = State.LOST, why
            self.transport.abort()

    def _handshake(self, data: bytes) -> bytes:
        """Gives what follows the answer to the handshake; nothing until that is whole."""
        head, end, after = data.partition(b"\r\n\r\n")
        if not end:
            self.rest = data
            return b""
        welcome = head.startswith(b"HTTP/1.1 101")
        self.ws.receive_data(head + end if welcome else data)
        for event in self.ws.events_received():
            if isinstance(event, Response) and event.status_code != 101:
                self._fail(
                    f"{self.door.where} answered HTTP {event.status_code}; wanted a KFusion stream"
                )
        if self.ws.handshake_exc is not None:
            reason = self.ws.handshake_exc if welcome else InvalidHandshake("no HTTP")
            self._fail(f"{self.door.where} is no KFusion stream ({reason})")
        elif welcome:
            self.state = State.STARTING
            self._say(self.door.start)
            return after
        return b""

    # Listening

    def _frames(self, data: bytes, now: float) -> bytes:
        """Takes every whole WebSocket frame; gives the beginning of the next."""
        at, size = 0, len(data)
        while size - at >= 2 and self.state is not State.LOST:
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
            first = data[at]
            if first == _BINARY:
                self._block(data[begin : begin + _HEADER.size], length, now)
            elif first == _TEXT:
                self._text(data[begin:end], now)
            else:
                self._rare(data[at:end], now)
            at = end
        return data[at:]

    def _rare(self, data: bytes, now: float) -> None:
        """A ping, a close, a piece of a message."""
        self.ws.receive_data(data)
        for event in self.ws.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.BINARY):
                self.kind, self.fragments = event.opcode, []
            if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self.fragments.append(bytes(event.data))
                if event.fin:
                    self._message(b"".join(self.fragments), now)
        self._flush()

    def _message(self, data: bytes, now: float) -> None:
        if self.kind is Opcode.TEXT:
            self._text(data, now)
        else:
            self._block(data[: _HEADER.size], len(data), now)

    def _block(self, header: bytes, length: int, now: float) -> None:
        if length < _HEADER.size:
            self._fail(f"a binary message of {length} bytes; wanted a header of {_HEADER.size}")
            return
        magic, kind, _, count, first, _ = _HEADER.unpack(header)
        if magic != b"KFL1" or kind != 1 or length != _HEADER.size + count * _FRAME_BYTES:
            self._fail(f"a binary message that begins {header[:8]!r}; wanted points of frames")
            return
        self._got(first, count, now)

    def _got(self, first: int, count: int, now: float) -> None:
        log = self.log
        log.arrived.append(now)
        log.firsts.append(first)
        log.counts.append(count)
        if first != self.next:
            log.errors["out_of_order"] = log.errors.get("out_of_order", 0) + 1
        self.next = first + count

    def _text(self, text: bytes, now: float) -> None:
        try:
            said = _decoder.decode(text)
        except msgspec.DecodeError:
            self._other(text)
            return
        match said:
            case _FrameNumber():
                self._got(said.n, 1, now)
            case wire.Ready():
                self.state = State.OPEN
                self.opened.set_result(None)
            case wire.Dropped():
                dropped = self.log.dropped
                dropped[said.reason] = dropped.get(said.reason, 0) + said.count
                self.next = said.first + said.count
            case wire.Error():
                self._error(said)
            case wire.End():
                self.state = State.DONE
            case _:  # the decoder gives nothing else
                pass

    def _other(self, text: bytes) -> None:
        """What is not among the usual messages: of a later version, or no message at all."""
        try:
            wire.parse_server(text.decode(errors="replace"))
        except BadMessage as error:
            self._fail(str(error))

    def _error(self, error: wire.Error) -> None:
        if error.code == Busy.code and self.state is State.STARTING:
            self.state, self.log.refused = State.REFUSED, error.message
            self.opened.set_result(None)
            return
        self.log.errors[error.code] = self.log.errors.get(error.code, 0) + 1
        if error.fatal:
            self._fail(f"{error.message} ({error.code})", named_error(error))

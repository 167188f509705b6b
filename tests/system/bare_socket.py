"""A WebSocket client made byte by byte with the standard library, which may break every rule."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
from collections import Counter
from typing import Any

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


class ConnectionEnded(Exception):
    """The server has ended the connection, with this close code if it said one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed {code}")
        self.code = code


def framed(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """A WebSocket frame. Its mask is zeros, which is legal and costs a flood nothing."""
    head, bit = bytes([fin << 7 | opcode]), masked << 7
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += struct.pack("!BH", bit | 126, len(payload))
    else:
        head += struct.pack("!BQ", bit | 127, len(payload))
    return head + (bytes(4) if masked else b"") + payload


def text_message(**message: Any) -> bytes:
    return framed(TEXT, json.dumps(message).encode())


class BareSocket:
    """One bare connection."""

    def __init__(self, port: int, outcomes: Counter[str]) -> None:
        self.port, self.outcomes = port, outcomes
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.unread = b""

    async def connect(self, *, stops_reading: bool = False) -> None:
        """``stops_reading``: with so small a buffer that the server notices who does not read."""
        if stops_reading:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self.loop.sock_connect(self.sock, ("127.0.0.1", self.port))
        self.outcomes["connections"] += 1

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)
        self.outcomes["bytes"] += len(data)
        await asyncio.sleep(0)  # the other clients have their turn

    async def read(self, count: int) -> bytes:
        while len(self.unread) < count:
            data = await self.loop.sock_recv(self.sock, 1 << 16)
            if not data:
                raise ConnectionEnded(None)
            self.unread += data
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    async def head(self) -> bytes:
        """An HTTP answer up to its blank line."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.read(1)
        return head

    async def upgrade(self, *, stops_reading: bool = False) -> None:
        await self.connect(stops_reading=stops_reading)
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(
            f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if not (await self.head()).startswith(b"HTTP/1.1 101"):
            raise ConnectionEnded(None)
        self.outcomes["handshakes"] += 1

    async def message(self) -> tuple[int, bytes]:
        """The server's next frame. Raises :class:`ConnectionEnded` for its close."""
        opcode, length = await self.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.read(8))
        payload = await self.read(length)
        if opcode & 15 == CLOSE:
            raise ConnectionEnded(struct.unpack("!H", payload[:2])[0] if payload else None)
        return opcode & 15, payload

    async def start(self, *, stops_reading: bool = False, **fields: Any) -> dict[str, Any]:
        """Opens a stream; gives what the server answered."""
        await self.upgrade(stops_reading=stops_reading)
        await self.send(text_message(type="start", **fields))
        answer = json.loads((await self.message())[1])
        self.outcomes[answer.get("code", answer["type"])] += 1
        if answer["type"] != "ready":
            raise ConnectionEnded(None)
        return answer

    async def until_gone(self) -> None:
        while True:
            await self.message()

    def vanish(self) -> None:
        """A reset, not an end: nothing of what was sent last need arrive."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

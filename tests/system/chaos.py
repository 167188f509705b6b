"""Hostile clients, many at once, over bare sockets.

    python -m tests.system.chaos --port 8765 --clients 200 --seconds 10 --seed 1

Each client is of one kind and does its worst again and again until the time is up; what came of
it is printed as JSON, by kind. Only the standard library: what is sent is made byte by byte.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
MEBIBYTE: Final = 1 << 20
FEW: Final = 64  # tiny messages written at once by one that floods


class Gone(Exception):
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


def said(**message: Any) -> bytes:
    return framed(TEXT, json.dumps(message).encode())


class Line:
    """One bare connection."""

    def __init__(self, port: int, seen: Counter[str]) -> None:
        self.port, self.seen = port, seen
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.unread = b""

    async def connect(self, *, deaf: bool = False) -> None:
        """``deaf``: with so small a buffer that the server notices who does not read."""
        if deaf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self.loop.sock_connect(self.sock, ("127.0.0.1", self.port))
        self.seen["connections"] += 1

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)
        self.seen["bytes"] += len(data)
        await asyncio.sleep(0)  # the other clients have their turn

    async def read(self, count: int) -> bytes:
        while len(self.unread) < count:
            data = await self.loop.sock_recv(self.sock, 1 << 16)
            if not data:
                raise Gone(None)
            self.unread += data
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    async def head(self) -> bytes:
        """An HTTP answer up to its blank line."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await self.read(1)
        return head

    async def upgrade(self, *, deaf: bool = False) -> None:
        await self.connect(deaf=deaf)
        key = base64.b64encode(os.urandom(16)).decode()
        await self.send(
            f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        if not (await self.head()).startswith(b"HTTP/1.1 101"):
            raise Gone(None)
        self.seen["handshakes"] += 1

    async def message(self) -> tuple[int, bytes]:
        """The server's next frame. Raises :class:`Gone` for its close."""
        opcode, length = await self.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.read(8))
        payload = await self.read(length)
        if opcode & 15 == CLOSE:
            raise Gone(struct.unpack("!H", payload[:2])[0] if payload else None)
        return opcode & 15, payload

    async def start(self, *, deaf: bool = False, **fields: Any) -> dict[str, Any]:
        """Opens a stream; gives what the server answered."""
        await self.upgrade(deaf=deaf)
        await self.send(said(type="start", **fields))
        answer = json.loads((await self.message())[1])
        self.seen[answer.get("code", answer["type"])] += 1
        if answer["type"] != "ready":
            raise Gone(None)
        return answer

    async def until_gone(self) -> None:
        while True:
            await self.message()

    def vanish(self) -> None:
        """A reset, not an end: nothing of what was sent last need arrive."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Kind = Callable[[Line, random.Random], Awaitable[None]]
KINDS: dict[str, Kind] = {}


def kind(behaviour: Kind) -> Kind:
    KINDS[getattr(behaviour, "__name__", "")] = behaviour
    return behaviour


# Those that vanish


@kind
async def vanishes_in_a_handshake(line: Line, rng: random.Random) -> None:
    await line.connect()
    request = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upg"
    await line.send(request[: rng.randrange(len(request))])
    await asyncio.sleep(rng.uniform(0, 0.05))
    line.vanish()


@kind
async def vanishes_in_a_message(line: Line, rng: random.Random) -> None:
    await line.start(mode=rng.choice(["live", "file"]), hop=rng.choice([1, 3, 10]))
    await line.send(framed(BINARY, bytes(32_000)))
    whole = framed(BINARY, bytes(64_000))
    await line.send(whole[: rng.randrange(1, len(whole))])
    await asyncio.sleep(rng.uniform(0, 0.1))
    line.vanish()


@kind
async def leaves_in_good_order(line: Line, rng: random.Random) -> None:
    """One after the other, each with sound that nobody waits for."""
    await line.start(hop=1, lookahead=0)
    await line.send(said(type="silence", samples=32_000) + framed(CLOSE, struct.pack("!H", 1000)))
    await line.until_gone()


# Those that stop reading


@kind
async def reads_nothing_live(line: Line, rng: random.Random) -> None:
    await line.start(deaf=True, encoding="json", hop=1, lookahead=0)
    while True:
        await line.send(framed(BINARY, bytes(3200)))
        await asyncio.sleep(0.1)


@kind
async def reads_nothing_of_a_file(line: Line, rng: random.Random) -> None:
    await line.start(deaf=True, encoding="json", mode="file", hop=rng.choice([1, 3]))
    while True:
        await line.send(framed(BINARY, bytes(64_000)))


@kind
async def reads_no_replies(line: Line, rng: random.Random) -> None:
    await line.start(deaf=True)
    points = [[rng.uniform(0, 200), rng.uniform(0, 200)] for _ in range(68)]
    await line.send(said(type="identity", id="a", points=points))
    while True:
        await line.send(said(type="identity", id="a") * FEW)


@kind
async def reads_no_pongs(line: Line, rng: random.Random) -> None:
    await line.start(deaf=True)
    while True:
        await line.send(framed(PING, bytes(125)) * FEW)


# Garbage


@kind
async def speaks_no_http(line: Line, rng: random.Random) -> None:
    await line.connect()
    await line.send(
        rng.choice(
            [
                rng.randbytes(400),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),  # TLS
                b"GET /v1/stream HTTP/9.9\r\n\r\n",
                b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
                b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                b"GET /v1/stream HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
                b"\r\n" * 100,
            ]
        )
    )
    await asyncio.sleep(0.05)
    while True:
        await line.read(1)


@kind
async def breaks_framing(line: Line, rng: random.Random) -> None:
    await line.start()
    await line.send(
        rng.choice(
            [
                framed(TEXT, b'{"type":"mark","id":"a"}', masked=False),
                framed(3, b"a reserved opcode"),
                bytes([0xC1, 0x80]) + bytes(4),  # RSV1
                framed(PING, bytes(125), fin=False),
                bytes([0x89, 0xFE, 0, 200]) + bytes(204),  # a ping of 200 bytes
                framed(0, b"a continuation of nothing"),
                framed(TEXT, b"one", fin=False) + framed(TEXT, b"another"),
                framed(CLOSE, b"\x00"),
                framed(CLOSE, struct.pack("!H", 1005)),
                framed(TEXT, b"\xff\xfe\xc0"),
                framed(TEXT, b'{"type":"mark","id":"\xed\xa0\x80"}'),
                rng.randbytes(600),
            ]
        )
    )
    await line.until_gone()


@kind
async def talks_nonsense(line: Line, rng: random.Random) -> None:
    """Well framed messages that are none of the protocol's, until the server has enough."""
    await line.start()
    while True:
        nonsense = rng.choice(
            [
                framed(TEXT, b"?"),
                framed(TEXT, b"[" * 5000),
                framed(TEXT, b"9" * 5000),
                framed(BINARY, b"odd"),
                said(type="emotion", weights={"x" * 500_000: 1}),
                said(type="t" * 500_000),
                said(type="silence", samples=10**18),
                said(type="identity", id="a", points=[[0, 0]] * 68),
            ]
        )
        await line.send(nonsense)
        await line.message()


# Too large, too many


@kind
async def sends_two_mebibytes(line: Line, rng: random.Random) -> None:
    await line.start()
    await line.send(framed(BINARY, bytes(2 * MEBIBYTE)))
    await line.until_gone()


@kind
async def sends_mebibytes(line: Line, rng: random.Random) -> None:
    await line.start()
    for _ in range(20):
        await line.send(framed(BINARY, bytes(MEBIBYTE)))
    await line.until_gone()


@kind
async def sends_a_message_without_an_end(line: Line, rng: random.Random) -> None:
    await line.start()
    await line.send(framed(BINARY, b"", fin=False))
    size = rng.choice([1, 1000])
    while True:
        await line.send(framed(0, bytes(size), fin=False) * FEW)


@kind
async def floods_single_samples(line: Line, rng: random.Random) -> None:
    await line.start(encoding="binary")
    while True:
        await line.send(framed(BINARY, b"\0\0") * FEW)


@kind
async def floods_emotions(line: Line, rng: random.Random) -> None:
    await line.start(encoding="binary")
    reading = asyncio.ensure_future(line.until_gone())
    try:
        while not reading.done():
            await line.send(said(type="emotion", weights={"happy": 0.5}) * FEW)
        await reading
    finally:
        reading.cancel()


@kind
async def interrupts(line: Line, rng: random.Random) -> None:
    """A second of silence, then all of it taken back; windows that nobody wants."""
    await line.start(encoding="binary", hop=1, lookahead=0)
    again = said(type="silence", samples=16_000) + said(type="reset")
    reading = asyncio.ensure_future(line.until_gone())
    try:
        while not reading.done():
            await line.send(again * 8)
        await reading
    finally:
        reading.cancel()


@kind
async def uploads_large_files(line: Line, rng: random.Random) -> None:
    audio = {"rate": 96_000, "channels": 2, "format": "s16le"}
    await line.start(mode="file", hop=30, lookahead=0, audio=audio, encoding="binary")
    sound = framed(BINARY, rng.randbytes(512_000))
    reading = asyncio.ensure_future(line.until_gone())
    try:
        while not reading.done():
            await line.send(sound)
        await reading
    finally:
        reading.cancel()


@kind
async def asks_for_metrics(line: Line, rng: random.Random) -> None:
    await line.connect()
    path = rng.choice(["/metrics", "/", "/v1/schema.json", "/ready", "/no"])
    await line.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while True:
        await line.read(1)


# Half open


@kind
async def connects_and_says_nothing(line: Line, rng: random.Random) -> None:
    await line.connect()
    await line.read(1)


@kind
async def drips_a_handshake(line: Line, rng: random.Random) -> None:
    await line.connect()
    await line.send(b"GET /v1/stream HTTP/1.1\r\n")
    while True:
        await line.send(b"X")
        await asyncio.sleep(0.2)


@kind
async def never_starts(line: Line, rng: random.Random) -> None:
    await line.upgrade()
    await line.until_gone()


@kind
async def starts_and_says_nothing(line: Line, rng: random.Random) -> None:
    await line.start()
    await asyncio.sleep(3600)


# Those that come back


@kind
async def invents_tokens(line: Line, rng: random.Random) -> None:
    token = rng.choice([rng.randbytes(16).hex(), "", "\u00e9" * 300, "t" * 100_000])
    with contextlib.suppress(Gone):
        await line.start(resume={"token": token, "next": rng.randrange(100)})
    await line.until_gone()


@kind
async def comes_back(line: Line, rng: random.Random) -> None:
    """Lost again and again; goes on with true, wrong and old tokens, from anywhere."""
    ready = await line.start(encoding=rng.choice(["json", "binary"]))
    await line.send(said(type="silence", samples=32_000))
    await asyncio.sleep(0.1)
    line.vanish()
    for _ in range(20):
        again = Line(line.port, line.seen)
        try:
            wanted = {"token": ready["resume"], "next": rng.choice([0, 0, 10**9])}
            with contextlib.suppress(Gone):
                ready = await again.start(resume=wanted)
            await again.send(said(type="silence", samples=3200))
            await asyncio.sleep(rng.uniform(0, 0.1))
        finally:
            again.vanish()


# The crowd


async def one(name: str, port: int, seed: int, seen: Counter[str]) -> None:
    """One client: the same behaviour on one connection after another."""
    rng = random.Random(seed)
    await asyncio.sleep(rng.uniform(0, 0.5))
    while True:
        line = Line(port, seen)
        try:
            await KINDS[name](line, rng)
        except Gone as gone:
            seen[str(gone)] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
        finally:
            line.vanish()
        await asyncio.sleep(rng.uniform(0.05, 0.2))


async def crowd(port: int, names: list[str], clients: int, seconds: float, seed: int) -> Any:
    """So many clients, the kinds in turn; {kind: {what came of it: how often}}."""
    seen = {name: Counter[str]() for name in names}
    tasks = [
        asyncio.create_task(one(names[k % len(names)], port, seed * 10_000 + k, seen[name]))
        for k in range(clients)
        for name in [names[k % len(names)]]
    ]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()  # only a mistake of its own ends a client
    return seen


def main() -> int:
    p = argparse.ArgumentParser(prog="tests.system.chaos", description=__doc__)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--clients", type=int, default=200)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    a = p.parse_args()
    os.nice(19)  # they would be on other machines: the server's time is to be had, not the CPU's
    seen = asyncio.run(crowd(a.port, a.kinds, a.clients, a.seconds, a.seed))
    json.dump(seen, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

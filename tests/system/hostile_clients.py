"""Many hostile clients at once: each behaviour is a coroutine over one bare socket.

    python -m tests.system.hostile_clients --port 8765 --clients 200 --seconds 10

Each client repeats one behaviour until the time is up; the outcomes are printed as JSON.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.system.bare_socket import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    BareSocket,
    ConnectionEnded,
    framed,
    text_message,
)

MEBIBYTE: Final = 1 << 20
FEW: Final = 64  # tiny messages written at once by one that floods

Kind = Callable[[BareSocket, random.Random], Awaitable[None]]
KINDS: dict[str, Kind] = {}


def kind(behaviour: Kind) -> Kind:
    KINDS[getattr(behaviour, "__name__", "")] = behaviour
    return behaviour


# Those that vanish


@kind
async def vanishes_in_a_handshake(line: BareSocket, rng: random.Random) -> None:
    await line.connect()
    request = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upg"
    await line.send(request[: rng.randrange(len(request))])
    await asyncio.sleep(rng.uniform(0, 0.05))
    line.vanish()


@kind
async def vanishes_in_a_message(line: BareSocket, rng: random.Random) -> None:
    await line.start(mode=rng.choice(["live", "file"]), hop=rng.choice([1, 3, 10]))
    await line.send(framed(BINARY, bytes(32_000)))
    whole = framed(BINARY, bytes(64_000))
    await line.send(whole[: rng.randrange(1, len(whole))])
    await asyncio.sleep(rng.uniform(0, 0.1))
    line.vanish()


@kind
async def leaves_in_good_order(line: BareSocket, rng: random.Random) -> None:
    """One after the other, each with sound that nobody waits for."""
    await line.start(hop=1, lookahead=0)
    await line.send(
        text_message(type="silence", samples=32_000) + framed(CLOSE, struct.pack("!H", 1000))
    )
    await line.until_gone()


# Those that stop reading


@kind
async def reads_nothing_live(line: BareSocket, rng: random.Random) -> None:
    await line.start(stops_reading=True, encoding="json", hop=1, lookahead=0)
    while True:
        await line.send(framed(BINARY, bytes(3200)))
        await asyncio.sleep(0.1)


@kind
async def reads_nothing_of_a_file(line: BareSocket, rng: random.Random) -> None:
    await line.start(stops_reading=True, encoding="json", mode="file", hop=rng.choice([1, 3]))
    while True:
        await line.send(framed(BINARY, bytes(64_000)))


@kind
async def reads_no_replies(line: BareSocket, rng: random.Random) -> None:
    await line.start(stops_reading=True)
    points = [[rng.uniform(0, 200), rng.uniform(0, 200)] for _ in range(68)]
    await line.send(text_message(type="identity", id="a", points=points))
    while True:
        await line.send(text_message(type="identity", id="a") * FEW)


@kind
async def reads_no_pongs(line: BareSocket, rng: random.Random) -> None:
    await line.start(stops_reading=True)
    while True:
        await line.send(framed(PING, bytes(125)) * FEW)


# Garbage


@kind
async def speaks_no_http(line: BareSocket, rng: random.Random) -> None:
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
async def breaks_framing(line: BareSocket, rng: random.Random) -> None:
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
async def talks_nonsense(line: BareSocket, rng: random.Random) -> None:
    """Well framed messages that are none of the protocol's, until the server has enough."""
    await line.start()
    while True:
        nonsense = rng.choice(
            [
                framed(TEXT, b"?"),
                framed(TEXT, b"[" * 5000),
                framed(TEXT, b"9" * 5000),
                framed(BINARY, b"odd"),
                text_message(type="emotion", weights={"x" * 500_000: 1}),
                text_message(type="t" * 500_000),
                text_message(type="silence", samples=10**18),
                text_message(type="identity", id="a", points=[[0, 0]] * 68),
            ]
        )
        await line.send(nonsense)
        await line.message()


# Too large, too many


@kind
async def sends_a_message_without_an_end(line: BareSocket, rng: random.Random) -> None:
    await line.start()
    await line.send(framed(BINARY, b"", fin=False))
    size = rng.choice([1, 1000])
    while True:
        await line.send(framed(0, bytes(size), fin=False) * FEW)


@kind
async def floods_single_samples(line: BareSocket, rng: random.Random) -> None:
    await line.start(encoding="binary")
    while True:
        await line.send(framed(BINARY, b"\0\0") * FEW)


async def flood(line: BareSocket, data: bytes) -> None:
    """Sends it again and again, and reads, until the server ends the connection."""
    reading = asyncio.ensure_future(line.until_gone())
    try:
        while not reading.done():
            await line.send(data)
        await reading
    finally:
        reading.cancel()


@kind
async def floods_emotions(line: BareSocket, rng: random.Random) -> None:
    await line.start(encoding="binary")
    await flood(line, text_message(type="emotion", weights={"happy": 0.5}) * FEW)


@kind
async def interrupts(line: BareSocket, rng: random.Random) -> None:
    """A second of silence, then all of it taken back; windows that nobody wants."""
    await line.start(encoding="binary", hop=1, lookahead=0)
    again = text_message(type="silence", samples=16_000) + text_message(type="reset")
    await flood(line, again * 8)


@kind
async def uploads_large_files(line: BareSocket, rng: random.Random) -> None:
    audio = {"rate": 96_000, "channels": 2, "format": "s16le"}
    await line.start(mode="file", hop=30, lookahead=0, audio=audio, encoding="binary")
    await flood(line, framed(BINARY, rng.randbytes(512_000)))


# Half open


@kind
async def drips_a_handshake(line: BareSocket, rng: random.Random) -> None:
    await line.connect()
    await line.send(b"GET /v1/stream HTTP/1.1\r\n")
    while True:
        await line.send(b"X")
        await asyncio.sleep(0.2)


@kind
async def starts_and_says_nothing(line: BareSocket, rng: random.Random) -> None:
    await line.start()
    await asyncio.sleep(3600)


# Those that come back


@kind
async def invents_tokens(line: BareSocket, rng: random.Random) -> None:
    token = rng.choice([rng.randbytes(16).hex(), "", "\u00e9" * 300, "t" * 100_000])
    with contextlib.suppress(ConnectionEnded):
        await line.start(resume={"token": token, "next": rng.randrange(100)})
    await line.until_gone()


@kind
async def comes_back(line: BareSocket, rng: random.Random) -> None:
    """Lost again and again; goes on with true, wrong and old tokens, from anywhere."""
    ready = await line.start(encoding=rng.choice(["json", "binary"]))
    await line.send(text_message(type="silence", samples=32_000))
    await asyncio.sleep(0.1)
    line.vanish()
    for _ in range(20):
        again = BareSocket(line.port, line.outcomes)
        try:
            resume = {"token": ready["resume"], "next": rng.choice([0, 0, 10**9])}
            with contextlib.suppress(ConnectionEnded):
                ready = await again.start(resume=resume)
            await again.send(text_message(type="silence", samples=3200))
            await asyncio.sleep(rng.uniform(0, 0.1))
        finally:
            again.vanish()


# All of them


async def one(name: str, port: int, seed: int, outcomes: Counter[str]) -> None:
    """One client: the same behaviour on one connection after another."""
    rng = random.Random(seed)
    await asyncio.sleep(rng.uniform(0, 0.5))
    while True:
        line = BareSocket(port, outcomes)
        try:
            await KINDS[name](line, rng)
        except ConnectionEnded as gone:
            outcomes[str(gone)] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1
        finally:
            line.vanish()
        await asyncio.sleep(rng.uniform(0.05, 0.2))


async def crowd(port: int, names: list[str], clients: int, seconds: float) -> Any:
    """So many clients, the kinds in turn; {kind: {what came of it: how often}}."""
    outcomes = {name: Counter[str]() for name in names}
    tasks = [
        asyncio.create_task(one(names[k % len(names)], port, k, outcomes[name]))
        for k in range(clients)
        for name in [names[k % len(names)]]
    ]
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in done:
        task.result()  # only a mistake of its own ends a client
    return outcomes


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--clients", type=int, default=200)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    a = p.parse_args()
    os.nice(19)  # they would be on other machines: the server's time is to be had, not the CPU's
    outcomes = asyncio.run(crowd(a.port, a.kinds, a.clients, a.seconds))
    json.dump(outcomes, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

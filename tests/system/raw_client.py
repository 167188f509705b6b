"""A client of the stream protocol that shares no code with the SDK, for tests of real servers."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from kfusion import wire
from server.app import App
from server.config import ServerConfig
from tests.conftest import RunningServer, decoded


class RawClient:
    """A WebSocket client without the SDK; ``received`` holds the server's messages in order."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.received: list[Any] = []

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def next(self) -> Any:
        seen = decoded(await asyncio.wait_for(self.ws.recv(), 20))
        self.received.append(seen)
        return seen

    async def until(self, kind: type[Any]) -> Any:
        while True:
            seen = await self.next()
            if isinstance(seen, kind):
                return seen

    async def rest(self) -> None:
        try:
            while True:
                await self.next()
        except ConnectionClosed:
            pass

    async def stream(self, sound: NDArray[np.float32]) -> None:
        """Sends a whole file, and receives all of the session."""
        data = pcm(sound)

        async def send() -> None:
            for k in range(0, len(data), 60_000):
                await self.ws.send(data[k : k + 60_000])
            await self.send(type="end")

        sending = asyncio.create_task(send())
        await self.rest()
        await sending

    @property
    def points(self) -> NDArray[np.float32]:
        blocks = [m.values for m in self.received if isinstance(m, wire.FrameBlock)]
        return np.concatenate([np.zeros((0, 136), np.float32), *blocks]).reshape(-1, 68, 2)

    @property
    def frames(self) -> list[int]:
        """The numbers of all frames in binary, in the order in which they came."""
        blocks = [m for m in self.received if isinstance(m, wire.FrameBlock)]
        return [n for b in blocks for n in range(b.first, b.first + len(b.values))]

    @property
    def codes(self) -> list[str]:
        return [m.code for m in self.received if isinstance(m, wire.Error)]


@asynccontextmanager
async def client(
    server: RunningServer, start: bool = True, **fields: Any
) -> AsyncGenerator[RawClient]:
    """A connection on which a stream is open, unless ``start`` is false; ``fields``: of `start`."""
    async with connect(
        server.url, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], ping_timeout=None, max_size=None
    ) as ws:
        raw = RawClient(ws)
        if start:
            await raw.send(type="start", **{"encoding": "binary", **fields})
            assert isinstance(await raw.next(), wire.Ready)
        yield raw


async def speak(raw: RawClient, sound: NDArray[np.float32], rate: int) -> list[float]:
    """Sends 20 ms chunks as a microphone would; each frame's delay from its own time (s)."""
    loop = asyncio.get_running_loop()
    size = rate // 50
    t0 = loop.time()

    async def send() -> None:
        for k in range(0, len(sound), size):
            chunk = sound[k : k + size]
            await asyncio.sleep(max(0.0, t0 + (k + len(chunk)) / rate - loop.time()))
            await raw.ws.send(pcm(chunk))
        await raw.send(type="end")

    sending = asyncio.create_task(send())
    delays: list[float] = []
    while not isinstance(message := await raw.next(), wire.End):
        if isinstance(message, wire.FrameBlock):
            first, count = message.first, len(message.values)
            delays += [loop.time() - t0 - n / 30 for n in range(first, first + count)]
    await sending
    return delays


@asynccontextmanager
async def running_app(**config: Any) -> AsyncGenerator[tuple[App, int]]:
    """A server in this process, with the synthetic engine, and its port."""
    app = App(ServerConfig(port=0, engine="synthetic", **config))
    async with app.serving() as server:
        yield app, next(iter(server.sockets)).getsockname()[1]


def pcm(samples: NDArray[np.float32]) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def get(url: str) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


async def stream_file(
    server: RunningServer, sound: NDArray[np.float32], **fields: Any
) -> RawClient:
    """A client that has streamed all of ``sound`` in mode file."""
    async with client(server, mode="file", **fields) as raw:
        await raw.stream(sound)
        return raw

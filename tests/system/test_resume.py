"""Lost connections, over real sockets: aborted, half open, too late, and gone on with."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

from kfusion import wire
from kfusion.runtime import Animator, SyntheticEngine
from server.app import App
from server.config import Bounds
from tests.conftest import eventually, narrow_socket, voice
from tests.system.raw_client import RawClient, pcm, running_app

pytestmark = pytest.mark.asyncio


class Client(RawClient):
    """A bare client that goes on with its session on another connection."""

    def __init__(self, ws: ClientConnection, port: int) -> None:
        super().__init__(ws)
        self.port = port

    @property
    def ready(self) -> wire.Ready:
        return [m for m in self.received if isinstance(m, wire.Ready)][-1]

    @property
    def next_frame(self) -> int:
        ends = [0]
        for m in self.received:
            if isinstance(m, wire.FrameBlock):
                ends.append(m.first + len(m.values))
            elif isinstance(m, wire.Dropped):
                ends.append(m.first + m.count)
        return max(ends)

    async def frames_until(self, n: int) -> None:
        while self.next_frame < n:
            await self.next()

    async def abort(self) -> None:
        self.ws.transport.abort()
        await self.ws.wait_closed()

    async def request_resume(self, token: str, next_frame: int) -> Any:
        """Another connection, and the server's answer to its resume."""
        self.ws = await connect(f"ws://127.0.0.1:{self.port}{wire.PATH}", max_size=None)
        await self.send(type="start", resume={"token": token, "next": next_frame})
        return await self.next()

    async def resume(self) -> wire.Ready:
        answer = await self.request_resume(self.ready.resume, self.next_frame)
        assert isinstance(answer, wire.Ready), answer
        return answer


@asynccontextmanager
async def serving(**config: Any) -> AsyncGenerator[tuple[App, Callable[..., Awaitable[Client]]]]:
    """A server in this process, and how to open streams on it."""
    async with running_app(**config) as (app, port):

        async def opened(**start: Any) -> Client:
            ws = await connect(f"ws://127.0.0.1:{port}{wire.PATH}", max_size=None)
            client = Client(ws, port)
            await client.send(type="start", **{"encoding": "binary", **start})
            assert isinstance(await client.next(), wire.Ready)
            return client

        yield app, opened


def offline(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    exact = (sound * 32767).astype("<i2").astype(np.float32) / 32768
    return Animator(SyntheticEngine()).animate(exact, 16_000)


async def test_a_connection_that_takes_nothing_any_more_is_replaced_too() -> None:
    async with serving() as (app, opened):
        client = await opened(encoding="json", mode="file")
        old = client.ws
        old.transport.pause_reading()
        for _ in range(40):
            await old.send(bytes(2 * 16_000))
        token = client.ready.resume
        await asyncio.sleep(0.5)  # until the server's buffers are full, or nearly
        ready = await client.request_resume(token, 0)
        assert isinstance(ready, wire.Ready) and ready.n == 0
        assert b"kfusion_streams 1.0" in app.registry.figures()
        await client.send(type="silence", samples=40 * 16_000 - ready.audio_position)
        await client.send(type="end")
        await client.rest()
        numbers: list[int] = []
        for m in client.received:
            if isinstance(m, wire.Frame):
                numbers.append(m.n)
            elif isinstance(m, wire.Dropped):
                assert m.reason == "resume"
                numbers += range(m.first, m.first + m.count)
        assert numbers == list(range(1200))
        old.transport.abort()


async def test_a_token_serves_once() -> None:
    async with serving() as (_, opened):
        client = await opened()
        await client.ws.send(pcm(voice(1.0)))
        await client.frames_until(27)
        token = client.ready.resume
        await client.abort()
        stranger = Client(client.ws, client.port)

        async def refusal(wrong: str, next_frame: int) -> str:
            error = await stranger.request_resume(wrong, next_frame)
            assert error.fatal
            await stranger.rest()
            assert stranger.ws.close_code == 4400
            return str(error.code)

        assert await refusal(token, 28) == "bad_message"  # which was never sent
        assert isinstance(await client.request_resume(token, 27), wire.Ready)
        for wrong in (token, "", "no such token", "\u00e9" * 300):
            assert await refusal(wrong, 0) == "unknown_session"
        await client.send(type="emotion", weights={"sad": 0.5})
        assert isinstance(await client.next(), wire.EmotionSet)
        await client.ws.close()


async def test_a_lost_session_keeps_its_place_until_it_is_given_up() -> None:
    async with serving(max_sessions=1, limits=wire.Limits(resume_s=1)) as (app, opened):
        first = await opened()
        await first.abort()
        other = Client(await connect(f"ws://127.0.0.1:{first.port}{wire.PATH}"), first.port)
        await other.send(type="start")
        error = await other.next()
        assert error.code == "busy" and error.retry_after_s > 0
        await other.rest()
        assert other.ws.close_code == 1013
        figures = app.registry.figures()
        assert b"kfusion_sessions_kept 1.0" in figures and b"kfusion_streams 0.0" in figures
        await first.resume()
        figures = app.registry.figures()
        assert b"kfusion_sessions_kept 0.0" in figures and b"kfusion_streams 1.0" in figures
        await first.abort()
        await asyncio.sleep(1.2)
        second = await opened()
        error = await first.request_resume(first.ready.resume, 0)
        assert error.code == "unknown_session"
        await second.ws.close()


async def test_a_resume_needs_the_servers_token_too() -> None:
    async with running_app(token="sesame") as (_, port):
        url = f"ws://127.0.0.1:{port}{wire.PATH}"
        client = Client(await connect(f"{url}?token=sesame"), port)
        await client.send(type="start")
        await client.next()
        await client.abort()
        client.ws = await connect(url)
        error = await client.next()
        assert error.code == "unauthorized"
        await client.rest()
        client.ws = await connect(f"{url}?token=sesame")
        await client.send(type="start", resume={"token": client.ready.resume, "next": 0})
        assert isinstance(await client.next(), wire.Ready)
        await client.ws.close()


async def test_a_server_stops_while_it_keeps_sessions() -> None:
    async with serving() as (_, opened):
        client = await opened()
        await client.ws.send(pcm(voice(5.0)))
        await client.abort()
    assert not any(t.name.startswith("inference") and t.is_alive() for t in threading.enumerate())


@pytest.mark.parametrize(("code", "kept"), [(None, 0), (1000, 0), (4000, 1)])
async def test_who_closes_in_good_order_gives_its_place_back(code: int | None, kept: int) -> None:
    """Without a code too, as JavaScript's close() does; a code of one's own says to wait."""
    async with serving() as (app, opened):
        client = await opened()
        if code is None:
            client.ws.protocol.send_close()
            client.ws.transport.writelines(client.ws.protocol.data_to_send())
            await client.ws.wait_closed()
        else:
            await client.ws.close(code)
        await eventually(lambda: not app.registry.connections)
        assert len(app.registry.slots.used) == len(app.registry.tokens.lost) == kept


async def test_a_file_is_sent_to_its_end_however_slowly_it_is_read() -> None:
    """In several times the time that a client has who reads nothing."""
    async with serving(bounds=Bounds(close_s=0.5)) as (_, opened):
        port = (await opened()).port
        narrow = narrow_socket(port, 8192)
        url = f"ws://127.0.0.1:{port}{wire.PATH}"
        async with connect(url, sock=narrow, max_queue=1, ping_interval=None) as ws:
            client = RawClient(ws)
            await client.send(type="start", mode="file", outputs=["points", "arkit52", "vrm"])
            await ws.send(pcm(voice(10.0)))
            await client.send(type="end")
            for _ in range(300):
                await client.next()
                await asyncio.sleep(0.01)
            await client.rest()
        assert [m.n for m in client.received if isinstance(m, wire.Frame)] == list(range(300))
        assert client.received[-1] == wire.End(300, 0, 10.0)

"""Connections that send no request do not keep others out."""

import asyncio
import socket
from typing import cast

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus

from kfusion import wire
from server.admission.backlog import Backlog
from server.config import Bounds
from tests.conftest import eventually
from tests.system.raw_client import running_app

pytestmark = pytest.mark.asyncio

LIMIT = 9


class FakeConnection:
    """What the backlog uses of a connection."""

    def __init__(self, host: str) -> None:
        self.remote_address = (host, 1)
        self.transport = self
        self.closed = False

    def abort(self) -> None:
        self.closed = True


def backlog_of(grace_s: float = -1.0) -> Backlog:
    return Backlog(LIMIT, per_address=3, grace_s=grace_s)


def add(backlog: Backlog, host: str, count: int) -> list[FakeConnection]:
    connections = [FakeConnection(host) for _ in range(count)]
    for connection in connections:
        backlog.add(cast(ServerConnection, connection))
    return connections


async def test_the_oldest_of_a_network_with_too_many_is_closed() -> None:
    backlog = backlog_of()
    crowd = add(backlog, "192.0.2.7", 5)
    (other,) = add(backlog, "198.51.100.1", 1)
    assert [c.closed for c in crowd] == [True, True, False, False, False] and not other.closed
    assert len(backlog.waiting) == 4


async def test_the_oldest_of_all_is_closed_and_this_machine_has_no_limit_of_its_own() -> None:
    backlog = backlog_of()
    crowd = add(backlog, "127.0.0.1", LIMIT)
    assert not any(c.closed for c in crowd)
    add(backlog, "192.0.2.7", 1)
    assert [c.closed for c in crowd[:2]] == [True, False]
    backlog.close()
    assert all(c.closed for c in crowd) and not backlog.waiting and not backlog.networks


async def test_a_new_connection_is_not_closed_until_there_are_twice_as_many() -> None:
    backlog = backlog_of(grace_s=1.0)
    crowd = add(backlog, "127.0.0.1", 2 * LIMIT)
    assert not any(c.closed for c in crowd)
    add(backlog, "127.0.0.1", 1)
    assert [c.closed for c in crowd[:2]] == [True, False]


async def test_streams_open_beside_hundreds_of_silent_connections() -> None:
    async with running_app(max_sessions=9) as (app, port):
        limit, waiting = app.backlog.limit, app.backlog.waiting
        silent = await asyncio.to_thread(
            lambda: [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * limit + 60)]
        )
        try:
            async with asyncio.timeout(5), connect(f"ws://127.0.0.1:{port}{wire.PATH}") as ws:
                await ws.send('{"type":"start"}')
                assert isinstance(wire.parse_server(str(await ws.recv())), wire.Ready)
                assert len(waiting) <= 2 * limit
        finally:
            for one in silent:
                one.close()
        await eventually(lambda: not waiting)


async def test_connections_whose_handshake_is_delayed_are_no_backlog_but_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the event loop lags, handshakes come one by one; one too many is refused."""
    bounds = Bounds(pending=16)
    async with running_app(max_sessions=16, bounds=bounds) as (app, port):
        monkeypatch.setattr(app.lag, "high", lambda: True)

        async def outcome() -> str:
            try:
                async with connect(f"ws://127.0.0.1:{port}{wire.PATH}"):
                    await asyncio.sleep(3)
                    return "connected"
            except InvalidStatus as error:
                return f"{error.response.status_code}"

        outcomes = await asyncio.gather(*[outcome() for _ in range(40)])
        assert sorted(set(outcomes)) == ["503", "connected"] and outcomes.count("connected") == 32
        assert not app.http.delayed and not app.backlog.waiting

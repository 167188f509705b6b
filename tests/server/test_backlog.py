"""Connections that say nothing take nobody's place."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus

from kfusion import wire
from server.admission.backlog import Doorway
from server.app import App
from server.config import ServerConfig
from tests.conftest import eventually

MOST = 9


class Caller:
    """Stands in for a connection: what the doorway asks of one."""

    def __init__(self, host: str) -> None:
        self.remote_address = (host, 1)
        self.transport = self
        self.gone = False

    def abort(self) -> None:
        self.gone = True


def come(doorway: Doorway, host: str) -> Caller:
    caller = Caller(host)
    doorway.came(cast(ServerConnection, caller))
    return caller


@pytest.mark.asyncio
async def test_of_one_network_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.admission.backlog.SOON_S", -1.0)
    doorway = Doorway(most=MOST, each=3)
    crowd = [come(doorway, "192.0.2.7") for _ in range(5)]
    other = come(doorway, "198.51.100.1")
    assert [c.gone for c in crowd] == [True, True, False, False, False] and not other.gone
    assert len(doorway.waiting) == 4


@pytest.mark.asyncio
async def test_of_all_the_oldest_goes_and_this_machine_has_no_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.admission.backlog.SOON_S", -1.0)
    doorway = Doorway(most=MOST, each=3)
    crowd = [come(doorway, "127.0.0.1") for _ in range(MOST)]
    assert not any(c.gone for c in crowd)
    come(doorway, "192.0.2.7")
    assert [c.gone for c in crowd[:2]] == [True, False]
    doorway.close()
    assert all(c.gone for c in crowd) and not doorway.waiting and not doorway.networks


@pytest.mark.asyncio
async def test_who_has_only_just_come_stays_until_there_are_twice_as_many() -> None:
    doorway = Doorway(most=MOST, each=3)
    crowd = [come(doorway, "127.0.0.1") for _ in range(2 * MOST)]
    assert not any(c.gone for c in crowd)
    come(doorway, "127.0.0.1")
    assert [c.gone for c in crowd[:2]] == [True, False]


@pytest.mark.asyncio
async def test_streams_open_beside_hundreds_of_silent_connections() -> None:
    app = App(ServerConfig(port=0, engine="synthetic", max_sessions=9))
    most = app.doorway.most
    async with app.serving() as server:
        port = next(iter(server.sockets)).getsockname()[1]
        silent = await asyncio.to_thread(
            lambda: [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * most + 60)]
        )
        try:
            async with asyncio.timeout(5), connect(f"ws://127.0.0.1:{port}{wire.PATH}") as ws:
                await ws.send('{"type":"start"}')
                answer: Any = wire.parse_server(str(await ws.recv()))
                assert isinstance(answer, wire.Ready)
                assert len(app.doorway.waiting) <= 2 * most and ws not in app.doorway.waiting
        finally:
            for one in silent:
                one.close()
        await eventually(lambda: not app.doorway.waiting)


@pytest.mark.asyncio
async def test_whom_the_server_lets_wait_is_not_taken_for_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is late they come in one by one; who is too many is told so."""
    monkeypatch.setattr("server.app.UNSTARTED", 16)
    app = App(ServerConfig(port=0, engine="synthetic", max_sessions=16))
    monkeypatch.setattr(app.lateness, "late", lambda: True)
    async with app.serving() as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"ws://127.0.0.1:{port}{wire.PATH}"

        async def come() -> str:
            try:
                async with connect(url):
                    await asyncio.sleep(3)
                    return "in"
            except InvalidStatus as error:
                return f"{error.response.status_code}"

        told = await asyncio.gather(*[come() for _ in range(40)])
        assert sorted(set(told)) == ["503", "in"] and told.count("in") == 32
        assert not app.entering and not app.doorway.waiting

"""Proxies that the environment names: not for this machine, and errors say which one failed."""

from __future__ import annotations

import asyncio

import pytest

from client import connect
from client.loadtest.load import Load
from client.loadtest.usage import read_once
from client.stream.websocket import proxy_for, redacted_proxy
from kfusion.errors import ConnectionFailed
from tests.conftest import RunningServer

KINDS = ("ws", "wss", "socks", "http", "https", "all", "no")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One without proxies."""
    for kind in KINDS:
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    return monkeypatch


async def refused(url: str) -> str:
    with pytest.raises(ConnectionFailed) as failed:
        async with connect(url, open_timeout=5.0):
            pass
    return str(failed.value)


@pytest.mark.parametrize(
    ("given", "url", "proxy"),
    [
        ({}, "ws://face.example", None),
        ({"http": "http://a:1"}, "ws://face.example", "http://a:1"),
        ({"http": "http://a:1"}, "wss://face.example", None),
        ({"http": "http://a:1", "https": "http://b:2"}, "ws://face.example", "http://b:2"),
        ({"https": "http://b:2", "socks": "http://c:3"}, "wss://face.example", "socks5h://c:3"),
        ({"socks": "socks5://c:3", "wss": "http://d:4"}, "wss://face.example", "http://d:4"),
        ({"https": "http://b:2", "no": "face.example"}, "wss://face.example", None),
        ({"https": "http://b:2", "no": "face.example:9"}, "wss://face.example:9", None),
        ({"http": "http://a:1"}, "ws://127.0.0.1:8765", None),
        ({"http": "http://a:1"}, "ws://127.1.2.3", None),
        ({"http": "http://a:1"}, "ws://[::1]:8765", None),
        ({"http": "http://a:1"}, "ws://localhost:8765", None),
        ({"http": "http://a:1"}, "ws://localhost.example", "http://a:1"),
    ],
)
def test_the_way_to_a_server(
    environment: pytest.MonkeyPatch, given: dict[str, str], url: str, proxy: str | None
) -> None:
    for kind, value in given.items():
        environment.setenv(f"{kind}_proxy", value)
    assert proxy_for(url) == proxy


@pytest.mark.asyncio
async def test_a_server_on_this_machine_is_reached_whatever_the_environment_says(
    environment: pytest.MonkeyPatch, synthetic_server: RunningServer
) -> None:
    for kind in ("ws", "http", "https", "all"):
        environment.setenv(f"{kind}_proxy", "socks5h://127.0.0.1:9")
    async with connect(synthetic_server.url, mode="file") as face:
        await face.end()
        assert [frame async for frame in face.frames()] == []
    assert read_once(Load(synthetic_server.url)) is not None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("socks5h://ada:secret@127.0.0.1:9", "through the proxy socks5h://127.0.0.1:9 ("),
        ("fax://127.0.0.1:9", "(scheme fax isn't supported); wanted one like http://HOST:PORT"),
        ("http://ada@127.0.0.1:9", "through the proxy http://127.0.0.1:9 (username"),
        ("http://127.0.0.1:nine", "through the proxy http://127.0.0.1:nine (Port"),
        ("127.0.0.1:9", "through the proxy 127.0.0.1:9 (scheme"),
    ],
)
async def test_a_proxy_that_cannot_be_is_named_without_its_password(
    environment: pytest.MonkeyPatch, proxy: str, says: str
) -> None:
    environment.setenv("ws_proxy", proxy)
    told = await refused("ws://face.example")
    assert told.startswith("cannot connect to ws://face.example/v1/stream through the proxy ")
    assert says in told and "secret" not in told


@pytest.mark.asyncio
async def test_a_proxy_where_nobody_listens_is_named(
    environment: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    environment.setenv("ws_proxy", f"http://ada:secret@127.0.0.1:{unused_tcp_port}")
    told = await refused("ws://face.example")
    assert f"through the proxy http://127.0.0.1:{unused_tcp_port} (" in told
    assert "is it running?" in told


@pytest.mark.asyncio
async def test_a_proxy_that_refuses_is_named(environment: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        environment.setenv("ws_proxy", f"http://127.0.0.1:{port}")
        told = await refused("ws://face.example")
    assert asked == [b"CONNECT face.example:80 HTTP/1.1\r\n"]
    assert f"through the proxy http://127.0.0.1:{port} (" in told and "403" in told


def test_a_proxy_is_shown_without_who_uses_it() -> None:
    assert redacted_proxy("http://ada:p@ss@proxy:1/") == "http://proxy:1/"
    assert redacted_proxy("ada:pass@proxy:1") == "proxy:1"

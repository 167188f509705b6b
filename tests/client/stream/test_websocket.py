"""WebSocket connections: addresses, proxies, and a real server."""

import asyncio
from typing import Any, get_args

import numpy as np
import pytest

from client import Frame, connect
from client.stream.websocket import proxy_for, redacted_proxy, stream_url
from kfusion import wire
from kfusion.errors import ConnectionFailed
from tests.client.events import all_events, of_type
from tests.client.memory_server import memory_transport
from tests.conftest import RunningServer, voice

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
    ("proxies", "url", "proxy"),
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
    environment: pytest.MonkeyPatch, proxies: dict[str, str], url: str, proxy: str | None
) -> None:
    for kind, value in proxies.items():
        environment.setenv(f"{kind}_proxy", value)
    assert proxy_for(url) == proxy


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
    message = await refused("ws://face.example")
    assert message.startswith("cannot connect to ws://face.example/v1/stream through the proxy ")
    assert says in message and "secret" not in message


def test_a_proxy_is_shown_without_who_uses_it() -> None:
    assert redacted_proxy("http://ada:p@ss@proxy:1/") == "http://proxy:1/"
    assert redacted_proxy("ada:pass@proxy:1") == "proxy:1"


# Addresses


@pytest.mark.parametrize(
    ("given_url", "stream"),
    [
        ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765/v1/stream"),
        ("wss://face.example/", "wss://face.example/v1/stream"),
        ("wss://face.example?token=a", "wss://face.example/v1/stream?token=a"),
        ("ws://host:1/behind/a/proxy", "ws://host:1/behind/a/proxy"),
    ],
)
def test_an_address_without_a_path_gets_the_protocols(given_url: str, stream: str) -> None:
    assert stream_url(given_url) == stream


@pytest.mark.parametrize(
    "url", ["http://host", "host:8765", "ws://", "ws://host:port", "ws://[::1", "ws://a..b"]
)
def test_what_is_no_address_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(ConnectionFailed, match="wanted one like ws://"):
        stream_url(url)


# A real server


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_a_server_on_the_network_answers_as_its_session_in_memory(
    synthetic_server: RunningServer, encoding: str
) -> None:
    sound = voice(12.0, rate=44_100)
    options: dict[str, Any] = {
        "mode": "file", "rate": 44_100, "encoding": encoding, "emotion": {"happy": 0.4},
        "outputs": get_args(wire.Output), "life": 0.7, "seed": 4,
    }  # fmt: skip
    streams: list[list[Any]] = []
    for transport in (None, memory_transport()):
        async with (
            asyncio.timeout(25),
            connect(synthetic_server.url, transport=transport, **options) as face,
        ):
            await face.send(sound[:200_000])
            await face.mark("here")
            await face.send(sound[200_000:])
            await face.end()
            streams.append(await all_events(face))
    frames = [of_type(Frame, events) for events in streams]
    for name in options["outputs"]:
        network, memory = (np.stack([getattr(f, name) for f in stream]) for stream in frames)
        np.testing.assert_allclose(network, memory, atol=1e-4)
    for events in streams:
        assert [(e.id, e.n) for e in of_type(wire.MarkReached, events)] == [("here", 137)]
        assert events[-1] == wire.End(360, 0, 12.0)

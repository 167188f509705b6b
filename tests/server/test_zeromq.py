"""Frames on ZeroMQ: real sockets, a real server, consumers that do their worst."""

from __future__ import annotations

import asyncio
import re
import socket as sockets
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
import zmq.asyncio
from zmq.auth import create_certificates, load_certificate
from zmq.utils.monitor import recv_monitor_message

from kfusion import wire
from kfusion.errors import BadOptions
from kfusion.landmarks import NEUTRAL_IDENTITY
from server.app import App
from server.config import ServerConfig
from server.metrics import Metrics
from server.session.rendering import FrameChunk, Rendering
from server.transports.zeromq_publish import Publisher
from server.transports.zeromq_sockets import Doors
from tests.conftest import RunningServer, eventually, start_server, stop_server, voice
from tests.system.raw_client import client as opened_at
from tests.system.raw_client import get, pcm
from tests.system.test_resume import Client, serving

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "zeromq.md").read_text(), re.DOTALL)
ANY_PORT = "tcp://127.0.0.1:*"


def block_with(text: str) -> str:
    (found,) = (b for b in BLOCKS if text in b)
    return found


@contextmanager
def context() -> Generator[zmq.asyncio.Context]:
    made = zmq.asyncio.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


class Listener:
    """A SUB, and the blocks that it has got."""

    def __init__(self, made: zmq.asyncio.Context, endpoint: str, **options: int) -> None:
        self.socket = made.socket(zmq.SUB)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.endpoint = endpoint
        self.got: list[tuple[str, wire.FrameBlock]] = []

    def to(self, *topics: str) -> Listener:
        for topic in topics:
            self.socket.subscribe(topic)
        self.socket.connect(self.endpoint)
        return self

    async def next(self) -> wire.FrameBlock:
        message = await asyncio.wait_for(self.socket.recv(), 20)
        topic, _, data = message.partition(b"\0")
        self.got.append((topic.decode(), wire.decode_frames(data)))
        return self.got[-1][1]

    async def until(self, end: int) -> None:
        """All frames below ``end``."""
        while True:
            block = await self.next()
            if block.first + len(block.values) >= end:
                return


def bytes_of(blocks: list[wire.FrameBlock]) -> list[tuple[str, int, bytes]]:
    """All of their messages but the clock."""
    return [(b.output, b.first, b.values.tobytes()) for b in blocks]


def blocks_of(client: Client) -> list[wire.FrameBlock]:
    return [m for m in client.received if isinstance(m, wire.FrameBlock)]


@asynccontextmanager
async def publishing(**config: Any) -> AsyncGenerator[tuple[App, Any, str, zmq.asyncio.Context]]:
    """A server in this process, how to open streams on it, where it publishes, a context."""
    with context() as made:
        async with serving(zmq=ANY_PORT, **config) as (app, opened):
            yield app, opened, publisher_of(app).endpoint, made


def publisher_of(app: App) -> Publisher:
    assert app.publisher is not None
    return app.publisher


async def seen(app: App, *topics: str) -> None:
    """The server knows of these subscriptions, and of no others."""
    publisher, wanted = publisher_of(app), {topic.encode() for topic in topics}
    await eventually(lambda: publisher.subscribed == wanted)


async def speak(client: Client, seconds: float, seed: int = 0) -> None:
    """A whole file, and what comes of it."""
    data = pcm(voice(seconds, seed=seed))

    async def send() -> None:
        for k in range(0, len(data), 1 << 19):
            await client.ws.send(data[k : k + (1 << 19)])
        await client.send(type="end")

    sending = asyncio.create_task(send())
    await client.rest()
    await sending


# What is published


@pytest.mark.asyncio
async def test_every_frame_comes_in_order_with_the_bytes_of_the_websocket() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", life=0.5, seed=4)
        listener = Listener(made, endpoint).to(f"{client.ready.session}/points")
        await seen(app, f"{client.ready.session}/points")
        listening = asyncio.create_task(listener.until(150))
        await client.send(type="mark", id="a")
        await client.ws.send(pcm(voice(1.03)))
        await client.send(type="mark", id="b")  # divides a hop
        await speak(client, 3.97)
        await listening
        assert bytes_of([b for _, b in listener.got]) == bytes_of(blocks_of(client))
        assert {topic for topic, _ in listener.got} == {f"{client.ready.session}/points"}
        assert f"kfusion_zmq_published_total {len(listener.got)}.0".encode() in app.figures()
        assert b"kfusion_zmq_subscriptions 1.0" in app.figures()


@pytest.mark.asyncio
async def test_a_session_in_json_is_published_in_binary_with_what_it_did_not_ask_for() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", encoding="json", outputs=["vrm"])
        name = client.ready.session
        listener = Listener(made, endpoint).to(f"{name}/points\0", f"{name}/arkit52", f"{name}/vrm")
        await seen(app, f"{name}/points\0", f"{name}/arkit52", f"{name}/vrm")
        listening = asyncio.create_task(listener.until(30))
        await speak(client, 1.0)
        await listening
        while len(listener.got) < 30:
            await listener.next()
        other = await opened(mode="file", outputs=["points", "arkit52", "vrm"])
        await speak(other, 1.0)
        assert bytes_of([b for _, b in listener.got]) == bytes_of(blocks_of(other))
        assert [topic for topic, _ in listener.got[:3]] == [
            f"{name}/{kind}" for kind in ("points", "arkit52", "vrm")
        ]


@pytest.mark.asyncio
async def test_nothing_is_computed_or_sent_that_nobody_subscribed_to() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        name = client.ready.session
        others = Listener(made, endpoint).to("other/points", f"{name}/points\0KFL2", f"{name}x")
        listener = Listener(made, endpoint).to(f"{name}/vrm")
        await seen(app, "other/points", f"{name}/points\0KFL2", f"{name}x", f"{name}/vrm")
        listening = asyncio.create_task(listener.until(30))
        await speak(client, 1.0)
        await listening
        assert {block.output for _, block in listener.got} == {"vrm"}
        assert b"kfusion_zmq_published_total 10.0" in app.figures()
        assert not await others.socket.poll(0)


@pytest.mark.asyncio
async def test_sessions_are_told_apart_and_who_leaves_is_sent_no_more() -> None:
    async with publishing() as (app, opened, endpoint, made):
        one, two = await opened(mode="file"), await opened(mode="file")
        everything = Listener(made, endpoint).to("")
        only = Listener(made, endpoint).to(f"{two.ready.session}/points")
        await seen(app, "", f"{two.ready.session}/points")
        listening = asyncio.create_task(only.until(60))
        await asyncio.gather(speak(one, 2.0, seed=1), speak(two, 2.0, seed=2))
        await listening
        assert bytes_of([b for _, b in only.got]) == bytes_of(blocks_of(two))
        while len(everything.got) < 120:
            await everything.next()
        for client in (one, two):
            topic = f"{client.ready.session}/points"
            of_it = [b for t, b in everything.got if t == topic]
            assert bytes_of(of_it) == bytes_of(blocks_of(client))
        for listener in (everything, only):
            listener.socket.close()
        await seen(app)
        await speak(await opened(mode="file"), 1.0)
        assert b"kfusion_zmq_published_total 120.0" in app.figures()


@pytest.mark.asyncio
async def test_after_a_reset_n_goes_on_where_the_session_says() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened()
        listener = Listener(made, endpoint).to(f"{client.ready.session}/points")
        await seen(app, f"{client.ready.session}/points")
        await client.ws.send(pcm(voice(1.01)))
        await client.frames_until(27)
        await client.send(type="reset")
        await client.ws.send(pcm(voice(1.0)))
        await client.send(type="end")
        await client.rest()
        (reset,) = [m for m in client.received if isinstance(m, wire.ResetDone)]
        await listener.until(61)
        numbers = [n for _, b in listener.got for n in range(b.first, b.first + len(b.values))]
        assert numbers == [*range(27), *range(reset.n, 61)]
        assert reset.n == 31


# Consumers that do not keep up


@pytest.mark.asyncio
async def test_who_wakes_after_five_seconds_of_frames_has_the_newest_at_once() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", hop=1)
        topic = f"{client.ready.session}/points"
        asleep = Listener(made, endpoint, CONFLATE=1).to(topic)
        awake = Listener(made, endpoint).to(topic, "all")
        await seen(app, topic, "all")
        listening = asyncio.create_task(awake.until(150))
        await speak(client, 5.0)
        await listening
        await asleep.until(150)
        assert len(asleep.got) <= 2  # one may still have been on its way


@pytest.mark.asyncio
async def test_a_consumer_that_never_reads_costs_no_one_else_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.transports.zeromq_publish.UNSENT", 100)
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        deaf = Listener(made, endpoint, RCVHWM=1, RCVBUF=4096).to("")
        listener = Listener(made, endpoint).to(topic)
        await seen(app, topic, "")
        listening = asyncio.create_task(listener.until(1500))
        await speak(client, 50.0)
        await listening
        for got in ([b for _, b in listener.got], blocks_of(client)):
            assert [b.first for b in got] == list(range(0, 1500, 3))
        while await deaf.socket.poll(300):  # what was kept for it
            await deaf.next()
        kept = [b.first for _, b in deaf.got]
        assert kept == sorted(kept) and 100 <= len(kept) < 1500


@pytest.mark.asyncio
async def test_a_websocket_that_is_not_read_does_not_delay_what_is_published() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(encoding="json")
        client.ws.transport.pause_reading()
        topic = f"{client.ready.session}/points"
        listener = Listener(made, endpoint).to(topic)
        await seen(app, topic)
        await client.ws.send(pcm(voice(2.2)))
        await client.send(type="end")
        await listener.until(66)
        assert [b.first for _, b in listener.got] == list(range(0, 66, 3))
        await client.abort()


@pytest.mark.asyncio
async def test_garbage_from_subscribers_is_nothing() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        hostile = made.socket(zmq.XSUB)
        hostile.connect(endpoint)
        for message in (
            b"",
            b"\0never",
            b"\2",
            b"\xff" * 400,
            b"\1\xff\0\xfe",
            b"\0" + topic.encode(),
        ):
            await hostile.send(message)
        await hostile.send_multipart([b"\1", b"\1more", b"junk"])
        longer = made.socket(zmq.XSUB)
        longer.connect(endpoint)
        await longer.send(b"\1" + bytes(100_000))
        with sockets.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        listener = Listener(made, endpoint).to(topic)
        publisher = publisher_of(app)
        wanted = {topic.encode(), b"\xff\0\xfe", b"more"}
        await eventually(lambda: wanted <= publisher.subscribed)
        listening = asyncio.create_task(listener.until(30))
        await speak(client, 1.0)
        await listening
        assert bytes_of([b for _, b in listener.got if b.output == "points"]) == bytes_of(
            blocks_of(client)
        )
        assert all(len(topic) < 512 for topic in publisher.subscribed)


@pytest.mark.asyncio
async def test_too_many_topics_are_forgotten_and_honest_subscribers_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.transports.zeromq_publish.MOST_TOPICS", 100)
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        listener = Listener(made, endpoint).to(topic)
        await seen(app, topic)
        publisher = publisher_of(app)
        before = publisher.socket
        hostile = made.socket(zmq.SUB)
        for k in range(150):
            hostile.subscribe(f"{k}")
        hostile.connect(endpoint)
        await eventually(lambda: publisher.socket is not before)
        hostile.close()
        listening = asyncio.create_task(listener.until(30))
        await seen(app, topic)
        await speak(client, 1.0)
        await listening
        assert bytes_of([b for _, b in listener.got]) == bytes_of(blocks_of(client))


# Keys and addresses


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """server and two clients, the first of which is let in."""
    (tmp_path / "clients").mkdir()
    for name in ("server", "known", "unknown"):
        create_certificates(tmp_path, name)
    (tmp_path / "known.key").rename(tmp_path / "clients" / "known.key")
    return tmp_path


async def handshake(listener: Listener) -> int:
    """How it ended, as its monitor tells."""
    monitor = listener.socket.get_monitor_socket()
    try:
        listener.to("x")
        async with asyncio.timeout(20):
            while True:
                event = (await recv_monitor_message(monitor))["event"]
                if event & (
                    zmq.EVENT_HANDSHAKE_SUCCEEDED
                    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
                    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
                ):
                    return int(event)
    finally:
        listener.socket.disable_monitor()
        monitor.close()


@pytest.mark.asyncio
async def test_with_keys_only_those_who_have_them_are_let_in(keys: Path) -> None:
    config = {"zmq_key": keys / "server.key_secret", "zmq_clients": keys / "clients"}
    async with publishing(**config) as (app, _, endpoint, made):
        server, _ = load_certificate(keys / "server.key")

        def listener(serverkey: bytes | None, name: str) -> Listener:
            made_one = Listener(made, endpoint)
            if serverkey:
                made_one.socket.curve_serverkey = serverkey
                public, secret = load_certificate(keys / f"{name}.key_secret")
                made_one.socket.curve_publickey, made_one.socket.curve_secretkey = public, secret
            return made_one

        wrong, _ = load_certificate(keys / "unknown.key")
        for serverkey, name in ((server, "unknown"), (wrong, "known"), (None, "")):
            stranger = listener(serverkey, name)
            assert await handshake(stranger) != zmq.EVENT_HANDSHAKE_SUCCEEDED
            stranger.socket.close()
        assert not publisher_of(app).subscribed
        friend = listener(server, "known")
        assert await handshake(friend) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        await seen(app, "x")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"zmq": "5560"}, "--zmq 5560 is no address; wanted an address like tcp://127.0.0.1:5560"),
        ({"zmq": "udp://127.0.0.1:5560"}, "is no address"),
        ({"zmq": "tcp://127.0.0.1"}, "is no address"),
        ({"zmq": "tcp://127.0.0.1:65536"}, "is no address"),
        ({"zmq": "tcp://[:5560"}, "is no address"),
        ({"zmq": "ipc://"}, "--zmq ipc:// is no address"),
        ({"zmq": "tcp://0.0.0.0:0"}, "wanted --zmq-key with it"),
        ({"zmq": "tcp://*:5560"}, "--zmq .* wanted --zmq-key with it"),
        ({"zmq": ANY_PORT, "token": "sesame"}, "asks nobody for the token"),
        ({"zmq": ANY_PORT, "zmq_key": Path("none")}, "--zmq-key none: cannot be used"),
        ({"zmq": ANY_PORT, "zmq_clients": Path("none")}, "without --zmq-key"),
        ({"zmq_key": Path("none")}, "protects nothing"),
    ],
)
def test_options_that_cannot_be_used_are_told(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadOptions, match=problem):
        Doors(ServerConfig(**options))


def test_key_files_that_cannot_be_used_are_told(keys: Path) -> None:
    def doors(key: Path, clients: Path | None = None) -> Doors:
        return Doors(ServerConfig(zmq="tcp://*:0", zmq_key=key, zmq_clients=clients))

    secret = keys / "server.key_secret"
    assert doors(secret).secret == load_certificate(secret)[1]
    assert doors(secret, keys / "clients").clients
    assert Doors(ServerConfig(zmq="tcp://*:0", insecure=True)).secret is None
    with pytest.raises(BadOptions, match=r"server.key: holds no secret key"):
        doors(keys / "server.key")
    with pytest.raises(BadOptions, match=r"no \.key files"):
        doors(secret, keys / "nowhere")
    (keys / "clients" / "broken.key").write_text('public-key = "short"\n')
    with pytest.raises(BadOptions, match=r"broken\.key: holds no public key"):
        doors(secret, keys / "clients")


def test_the_program_says_in_a_line_that_an_address_is_in_use() -> None:
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "server", "--port", "0", "--engine", "synthetic",
             "--zmq", address],
            capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
        )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last == f"kfusion-server: --zmq {address} is in use; wanted a free port"
    assert done.returncode == 2 and "ready" not in done.stdout


# The documentation, in other processes


async def metrics(server: RunningServer) -> bytes:
    return (await asyncio.to_thread(get, f"{server.http}/metrics"))[1]


@pytest.mark.asyncio
async def test_the_documented_consumers_run_as_they_stand() -> None:
    server = start_server("--engine", "synthetic", "--zmq", "tcp://127.0.0.1:0")
    try:
        (endpoint,) = re.findall(r"ZeroMQ: frames at (\S+)", "".join(server.lines))
        async with opened_at(server) as raw:
            name = raw.received[0].session
            block = block_with("CONFLATE").replace("tcp://127.0.0.1:5560", endpoint)
            consumer = subprocess.Popen(  # noqa: ASYNC220 - at once
                [sys.executable, "-W", "error", "-c", block, name],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            watchdog = asyncio.get_running_loop().call_later(30, consumer.kill)
            assert consumer.stdout is not None
            with consumer, context() as made:
                listener = Listener(made, endpoint).to(f"{name}/points")
                while b"kfusion_zmq_subscriptions 2.0" not in await metrics(server):
                    pass
                await raw.ws.send(pcm(voice(1.0)))
                await raw.send(type="end")
                await raw.rest()
                last = ""
                while not last.startswith(f"{name}/points 27 "):
                    last = await asyncio.to_thread(consumer.stdout.readline)
                    assert re.fullmatch(rf"{name}/points \d+ \(3, 136\)\n", last), last
                consumer.kill()
                names: dict[str, Any] = {"zmq": zmq}
                exec(block_with("def newest"), names)
                await asyncio.sleep(0)
                await listener.until(3)
                newest = names["newest"](zmq.Socket.shadow(listener.socket))
                (message,) = newest.values()
                assert struct.unpack_from("<HQ", message, 6) == (3, 27)
            watchdog.cancel()
    finally:
        assert stop_server(server) == 0, "".join(server.lines)


def test_without_subscribers_a_hop_costs_next_to_nothing() -> None:
    """A comparison and a look at an empty tuple."""
    doors = Doors(ServerConfig(zmq=ANY_PORT))
    publisher = Publisher(doors, Metrics())
    try:
        tap = publisher.tap("a")
        asked: list[str] = []

        class Asked(FrameChunk):
            def render(self, outputs: tuple[wire.Output, ...] | None = None) -> dict[Any, Any]:
                asked.extend(outputs or ())
                return {}

        frames = Asked(0, np.zeros((3, 68, 2), np.float32), Rendering(NEUTRAL_IDENTITY))
        tap(frames, 0)
        assert not asked
        publisher.subscribed.add(b"a/points")
        publisher.version += 1
        tap(frames, 0)
        assert asked == ["points"]
    finally:
        publisher.close()
        doors.close()

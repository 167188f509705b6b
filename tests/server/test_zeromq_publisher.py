"""Frames on ZeroMQ: real sockets, a real server, slow and hostile subscribers."""

from __future__ import annotations

import asyncio
import socket as sockets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio

from kfusion import wire
from server.app import App
from server.config import Bounds
from server.transports.zeromq_publisher import Publisher
from tests.conftest import eventually, voice
from tests.system.raw_client import pcm
from tests.system.test_resume import Client, serving

pytestmark = pytest.mark.asyncio

ANY_PORT = "tcp://127.0.0.1:*"


@contextmanager
def context() -> Generator[zmq.asyncio.Context]:
    made = zmq.asyncio.Context()
    try:
        yield made
    finally:
        made.destroy(linger=0)


class Subscriber:
    """A SUB socket, and the blocks that it has received."""

    def __init__(self, made: zmq.asyncio.Context, endpoint: str, **options: int) -> None:
        self.socket = made.socket(zmq.SUB)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.endpoint = endpoint
        self.got: list[tuple[str, wire.FrameBlock]] = []

    def to(self, *topics: str) -> Subscriber:
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
    """All fields but the clock."""
    return [(b.output, b.first, b.values.tobytes()) for b in blocks]


def blocks_of(client: Client) -> list[wire.FrameBlock]:
    return [m for m in client.received if isinstance(m, wire.FrameBlock)]


@asynccontextmanager
async def publishing(**config: Any) -> AsyncGenerator[tuple[App, Any, str, zmq.asyncio.Context]]:
    """A server in this process, how to open streams on it, where it publishes, a context."""
    with context() as made:
        async with serving(zmq=ANY_PORT, **config) as (app, opened):
            yield app, opened, publisher_of(app).address, made


def publisher_of(app: App) -> Publisher:
    assert app.publisher is not None
    return app.publisher


async def subscribed(app: App, *topics: str) -> None:
    """Waits until the server has these subscriptions, and no others."""
    publisher, expected = publisher_of(app), {topic.encode() for topic in topics}
    await eventually(lambda: publisher.subscribed == expected)


# What is published


async def test_every_frame_comes_in_order_with_the_bytes_of_the_websocket() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", life=0.5, seed=4)
        subscriber = Subscriber(made, endpoint).to(f"{client.ready.session}/points")
        await subscribed(app, f"{client.ready.session}/points")
        await client.send(type="mark", id="a")
        await client.ws.send(pcm(voice(1.03)))
        await client.send(type="mark", id="b")  # divides a hop
        await asyncio.gather(subscriber.until(150), client.stream(voice(3.97)))
        assert bytes_of([b for _, b in subscriber.got]) == bytes_of(blocks_of(client))
        assert {topic for topic, _ in subscriber.got} == {f"{client.ready.session}/points"}
        assert (
            f"kfusion_zmq_published_total {len(subscriber.got)}.0".encode()
            in app.registry.figures()
        )
        assert b"kfusion_zmq_subscriptions 1.0" in app.registry.figures()


async def test_a_session_in_json_is_published_in_binary_with_what_it_did_not_ask_for() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", encoding="json", outputs=["vrm"])
        name = client.ready.session
        subscriber = Subscriber(made, endpoint).to(
            f"{name}/points\0", f"{name}/arkit52", f"{name}/vrm"
        )
        await subscribed(app, f"{name}/points\0", f"{name}/arkit52", f"{name}/vrm")
        await asyncio.gather(subscriber.until(30), client.stream(voice(1.0)))
        while len(subscriber.got) < 30:
            await subscriber.next()
        other = await opened(mode="file", outputs=["points", "arkit52", "vrm"])
        await other.stream(voice(1.0))
        assert bytes_of([b for _, b in subscriber.got]) == bytes_of(blocks_of(other))
        assert [topic for topic, _ in subscriber.got[:3]] == [
            f"{name}/{kind}" for kind in ("points", "arkit52", "vrm")
        ]


async def test_nothing_is_computed_or_sent_that_nobody_subscribed_to() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        name = client.ready.session
        others = Subscriber(made, endpoint).to("other/points", f"{name}/points\0KFL2", f"{name}x")
        subscriber = Subscriber(made, endpoint).to(f"{name}/vrm")
        await subscribed(app, "other/points", f"{name}/points\0KFL2", f"{name}x", f"{name}/vrm")
        await asyncio.gather(subscriber.until(30), client.stream(voice(1.0)))
        assert {block.output for _, block in subscriber.got} == {"vrm"}
        assert b"kfusion_zmq_published_total 10.0" in app.registry.figures()
        assert not await others.socket.poll(0)


async def test_sessions_are_told_apart_and_who_leaves_is_sent_no_more() -> None:
    async with publishing() as (app, opened, endpoint, made):
        one, two = await opened(mode="file"), await opened(mode="file")
        everything = Subscriber(made, endpoint).to("")
        only = Subscriber(made, endpoint).to(f"{two.ready.session}/points")
        await subscribed(app, "", f"{two.ready.session}/points")
        await asyncio.gather(
            only.until(60), one.stream(voice(2.0, seed=1)), two.stream(voice(2.0, seed=2))
        )
        assert bytes_of([b for _, b in only.got]) == bytes_of(blocks_of(two))
        while len(everything.got) < 120:
            await everything.next()
        for client in (one, two):
            topic = f"{client.ready.session}/points"
            of_it = [b for t, b in everything.got if t == topic]
            assert bytes_of(of_it) == bytes_of(blocks_of(client))
        for subscriber in (everything, only):
            subscriber.socket.close()
        await subscribed(app)
        await (await opened(mode="file")).stream(voice(1.0))
        assert b"kfusion_zmq_published_total 120.0" in app.registry.figures()


# Slow and hostile subscribers


async def test_who_wakes_after_five_seconds_of_frames_has_the_newest_at_once() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file", hop=1)
        topic = f"{client.ready.session}/points"
        asleep = Subscriber(made, endpoint, CONFLATE=1).to(topic)
        awake = Subscriber(made, endpoint).to(topic, "all")
        await subscribed(app, topic, "all")
        await asyncio.gather(awake.until(150), client.stream(voice(5.0)))
        await asleep.until(150)
        assert len(asleep.got) <= 2  # one may still have been on its way


async def test_a_consumer_that_never_reads_costs_no_one_else_a_frame() -> None:
    async with publishing(bounds=Bounds(zmq_queue=100)) as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        deaf = Subscriber(made, endpoint, RCVHWM=1, RCVBUF=4096).to("")
        subscriber = Subscriber(made, endpoint).to(topic)
        await subscribed(app, topic, "")
        await asyncio.gather(subscriber.until(1500), client.stream(voice(50.0)))
        for got in ([b for _, b in subscriber.got], blocks_of(client)):
            assert [b.first for b in got] == list(range(0, 1500, 3))
        while await deaf.socket.poll(300):  # what was kept for it
            await deaf.next()
        kept = [b.first for _, b in deaf.got]
        assert kept == sorted(kept) and 100 <= len(kept) < 1500


async def test_a_websocket_that_is_not_read_does_not_delay_what_is_published() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(encoding="json")
        client.ws.transport.pause_reading()
        topic = f"{client.ready.session}/points"
        subscriber = Subscriber(made, endpoint).to(topic)
        await subscribed(app, topic)
        await client.ws.send(pcm(voice(2.2)))
        await client.send(type="end")
        await subscriber.until(66)
        assert [b.first for _, b in subscriber.got] == list(range(0, 66, 3))
        await client.abort()


async def test_garbage_from_subscribers_is_nothing() -> None:
    async with publishing() as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        hostile = made.socket(zmq.XSUB)
        hostile.connect(endpoint)
        garbage = (b"", b"\0never", b"\2", b"\xff" * 400, b"\1\xff\0\xfe", b"\0" + topic.encode())
        for message in garbage:
            await hostile.send(message)
        await hostile.send_multipart([b"\1", b"\1more", b"junk"])
        longer = made.socket(zmq.XSUB)
        longer.connect(endpoint)
        await longer.send(b"\1" + bytes(100_000))
        with sockets.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(1000))
        subscriber = Subscriber(made, endpoint).to(topic)
        publisher = publisher_of(app)
        expected = {topic.encode(), b"\xff\0\xfe", b"more"}
        await eventually(lambda: expected <= publisher.subscribed)
        await asyncio.gather(subscriber.until(30), client.stream(voice(1.0)))
        assert bytes_of([b for _, b in subscriber.got if b.output == "points"]) == bytes_of(
            blocks_of(client)
        )
        assert all(len(topic) < 512 for topic in publisher.subscribed)


async def test_too_many_topics_are_forgotten_and_honest_subscribers_come_back() -> None:
    async with publishing(bounds=Bounds(zmq_topics=100)) as (app, opened, endpoint, made):
        client = await opened(mode="file")
        topic = f"{client.ready.session}/points"
        subscriber = Subscriber(made, endpoint).to(topic)
        await subscribed(app, topic)
        publisher = publisher_of(app)
        before = publisher.socket
        hostile = made.socket(zmq.SUB)
        for k in range(150):
            hostile.subscribe(f"{k}")
        hostile.connect(endpoint)
        await eventually(lambda: publisher.socket is not before)
        hostile.close()
        receiving = asyncio.create_task(
            subscriber.until(30)
        )  # a socket reconnects while it is read
        await subscribed(app, topic)
        await client.stream(voice(1.0))
        await receiving
        assert bytes_of([b for _, b in subscriber.got]) == bytes_of(blocks_of(client))

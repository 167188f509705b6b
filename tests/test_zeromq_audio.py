"""Streams over ZeroMQ: what a WebSocket would be told, in parts of two."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
import zmq.asyncio

from kfusion import wire
from server.app import App
from tests.conftest import eventually, start_server, stop_server, voice
from tests.test_resume import Client, serving
from tests.test_server import pcm
from tests.test_zeromq import ANY_PORT, block_with, bytes_of, context


class Dealer:
    """A bare peer: what it was sent, in order, and how it was closed."""

    def __init__(self, made: zmq.asyncio.Context, endpoint: str, **options: int | bytes) -> None:
        self.socket = made.socket(zmq.DEALER)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.socket.connect(endpoint)
        self.out: list[Any] = []
        self.closed = ""

    async def say(self, **message: Any) -> None:
        await self.give(b"t", json.dumps(message).encode())

    async def give(self, *parts: bytes) -> None:
        await self.socket.send_multipart(parts)

    async def next(self) -> Any:
        """The next message; None for the close."""
        kind, payload = await asyncio.wait_for(self.socket.recv_multipart(), 20)
        assert kind in (b"t", b"b", b"c"), kind
        if kind == b"c":
            self.closed = payload.decode()
            return None
        seen = wire.decode_frames(payload) if kind == b"b" else wire.parse_server(payload.decode())
        self.out.append(seen)
        return seen

    async def until(self, kind: type[Any]) -> Any:
        while not isinstance(seen := await self.next(), kind):
            assert seen is not None, self.closed
        return seen

    async def rest(self) -> None:
        while await self.next() is not None:
            pass

    async def start(self, **fields: Any) -> wire.Ready:
        await self.say(type="start", **{"encoding": "binary", **fields})
        ready = await self.next()
        assert isinstance(ready, wire.Ready), ready
        return ready

    @property
    def blocks(self) -> list[wire.FrameBlock]:
        return [m for m in self.out if isinstance(m, wire.FrameBlock)]

    @property
    def codes(self) -> list[str]:
        return [m.code for m in self.out if isinstance(m, wire.Error)]


class Place:
    """A server in this process, and how to reach it both ways."""

    def __init__(self, app: App, opened: Any, made: zmq.asyncio.Context) -> None:
        assert app.dealers is not None
        self.app, self.opened, self.made = app, opened, made
        self.dealers = app.dealers

    def dealer(self, **options: int | bytes) -> Dealer:
        return Dealer(self.made, self.dealers.endpoint, **options)


@asynccontextmanager
async def taking(**config: Any) -> AsyncGenerator[Place]:
    with context() as made:
        async with serving(zmq_audio=ANY_PORT, **config) as (app, opened):
            yield Place(app, opened, made)


# The same stream


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["binary", "json"])
async def test_a_dealer_is_sent_what_a_websocket_is(encoding: str) -> None:
    async with taking() as place:
        start = {"encoding": encoding, "outputs": ["points", "vrm"], "emotion": {"sad": 0.4}}
        dealer, client = place.dealer(), await place.opened(**start)
        await dealer.start(**start)
        sound = pcm(voice(1.5))
        for k in range(0, len(sound), 1280):
            await dealer.give(b"b", sound[k : k + 1280])
            await client.ws.send(sound[k : k + 1280])
        for message in ({"type": "mark", "id": "a"}, {"type": "silence", "samples": 4000}):
            await dealer.say(**message)
            await client.say(**message)
        await dealer.say(type="end")
        await client.say(type="end")
        await asyncio.gather(dealer.rest(), client.rest())
        assert dealer.closed == "1000 end" and client.ws.close_code == 1000
        assert said(dealer) == said(client) and len(said(dealer)) > 15
        assert dealer.out[-1] == wire.End(53, 0, 1.75)
        await eventually(lambda: b"kfusion_streams 0.0" in place.app.figures())
        assert not place.dealers.peers and b"kfusion_connections 0.0" in place.app.figures()


def said(one: Dealer | Client) -> list[Any]:
    """All but the ready, and a binary message's clock."""
    return [
        bytes_of([m]) if isinstance(m, wire.FrameBlock) else m
        for m in one.out
        if not isinstance(m, wire.Ready)
    ]


@pytest.mark.asyncio
async def test_a_file_is_refused_for_nobody_can_be_made_to_wait() -> None:
    async with taking() as place:
        dealer = place.dealer()
        await dealer.say(type="start", mode="file")
        await dealer.rest()
        assert dealer.codes == ["bad_message"] and dealer.closed == "4400 bad_message"
        assert "wanted live" in dealer.out[0].message
        client = await place.opened(mode="file")
        dealer = place.dealer()
        await dealer.say(type="start", resume={"token": client.ready.resume, "next": 0})
        await dealer.rest()
        assert dealer.codes == ["bad_message"] and dealer.closed == "4400 bad_message"
        await client.ws.send(pcm(voice(1.0)))  # and goes on as it was
        await client.frames_until(27)


# What is no message


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((b"",), "bad_message"),
        ((b"t",), "bad_message"),
        ((b"", b"t", b'{"type": "start"}'), "bad_message"),  # a REQ
        ((b"x", b'{"type": "start"}'), "bad_message"),
        ((b"p", b""), "bad_message"),
        ((b"t" * 4000, b""), "bad_message"),
        ((b"t", b"\xff\xfe"), "bad_message"),
        ((b"t", b'{"type": "start", "hop": 4}'), "bad_message"),
        ((b"t", b'{"type": "end"}'), "not_started"),
        ((b"t", b'{"type": "start", "resume": {"token": "x", "next": 0}}'), "unknown_session"),
    ],
)
async def test_garbage_is_answered_with_the_protocols_errors(
    parts: tuple[bytes, ...], code: str
) -> None:
    async with taking() as place:
        first = place.dealer()
        await first.give(*parts)
        await first.rest()
        assert first.codes == [code] and first.closed == f"4400 {code}"
        assert len(first.out[0].message) <= 500
        later = place.dealer()
        await later.start()
        if parts[0] in (b"t", b"p", b"x", b"") and code == "bad_message":
            await later.give(*parts)
            error = await later.next()
            assert (error.code, error.fatal) == (code, False)
        await later.give(b"b", pcm(voice(1.0)))
        await later.say(type="end")
        await later.rest()
        assert later.closed == "1000 end" and later.out[-1].frames == 30


@pytest.mark.asyncio
async def test_a_closed_connection_is_not_heard_any_more() -> None:
    async with taking() as place:
        dealer = place.dealer()
        await dealer.give(b"t", b"{")
        await dealer.rest()
        await eventually(lambda: not place.dealers.peers)
        await dealer.say(type="start")
        other = place.dealer()
        await other.start()
        assert len(place.dealers.peers) == 1 and not await dealer.socket.poll(0)


@pytest.mark.asyncio
async def test_a_socket_with_a_name_of_its_own_is_told_so() -> None:
    async with taking() as place:
        dealer = place.dealer(IDENTITY=b"robot")
        await dealer.say(type="start")
        await dealer.rest()
        assert dealer.codes == ["bad_message"] and "ZMQ_IDENTITY" in dealer.out[0].message
        assert not place.dealers.peers


@pytest.mark.asyncio
async def test_a_message_over_the_limit_ends_the_connection_and_the_session_can_be_resumed() -> (
    None
):
    async with taking() as place:
        dealer = place.dealer()
        ready = await dealer.start()
        await dealer.give(b"b", bytes(wire.MESSAGE_BYTES + 2))
        again = place.dealer()
        await again.say(type="start", resume={"token": ready.resume, "next": 0})
        resumed = await again.next()
        assert isinstance(resumed, wire.Ready) and resumed.session == ready.session
        assert resumed.audio_position == 0


# Places, losses, ends


@pytest.mark.asyncio
async def test_places_are_those_of_all_streams_and_given_back_by_who_leaves() -> None:
    async with taking(max_sessions=1) as place:
        first, second = place.dealer(), place.dealer()
        await first.start()
        await second.say(type="start")
        await second.rest()
        assert second.codes == ["busy"] and second.closed == "1013 5"
        await first.give(b"c", b"")
        await eventually(lambda: b"kfusion_streams 0.0" in place.app.figures())
        client = await place.opened()
        await client.say(type="mark", id="in")
        await client.until(wire.MarkReached)


@pytest.mark.asyncio
async def test_too_many_connections_are_busy_and_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.app.UNSTARTED", 0)
    monkeypatch.setattr("server.zeromq_audio.CLOSED", 3)
    async with taking(max_sessions=1) as place:
        first = place.dealer()
        await first.start()
        for _ in range(5):
            dealer = place.dealer()
            await dealer.say(type="start")
            await dealer.rest()
            assert dealer.codes == ["busy"] and dealer.closed == "1013 5"
        assert len(place.dealers.peers) == 1 and len(place.dealers.closed) == 3


@pytest.mark.asyncio
async def test_a_stream_goes_on_over_another_connection_of_either_kind() -> None:
    async with taking() as place:
        sound = pcm(voice(2.0))
        half = len(sound) // 2
        dealer = place.dealer()
        ready = await dealer.start()
        await dealer.give(b"b", sound[:half])
        while not dealer.blocks or dealer.blocks[-1].first < 24:
            await dealer.next()
        other = place.dealer()
        await other.say(type="start", resume={"token": ready.resume, "next": 12})
        ready = await other.next()
        assert (ready.n, ready.audio_position) == (12, 16_000)
        await dealer.rest()
        assert dealer.closed == "4409 resumed by another connection"
        while not other.blocks or other.blocks[-1].first < 24:
            await other.next()
        client = await place.opened()
        ready = await client.ask(ready.resume, 27)
        await client.ws.send(sound[half:])
        await client.say(type="end")
        await client.rest()
        assert client.frames == list(range(27, 60))
        await other.rest()
        assert other.closed.startswith("4409") and other.blocks[0].first == 12


@pytest.mark.asyncio
async def test_a_peer_that_has_gone_is_noticed_and_its_session_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.zeromq_audio.PING_S", 0.05)
    async with taking() as place:
        dealer = place.dealer()
        await dealer.start()
        dealer.socket.close(linger=0)
        await eventually(lambda: b"kfusion_sessions_kept 1.0" in place.app.figures())
        assert not place.dealers.peers


@pytest.mark.asyncio
async def test_a_peer_that_does_not_read_loses_its_own_frames_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.session.AHEAD_S", 1000.0)  # all is computed at once
    async with taking() as place:
        deaf = place.dealer(RCVHWM=1, RCVBUF=4096)
        everything = {"encoding": "json", "outputs": ["points", "arkit52"]}
        await deaf.say(type="start", **everything)
        (peer,) = await peers(place, 1)
        session = peer.driver.session
        for _ in range(4):
            await deaf.say(type="silence", samples=16_000 * 10)
        await eventually(lambda: session.outbox.dropped.get("slow_reader", 0) > 0)
        dealer = place.dealer()
        await dealer.start()
        await dealer.give(b"b", pcm(voice(1.0)))
        await dealer.say(type="end")
        await dealer.rest()
        assert len(dealer.blocks) == 10 and dealer.out[-1] == wire.End(30, 0, 1.0)
        deaf.socket.close()
        await eventually(lambda: not place.dealers.peers)


async def peers(place: Place, count: int) -> list[Any]:
    await eventually(lambda: len(place.dealers.peers) == count)
    return list(place.dealers.peers.values())


@pytest.mark.asyncio
async def test_while_the_server_is_late_who_sends_too_much_is_told_and_in_the_end_closed() -> None:
    async with taking() as place:
        honest, flood = place.dealer(), place.dealer()
        await honest.start()
        await flood.start()
        place.app.lateness.late = lambda: True
        for _ in range(3000):
            await flood.give(b"b", b"\0\0")
        await flood.rest()
        assert set(flood.codes) == {"too_fast"} and flood.closed == "4400 too_fast"
        await honest.give(b"b", pcm(voice(1.0)))
        await honest.say(type="end")
        await honest.rest()
        assert honest.closed == "1000 end" and not honest.codes


def test_the_documented_stream_runs_as_it_stands_and_a_stopped_server_finishes() -> None:
    server = start_server("--engine", "synthetic", "--zmq-audio", "tcp://127.0.0.1:0")
    try:
        (endpoint,) = [x.split()[-1] for x in server.lines if x.startswith("ZeroMQ: streams at")]
        block = block_with("zmq.DEALER").replace("tcp://127.0.0.1:5561", endpoint)
        done = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", block],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines[0].startswith('t {"type":"ready"') and lines[-1] == "c 1000 end"
        assert lines[1:-2] == ["b 1656"] * 10
        with zmq.Context() as made, made.socket(zmq.DEALER) as dealer:
            dealer.connect(endpoint)
            dealer.send_multipart([b"t", b'{"type": "start", "encoding": "binary"}'])
            dealer.send_multipart([b"b", pcm(voice(1.0))])
            got = [dealer.recv_multipart() for _ in range(2)]
            assert stop_server(server) == 0
            while got[-1][0] != b"c":
                got.append(dealer.recv_multipart())
            assert sum(kind == b"b" for kind, _ in got) == 10
            assert got[-1][1] == b"1001 the server is stopping"
    finally:
        server.process.kill()

"""Clients behind a relay that loses their connections: real sockets, a server in this process."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from client import Backoff, Face, Frame, Reconnecting, Resumed, connect
from kfusion import wire
from kfusion.runtime import Animator, SyntheticEngine
from server.app import App
from tests.client.events import frame_numbers, of_type, stacked_points
from tests.conftest import eventually, voice
from tests.system.raw_client import running_app

pytestmark = pytest.mark.asyncio

RATE = 16_000
ROOT = Path(__file__).resolve().parents[2]


def offline(sound: NDArray[np.float32], rate: int = RATE) -> NDArray[np.float32]:
    return Animator(SyntheticEngine()).animate(sound, rate)


class Relay:
    """Carries bytes to a server and back, until its connections are cut, held, or refused."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.wires: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.held: set[asyncio.StreamWriter] = set()
        self.lost = b""  # of what the server sent on held connections
        self.carried = 0  # bytes of the server's
        self.cut_at: list[int] = []  # ... after which the connections are cut
        self.refuses = False

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.wires.append((writer, back))
        for come, go in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pump(come, go))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pump(self, come: asyncio.StreamReader, go: asyncio.StreamWriter) -> None:
        try:
            while data := await come.read(1 << 14):
                from_server = any(go is client for client, _ in self.wires)
                if go not in self.held:
                    go.write(data)
                    await go.drain()
                    self.carried += len(data) * from_server
                elif from_server:
                    self.lost += data
                if self.cut_at and self.carried >= self.cut_at[0]:
                    del self.cut_at[0]
                    self.cut()
        except ConnectionError:
            pass
        if go not in self.held:
            go.transport.abort()

    def cut(self) -> None:
        for pair in self.wires:
            for writer in pair:
                writer.transport.abort()

    def hold(self) -> None:
        """Half open from now on: nothing comes through, and no end is told."""
        self.held.update(writer for pair in self.wires for writer in pair)


@asynccontextmanager
async def serving(**config: Any) -> AsyncGenerator[tuple[App, Relay, str]]:
    """A server in this process behind a relay, and the relay's address."""
    async with running_app(**config) as (app, port):
        relay = Relay(port)
        listening = await asyncio.start_server(relay.carry, "127.0.0.1", 0)
        try:
            yield app, relay, f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finally:
            relay.cut()
            listening.close()
            await asyncio.gather(*relay.tasks)


async def read(face: Face, at: dict[int, Any]) -> list[Any]:
    """All events; does what stands ``at`` a frame when that has come."""
    events: list[Any] = []
    async for event in face.events():
        events.append(event)
        if isinstance(event, Frame) and event.n in at:
            at.pop(event.n)()
    return events


@pytest.mark.parametrize(("encoding", "seed"), [("json", 1), ("binary", 2)])
async def test_a_file_through_cut_sockets_is_the_offline_call(encoding: Any, seed: int) -> None:
    sound, places = voice(20.0, seed=seed), np.random.default_rng(seed).integers(0, 590, 6)
    names = [f"{k}" for k in range(40)]

    async def say(face: Face) -> None:
        for k, name in enumerate(names):
            await face.send(sound[8000 * k : 8000 * (k + 1)])
            await face.mark(name)
        await face.end()

    # A cut after the last message leaves a finished session, which waits for its client that long.
    limits = wire.Limits(resume_s=5.0)
    async with (
        asyncio.timeout(60),
        serving(limits=limits) as (app, relay, url),
        connect(
            url, mode="file", format="f32le", encoding=encoding, reconnect=Backoff(first_s=0.01)
        ) as face,
    ):
        saying = asyncio.create_task(say(face))
        events = await read(face, {int(n): relay.cut for n in places})
        await saying
        resumed = len(of_type(Resumed, events))
        assert resumed > 1
        assert f"kfusion_sessions_resumed_total {resumed}.0".encode() in app.metrics.text()
        await eventually(lambda: not app.registry.tokens.by_key and not app.registry.tokens.lost)
        figures = app.registry.figures()
        assert b"kfusion_streams 0.0" in figures and b"kfusion_sessions_kept 0.0" in figures
    np.testing.assert_allclose(stacked_points(events), offline(sound), atol=1e-4)
    assert frame_numbers(events) == list(range(600))
    marks = [(e.id, e.n) for e in of_type(wire.MarkReached, events)]
    assert marks == [(name, 15 * (k + 1)) for k, name in enumerate(names)]
    assert not of_type(wire.Error, events)


async def test_a_half_open_connection_is_left_and_the_old_one_closed() -> None:
    sound = voice(10.0)
    async with (
        asyncio.timeout(30),
        serving(max_sessions=1) as (_, relay, url),
        connect(url, mode="file", format="f32le") as face,
    ):
        face.connection.timeout_s = 0.2
        await face.send(sound[: 5 * RATE])
        await face.mark("half way")

        async def on() -> None:
            await face.send(sound[5 * RATE :])
            await face.end()

        tasks: list[asyncio.Task[None]] = []

        def hold() -> None:
            relay.hold()
            tasks.append(asyncio.create_task(on()))

        events = await read(face, {100: hold})
        await asyncio.gather(*tasks)
        async with asyncio.timeout(5):
            while b"\x11\x39" not in relay.lost:  # noqa: ASYNC110 - 4409, as a close says it
                await asyncio.sleep(0.01)
        assert relay.lost.endswith(b"\x11\x39resumed by another connection")
    np.testing.assert_allclose(stacked_points(events), offline(sound), atol=1e-4)
    assert [(e.id, e.n) for e in of_type(wire.MarkReached, events)] == [("half way", 150)]
    assert "nothing came for 0.2 s" in of_type(Reconnecting, events)[0].why


async def test_the_command_for_files_goes_on_and_says_so(tmp_path: Path) -> None:
    sound = voice(40.0)
    soundfile.write(tmp_path / "speech.wav", sound, RATE, subtype="FLOAT")
    async with asyncio.timeout(60), serving() as (_, relay, url):
        relay.cut_at = [100_000, 400_000]  # of 650 kB of frames
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "client", "file", tmp_path / "speech.wav",
            "--url", url, "--out", tmp_path / "frames.jsonl",
            stderr=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        _, stderr = await client.communicate()
    lines = [line.split(" after ")[0].split(" in ")[0] for line in stderr.decode().splitlines()]
    lost, back = "connection lost, trying again", "connected again"
    assert lines == [f"kfusion-client: {what}" for what in (lost, back, lost, back)]
    assert client.returncode == 0
    rows = [json.loads(row) for row in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert [row["n"] for row in rows] == list(range(1200))
    np.testing.assert_allclose([row["points"] for row in rows], offline(sound), atol=1e-4)

"""A server that is told to stop: streams are finished, clients told, and the process ends well."""

import asyncio
import json
import socket
import time

import numpy as np
import pytest
from websockets.asyncio.client import connect

from kfusion import wire
from tests.conftest import narrow_socket, start_server, stop_server, voice
from tests.system.raw_client import RawClient, client, get, pcm

pytestmark = pytest.mark.asyncio


@pytest.mark.live
async def test_streams_are_finished_and_told_within_ten_seconds() -> None:
    server = start_server("--engine", "synthetic")
    narrow = narrow_socket(server.port)
    async with (
        client(server) as live,
        client(server, mode="file") as file,
        client(server, start=False) as silent,
        connect(server.url, sock=narrow, max_queue=1, ping_interval=None) as ws,
    ):
        deaf = RawClient(ws)  # reads nothing of a minute's frames
        await deaf.send(type="start", mode="file", encoding="json", hop=30, lookahead=0)
        for _ in range(60):
            await ws.send(pcm(voice(1.0)))
        await live.ws.send(pcm(voice(8.0)))  # six seconds of it are held for later
        await file.ws.send(pcm(voice(3.0)))
        await live.until(wire.FrameBlock)
        await file.until(wire.FrameBlock)
        began = time.monotonic()
        status = asyncio.create_task(asyncio.to_thread(stop_server, server))
        for raw, frames in ((live, 240), (file, 90)):
            await raw.rest()
            assert raw.received[-1] == wire.End(frames, 0, frames / 30)
            assert len(raw.points) == frames and raw.ws.close_code == 1001
        await silent.rest()
        assert silent.codes == ["busy"] and silent.ws.close_code == 1013
        assert time.monotonic() - began < 3
        assert await status == 0
        assert time.monotonic() - began < 10
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.live
async def test_who_has_connected_and_says_nothing_is_not_waited_for() -> None:
    server = start_server("--engine", "synthetic")
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        began = time.monotonic()
        assert await asyncio.to_thread(stop_server, server) == 0
        assert time.monotonic() - began < 5
        assert silent.recv(1) == b""


async def test_what_happens_is_logged_for_machines_without_what_was_said() -> None:
    server = start_server("--engine", "synthetic", "--log-format", "json", "--token", "sesame")
    try:
        async with connect(f"{server.url}?token=sesame") as ws:
            raw = RawClient(ws)
            await raw.send(type="start", encoding="binary", mode="file")
            ready = await raw.next()
            await ws.send(pcm(np.full(16_000, 0.25, np.float32)))
            await raw.send(type="end")
            await raw.rest()
        status, body, _ = await asyncio.to_thread(get, f"{server.http}/metrics")
    finally:
        assert stop_server(server) == 0
    events = [json.loads(line) for line in server.lines if line.startswith("{")]
    ended = next(e for e in events if e.get("event") == "stream ended")
    assert (ended["session"], ended["mode"], ended["seconds"]) == (ready.session, "file", 1.0)
    assert (ended["sent"], ended["dropped"], ended["errors"]) == (30, 0, 0)
    text = "".join(server.lines)
    assert "sesame" not in text and ready.resume not in text
    assert status == 200
    for name in (b"process_cpu_seconds_total", b"kfusion_capacity_windows", b"kfusion_frames_sent"):
        assert name in body

"""Real server processes, spoken to over real sockets by a client that is not our SDK."""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from kfusion import wire
from kfusion.landmarks import NEUTRAL
from kfusion.runtime import Animator
from tests.conftest import RunningServer, narrow_socket, start_server, stop_server, voice
from tests.system.raw_client import RawClient, client, get, pcm, stream_file

# Plain HTTP


def test_plain_http_answers(synthetic_server: RunningServer) -> None:
    base = synthetic_server.http
    assert get(f"{base}/health")[0] == 200
    assert get(f"{base}/ready")[0] == 200
    status, body, headers = get(f"{base}/metrics")
    assert status == 200 and b"kfusion_streams" in body
    assert headers["Content-Type"].startswith("text/plain")
    status, body, _ = get(f"{base}/v1/schema.json")
    assert status == 200 and "$defs" in json.loads(body)
    status, body, headers = get(f"{base}/")
    assert status == 200 and b"<html" in body.lower() and "text/html" in headers["Content-Type"]


@pytest.mark.parametrize(
    "path",
    ["/none", "/../pyproject.toml", "/%2e%2e/pyproject.toml", "//etc/passwd", "/viewer/", "//["],
)
def test_nothing_but_the_page_is_served(synthetic_server: RunningServer, path: str) -> None:
    assert get(f"{synthetic_server.http}{path}")[0] == 404


# Handshake


@pytest.mark.asyncio
async def test_subprotocols_are_negotiated_as_written(synthetic_server: RunningServer) -> None:
    async with connect(synthetic_server.url) as ws:
        assert ws.subprotocol is None
    offered = [Subprotocol("other"), Subprotocol(wire.SUBPROTOCOL)]
    async with connect(synthetic_server.url, subprotocols=offered) as ws:
        assert ws.subprotocol == wire.SUBPROTOCOL
    with pytest.raises(InvalidStatus) as refused:
        async with connect(synthetic_server.url, subprotocols=[Subprotocol("other")]):
            pass
    assert refused.value.response.status_code == 400


@pytest.mark.asyncio
async def test_a_token_is_asked_for_and_busy_is_said() -> None:
    server = start_server("--engine", "synthetic", "--token", "sesame", "--max-sessions", "1")
    try:
        for url, headers in (
            (server.url, {}),
            (server.url, {"Authorization": "Bearer wrong"}),
            (f"{server.url}?token=wrong", {}),
        ):
            async with connect(url, additional_headers=headers) as ws:
                error = wire.parse_server(str(await ws.recv()))
                assert isinstance(error, wire.Error)
                assert (error.code, error.fatal) == ("unauthorized", True)
                await ws.wait_closed()
                assert ws.close_code == 1008
        async with connect(f"{server.url}?token=sesame") as first:
            await first.send('{"type":"start"}')
            assert isinstance(wire.parse_server(str(await first.recv())), wire.Ready)
            status, _, headers = await asyncio.to_thread(get, f"{server.http}/ready")
            assert status == 503 and int(headers["Retry-After"]) > 0
            bearer = {"Authorization": "Bearer sesame"}
            async with connect(server.url, additional_headers=bearer) as second:
                error = wire.parse_server(str(await second.recv()))
                assert isinstance(error, wire.Error) and error.code == "busy"
                assert isinstance(error.retry_after_s, int)
                await second.wait_closed()
                assert second.close_code == 1013
                assert second.close_reason == str(error.retry_after_s)
            await first.send('{"type":"mark","id":"still here"}')
            assert '"still here"' in str(await first.recv())
        text = "".join(server.lines)
        assert "sesame" not in text
    finally:
        assert stop_server(server) == 0


# Streams


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("hop", "lookahead"), [(3, 3), (1, 0), (30, 0)])
async def test_a_streamed_file_is_the_offline_call(
    server: RunningServer, model: Animator, rate: int, hop: int, lookahead: int
) -> None:
    sound = voice(2.4, rate, seed=rate)
    face = NEUTRAL * 2 + 30
    raw = await stream_file(
        server,
        sound,
        audio={"rate": rate},
        hop=hop,
        lookahead=lookahead,
        emotion={"happy": 0.7},
        identity={"points": face.tolist()},
    )
    exact = (sound * 32767).astype("<i2").astype(np.float32) / 32768
    expected = model.animate(
        exact, rate, emotion={"happy": 0.7}, identity=face, hop=hop, lookahead=lookahead
    )
    assert raw.points.shape == expected.shape
    np.testing.assert_allclose(raw.points, expected, atol=1e-4)
    end = raw.received[-1]
    assert isinstance(end, wire.End) and end.frames == len(expected)
    assert raw.ws.close_code == 1000


@pytest.mark.asyncio
async def test_streams_side_by_side_do_not_meet(server: RunningServer) -> None:
    sounds = [voice(1.5, seed=k) for k in range(6)]
    felt = [{}, {"happy": 1.0}, {"angry": 0.5}, {}, {"sad": 1.0}, {"fear": 0.2}]
    alone = [await stream_file(server, s, emotion=e) for s, e in zip(sounds, felt, strict=True)]
    together = await asyncio.gather(
        *(stream_file(server, s, emotion=e) for s, e in zip(sounds, felt, strict=True))
    )
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a.points, b.points, atol=1e-4)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("first", "code"),
    [
        ('{"type":"start","hop":7}', "bad_message"),
        ('{"type":"start","emotion":{"joy":1}}', "bad_emotion"),
        ("garbage", "bad_message"),
    ],
)
async def test_a_bad_start_closes_4400(
    synthetic_server: RunningServer, first: str, code: str
) -> None:
    async with client(synthetic_server, start=False) as raw:
        await raw.ws.send(first)
        await raw.rest()
        assert raw.codes == [code] and raw.ws.close_code == 4400


@pytest.mark.asyncio
async def test_a_message_over_a_mebibyte_closes_1009(synthetic_server: RunningServer) -> None:
    async with client(synthetic_server) as honest, client(synthetic_server) as raw:
        await raw.ws.send(bytes((1 << 20) + 2))
        await raw.rest()
        assert raw.ws.close_code == 1009
        await honest.ws.send(bytes(1 << 20))  # exactly so much is allowed
        await honest.until(wire.FrameBlock)


@pytest.mark.asyncio
@pytest.mark.live
async def test_a_client_that_never_reads_loses_its_oldest_frames_and_nobody_else_does(
    synthetic_server: RunningServer,
) -> None:
    narrow = narrow_socket(synthetic_server.port)
    deaf_client = connect(synthetic_server.url, sock=narrow, max_queue=1, ping_interval=None)
    async with deaf_client as ws, client(synthetic_server, mode="file") as honest:
        deaf = RawClient(ws)
        await deaf.send(type="start", encoding="json", hop=1, lookahead=0)
        await deaf.next()
        await ws.send(bytes(3200))
        began = asyncio.get_running_loop().time()
        sound = voice(1.0)
        for _ in range(20):
            await honest.ws.send(pcm(sound))
        await honest.send(type="end")
        await honest.rest()
        assert len(honest.points) == 600 and not honest.codes
        await asyncio.sleep(max(0.0, began + 8 - asyncio.get_running_loop().time()))
        await deaf.send(type="silence", samples=8 * 16_000)  # all due by now: 240 frames at once
        await asyncio.sleep(1.0)
        await deaf.send(type="end")
        await deaf.rest()
        told: list[int] = []
        for m in deaf.received:
            if isinstance(m, wire.Frame):
                told.append(m.n)
            elif isinstance(m, wire.Dropped):
                assert m.reason == "slow_reader"
                told += range(m.first, m.first + m.count)
        assert told == list(range(243))
        end = deaf.received[-1]
        assert isinstance(end, wire.End) and end.dropped > 0 and end.frames + end.dropped == 243


@pytest.mark.parametrize(
    "arguments",
    [["--port", "99999"], ["--port", "-1"], ["--max-batch", "0"], ["--threads", "many"]],
)
def test_numbers_out_of_range_are_refused(arguments: list[str]) -> None:
    from server.__main__ import parser

    with pytest.raises(SystemExit) as refused:
        parser().parse_args(arguments)
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "{port}"), "cannot listen on 127.0.0.1:{port}"),
        (
            ("--port", "0", "--zmq", "tcp://127.0.0.1:{port}"),
            "kfusion-server: --zmq tcp://127.0.0.1:{port} is in use; wanted a free port",
        ),
    ],
)
def test_an_address_that_is_taken_is_a_plain_error(
    synthetic_server: RunningServer, options: tuple[str, ...], message: str
) -> None:
    port = synthetic_server.port
    done = subprocess.run(
        [sys.executable, "-m", "server", "--engine", "synthetic"]
        + [option.format(port=port) for option in options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert message.format(port=port) in done.stderr
    assert "Traceback" not in done.stderr and "ready" not in done.stdout

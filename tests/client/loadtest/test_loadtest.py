"""``python -m client loadtest`` against real servers, and what it refuses to do."""

import asyncio
import json
import re
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from client import connect
from client.__main__ import main
from kfusion import wire
from kfusion.errors import Unauthorized
from tests.client.cli.commands import one_line
from tests.client.loadtest.test_streams import ready_text
from tests.conftest import RunningServer, start_server, stop_server

SHORT = ("--seconds", "1", "--warmup", "0.2")


def loadtest(*options: str | Path) -> int:
    return main(["loadtest", *map(str, options)])


@pytest.fixture(scope="module")
def small_server() -> Iterator[RunningServer]:
    """A server of one stream, for the holders of a token."""
    server = start_server("--engine", "synthetic", "--max-sessions", "1", "--token", "right")
    yield server
    stop_server(server)


def test_every_frame_is_received_and_timed(
    synthetic_server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    status = loadtest(
        "--url", synthetic_server.url, "--streams", "3", "--seconds", "2", "--warmup", "0.5",
        "--rate", "48000", "--bound-ms", "5000", "--json", out, "--plot", plot,
    )  # fmt: skip
    output = capsys.readouterr().out
    assert status == 0 and output.endswith("5000 ms: held\n"), output
    result = json.loads(out.read_text())
    assert result["frames"] == {"expected": 180, "got": 180, "dropped": {}, "missing": 0}
    # All but those of the warm-up and those that the end completes.
    assert result["total_ms"]["count"] == 3 * (60 - 15 - 6)
    # The least that a frame can wait: it is the last of its hop, and look-ahead follows it.
    assert result["total_ms"]["p50"] > 133
    assert 0 < result["beyond_ms"]["p50"] < result["total_ms"]["p50"]
    assert 0 < result["loader_cpu"] < 2 and 0 <= result["server_cpu"] < 2
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(tmp_path.iterdir()) == [out, plot]


@pytest.mark.parametrize(
    "options",
    [
        ["--processes", "2", "--starts", "phase"],
        ["--hop", "1", "--lookahead", "0", "--chunk-ms", "50"],
    ],
)
def test_other_ways_to_load_lose_no_frame_either(
    synthetic_server: RunningServer, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "o.json"
    url = synthetic_server.url
    assert loadtest("--url", url, "--streams", "4", *SHORT, "--json", out, *options) == 0
    result = json.loads(out.read_text())
    assert result["frames"] == {"expected": 120, "got": 120, "dropped": {}, "missing": 0}
    assert not result["errors"] and not result["lost"] and not result["refused"]


def test_a_bound_that_does_not_hold_is_the_exit_code(
    synthetic_server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loadtest("--url", synthetic_server.url, *SHORT, "--bound-ms", "20") == 1
    assert "is over 20 ms" in capsys.readouterr().out


@pytest.mark.slow
def test_the_search_ends_where_the_server_is_full(
    small_server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    status = loadtest(
        "--url", small_server.url, "--token", "right", "--find", *SHORT,
        "--bound-ms", "5000", "--json", out, "--plot", plot,
    )  # fmt: skip
    assert status == 0
    output = capsys.readouterr().out
    assert "2 streams: 1 refused" in output and "1 streams hold within 5000 ms" in output
    result = json.loads(out.read_text())
    assert result["streams"] == 1
    assert [t["load"]["streams"] for t in result["trials"]] == [1, 2]
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.asyncio
async def test_refused_streams_are_the_exit_code_and_if_all_are_the_server_is_busy(
    small_server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--url", small_server.url, "--streams", "2", *SHORT, "--token")
    assert await asyncio.to_thread(loadtest, *options, "wrong") == 2
    assert "token" in one_line(capsys)
    assert await asyncio.to_thread(loadtest, *options, "right") == 1
    assert "1 refused (busy)" in capsys.readouterr().out
    with pytest.raises(Unauthorized):
        async with connect(small_server.url, token="wrong"):
            pass
    async with connect(small_server.url, token="right"):
        assert await asyncio.to_thread(loadtest, *options, "right") == 2
    assert "all 2 streams were refused" in one_line(capsys)


def test_of_a_server_that_dies_the_report_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server("--engine", "synthetic")
    ended = threading.Event()

    def kill_once_frames_are_sent() -> None:
        while not ended.wait(0.05):
            with urllib.request.urlopen(f"{server.http}/metrics", timeout=5) as response:
                metrics = response.read()
            sent = re.search(rb"^kfusion_frames_sent_total (\S+)", metrics, re.MULTILINE)
            if sent is not None and float(sent[1]) > 20:
                break
        server.process.kill()

    killer = threading.Thread(target=kill_once_frames_are_sent)
    killer.start()
    out = tmp_path / "o.json"
    try:
        status = loadtest("--url", server.url, "--streams", "2", "--seconds", "30", "--json", out)
    finally:
        ended.set()
        killer.join()
        stop_server(server)
    assert status == 2
    captured = capsys.readouterr()
    assert "all 2 streams: the connection closed after" in captured.err
    assert "2 lost" in captured.out
    assert sum(json.loads(out.read_text())["lost"].values()) == 2


@pytest.mark.asyncio
async def test_a_server_that_never_ends_leaves_streams_unfinished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def send_ready_only(ws: ServerConnection) -> None:
        await ws.recv()
        await ws.send(ready_text())
        async for _ in ws:
            pass

    monkeypatch.setattr("client.loadtest.workers.END_S", 0.1)
    subprotocols = [Subprotocol(wire.SUBPROTOCOL)]
    async with serve(send_ready_only, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        options = ["--url", f"ws://127.0.0.1:{port}", "--seconds", "0.5", "--warmup", "0"]
        assert await asyncio.to_thread(loadtest, *options, "--bound-ms", "300") == 1
    output = capsys.readouterr().out
    assert "0 lost, 1 unfinished" in output
    assert "15 expected, 0 got, 0 dropped, 15 missing" in output


def test_an_address_without_a_server_and_one_without_a_stream_are_named(
    synthetic_server: RunningServer, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loadtest("--url", f"ws://127.0.0.1:{unused_tcp_port}", "--streams", "3") == 2
    assert "is it running" in one_line(capsys)
    url = f"ws://127.0.0.1:{synthetic_server.port}/elsewhere"
    assert loadtest("--url", url, "--streams", "3", "--processes", "2") == 2
    assert "answered HTTP 404; wanted a KFusion stream" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip", "no.wav"], "no.wav: no such file"),
        (["--seconds", "1"], "--warmup 2"),
        (["--json", "no/such/o.json"], "no file can be written there"),
        (["--streams", "9", "--most", "8"], "--most 8"),
        (["--bound-ms", "0"], "--bound-ms 0: wanted more than 0"),
        (["--plot", "o.png"], "pip install matplotlib"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_opened(
    options: list[str],
    message: str,
    tmp_path: Path,
    unused_tcp_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert loadtest("--url", f"ws://127.0.0.1:{unused_tcp_port}", *options) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir())

"""Latencies and losses from traces, the server's usage, and the search for the most streams."""

from __future__ import annotations

import base64
import json
import socket
import threading
from array import array
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.loadtest.command import most_streams
from client.loadtest.report import as_json, frame_latencies, needed_samples, report, report_text
from client.loadtest.streams import Endpoint
from client.loadtest.trace import StreamTrace
from client.loadtest.usage import ServerUsage, read_once
from kfusion.stream import HOPS, Slider
from tests.client.loadtest.traces import LOAD, run_trace, stream_trace


@given(
    rate=st.sampled_from([8000, 16_000, 22_050, 48_000]),
    hop=st.sampled_from([hop for hop in HOPS if hop <= 15]),
    lookahead=st.integers(0, 15),
)
def test_a_frames_window_needs_what_the_server_waits_for(
    rate: int, hop: int, lookahead: int
) -> None:
    slider = Slider(rate, hop, lookahead)
    for _ in range(3):
        frames = np.arange(slider.next_first, slider.next_last)
        (needed,) = set(needed_samples(frames, rate, hop, lookahead).tolist())
        slider.push_silence(needed - 1 - slider.received)
        assert not slider.ready
        slider.push_silence(1)
        assert slider.take() is not None


def test_latencies_are_from_a_frames_own_time_and_from_the_chunk_that_completed_its_window() -> (
    None
):
    streams = stream_trace(LOAD, 100.0, 0.010), stream_trace(LOAD, 100.05, 0.030, index=1)
    r = report(run_trace(replace(LOAD, streams=2), *streams))
    assert r.total_ms is not None and r.beyond_ms is not None and r.late_ms is not None
    # Frames 3m, 3m+1, 3m+2 of a window that ends at frame 3m+6 wait 200, 167 and 133 ms.
    assert r.total_ms.max == pytest.approx(230) and r.total_ms.p50 == pytest.approx(187, abs=11)
    assert r.beyond_ms.p50 == pytest.approx(20, abs=10.1)
    assert (r.beyond_ms.p95, r.beyond_ms.max) == (pytest.approx(30), pytest.approx(30))
    assert r.late_ms.max == pytest.approx(0, abs=1e-6)
    assert (r.frames.expected, r.frames.got, r.frames.missing) == (240, 240, 0)
    assert r.failures(231) == [] and r.failures(200) == ["p95 of 230 ms is over 200 ms"]


def test_the_warm_up_and_the_frames_that_only_the_end_completes_are_not_timed() -> None:
    frames = frame_latencies(run_trace(LOAD, stream_trace(LOAD, 100.0, 0.010)))
    # 1 s of warm-up; of 120 frames the windows of the last three lack their sound.
    assert frames.at.min() == pytest.approx(1.0) and frames.at.max() == pytest.approx(116 / 30)
    assert len(frames.total) == 117 - 30


def test_a_chunk_that_was_sent_late_counts_against_the_loader() -> None:
    r = report(run_trace(LOAD, stream_trace(LOAD, 100.0, 0.010, late=0.025)))
    assert r.beyond_ms is not None and r.beyond_ms.max == pytest.approx(10)
    assert r.total_ms is not None and r.total_ms.max == pytest.approx(235)
    assert r.loader_late and r.failures(236) == []
    assert r.failures(230)[-1] == "but the loader itself was late"
    assert "WARNING: the loader was late" in report_text(r)


def test_what_a_stream_lacks_is_dropped_missing_or_an_error() -> None:
    stream = stream_trace(LOAD, 100.0, 0.010)
    for column in (stream.firsts, stream.counts, stream.received):
        del cast("array[Any]", column)[4:7]
    stream.dropped["overload"], stream.errors["too_fast"], stream.unfinished = 6, 2, True
    r = report(run_trace(LOAD, stream))
    assert (r.frames.expected, r.frames.got, r.frames.missing) == (120, 111, 3)
    assert r.failures() == [
        "1 streams unfinished", "6 frames dropped", "3 frames missing", "2 errors"
    ]  # fmt: skip
    text = report_text(r)
    assert "6 (overload 6) dropped, 3 missing" in text and "too_fast 2" in text and not r.lost


def test_refused_and_lost_streams_are_counted_and_without_frames_nothing_holds() -> None:
    refused, lost = StreamTrace(1, refused="full"), StreamTrace(2, lost="it broke")
    stream = stream_trace(LOAD, 100.0, 0.010)
    r = report(run_trace(replace(LOAD, streams=3), stream, refused, lost))
    assert r.failures() == ["1 refused", "1 streams lost"]
    assert "lost, 1 x: it broke" in report_text(r)
    r = report(run_trace(LOAD, lost))
    assert r.total_ms is None and r.failures(1000)[-1] == "no frame was timed"


def test_the_servers_own_use_is_told_and_the_token_is_not() -> None:
    url = "ws://me:secret@127.0.0.1/?token=secret"
    load = replace(LOAD, token="secret", url=url)
    usage = ServerUsage(0.5, {0: 2**20, -1: 3 * 2**20})
    r = report(run_trace(load, stream_trace(load, 100.0, 0.01), usage=usage))
    text = report_text(r)
    assert "server 50.0 %; server's memory 1.0 MiB at 0 s, 3.0 MiB at the end" in text
    encoded = json.dumps(as_json(r))
    assert "secret" not in encoded and json.loads(encoded)["load"]["streams"] == 1
    assert json.loads(encoded)["load"]["url"] == "ws://127.0.0.1/"
    assert Endpoint.of(load).name == "ws://127.0.0.1/v1/stream"


@given(
    holds=st.integers(0, 3000), first=st.integers(1, 300), limit=st.sampled_from([300, 1000, 2048])
)
def test_the_search_finds_the_most_that_hold_and_tries_nothing_twice(
    holds: int, first: int, limit: int
) -> None:
    tried: list[int] = []

    def trial(count: int) -> bool:
        assert 1 <= count <= limit
        tried.append(count)
        return count <= holds

    most = most_streams(trial, first, limit)
    expected = min(holds, limit)
    assert most <= expected <= most + max(1, most // 32) - (most < 64)
    assert most == 0 or most in tried
    assert len(tried) == len(set(tried)) <= 24


# The server's usage


@pytest.mark.parametrize("response", [b"HTTP/1.1 what 200\r\n\r\n", b"HTTP/1.1 200 OK\r\n"
                                      b"Content-Length: 99\r\n\r\nshort"])  # fmt: skip
def test_metrics_that_cannot_be_read_end_no_measurement(response: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        requests: list[bytes] = []

        def respond() -> None:
            connection, _ = server.accept()
            with connection:
                requests.append(connection.recv(9999))
                connection.sendall(response)

        responding = threading.Thread(target=respond)
        responding.start()
        url = f"ws://me:p%40ss@127.0.0.1:{server.getsockname()[1]}/"
        assert read_once(replace(LOAD, url=url)) is None
        responding.join(10)
    assert b"Authorization: Basic " + base64.b64encode(b"me:p@ss") in requests[0]

"""``python -m client.soak``: what it finds wrong, and a short one with the bundled model."""

import os

import numpy as np
import pytest

from client.loadtest.load import Load
from client.loadtest.report import Array, FrameLatencies, report
from client.loadtest.server_process import ServerProcess, warning_lines
from client.loadtest.soak import Drift, drift, failures, main, memory_growth
from client.loadtest.trace import StreamTrace
from kfusion.errors import ConnectionFailed
from tests.client.loadtest.traces import run_trace
from tests.conftest import DATA

LOAD = Load("ws://127.0.0.1:1")


def frames(at: Array, total: Array) -> FrameLatencies:
    return FrameLatencies(at, total, total - 0.15)


def test_drift_is_between_the_medians_of_the_first_and_the_last_minute() -> None:
    at = np.arange(2, 600, 1 / 30)
    often_late = np.where((at > 585) | (np.arange(len(at)) % 4 == 0), 0.7, 0.2)
    still = drift(frames(at, often_late))
    assert still is not None and still.most == pytest.approx(0)
    assert still.total_ms == (pytest.approx(200), pytest.approx(200))
    assert still.beyond_ms == (pytest.approx(50), pytest.approx(50))
    moved = drift(frames(at, np.where(at > 500, 0.24, 0.2)))
    assert moved is not None and moved.most == pytest.approx(40)


def test_a_short_run_is_compared_half_with_half_in_any_order_of_its_frames() -> None:
    at = np.arange(2, 42, 1 / 30)
    shuffled = np.random.default_rng(0).permutation(at)
    moved = drift(frames(shuffled, np.where(shuffled > 22, 0.25, 0.2)))
    assert moved is not None and moved.most == pytest.approx(50)
    assert drift(frames(at[:0], at[:0])) is None


def test_memory_is_compared_with_what_it_was_once_it_had_settled() -> None:
    memory = {0: 100, 20: 200, 60: 220, -1: 231}
    assert memory_growth(memory, 1800) == pytest.approx(0.05)
    assert memory_growth(memory, 120) == pytest.approx(0.155)
    assert memory_growth({0: 100, -1: 231}, 120) is None
    assert memory_growth({}, 1800) is None


@pytest.mark.parametrize(
    ("line", "warns"),
    [
        ("2026-01-01 10:00:00,000 WARNING kfusion.engine late", True),
        ("2026-01-01 10:00:00,000 ERROR kfusion.websocket session a failed", True),
        ("Traceback (most recent call last):", True),
        ("/a/b.py:3: ResourceWarning: unclosed file", True),
        ("2026-01-01 10:00:00,000 INFO kfusion.app no warnings, no errors", False),
        ("KFusion (compact) is ready: open http://127.0.0.1:8765/", False),
    ],
)
def test_a_log_complains_where_it_warns_or_tells_of_an_error(line: str, warns: bool) -> None:
    assert warning_lines(["fine", line, "fine"]) == ([line] if warns else [])


def test_each_thing_that_does_not_hold_is_told() -> None:
    r = report(run_trace(LOAD, StreamTrace(0, dropped={"slow_reader": 3})))
    still, moved = Drift((200, 232), (5, 5)), Drift((200, 200), (5, 40))
    assert failures(r, still, 0.049, []) == r.failures() != []
    messages = failures(r, moved, 0.05, ["ERROR one", "ERROR two"])[len(r.failures()) :]
    assert messages == [
        "latency drifted by 35.0 ms; wanted under 33.3",
        "the server's memory grew by 5.0%; wanted under 5%",
        "the server's log complains 2 times, first: ERROR one",
    ]
    assert "memory is not known" in failures(r, still, None, [])[-1]


def test_a_server_that_does_not_start_tells_why() -> None:
    with (
        pytest.raises(ConnectionFailed, match=r"--tls-cert none\.pem did not start; .*--tls-key"),
        ServerProcess("--engine", "synthetic", "--tls-cert", "none.pem"),
    ):
        pass


def test_ctrl_c_while_a_server_starts_or_stops_leaves_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    server = ServerProcess("--engine", "synthetic")
    monkeypatch.setattr(server._ready, "wait", interrupt)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(KeyboardInterrupt):
        server.__enter__()
    assert server.process.poll() is not None

    server = ServerProcess("--engine", "synthetic")
    with pytest.raises(KeyboardInterrupt), server:
        process, wait = server.process, server.process.wait

        def once(*_: object) -> None:
            process.wait = wait
            raise KeyboardInterrupt

        monkeypatch.setattr(process, "wait", once)
    assert server.process.poll() is not None


@pytest.mark.live
def test_four_streams_do_not_drift_and_the_server_does_not_grow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = sorted((DATA / "speakers").glob("*.flac"))[:1]  # a made sound where there is no data
    minutes = os.environ.get("SOAK_MINUTES", "1.25")
    status = main(["--minutes", minutes, *(["--clip", str(clips[0])] if clips else [])])
    output = capsys.readouterr().out
    assert status == 0, output
    frames = round(4 * 60 * 30 * float(minutes))
    assert f"frames: {frames} expected, {frames} got, 0 dropped, 0 missing" in output
    assert output.endswith("soak: held\n")

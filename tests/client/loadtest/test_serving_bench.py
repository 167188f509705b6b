"""``python -m client.bench``: its table, and one row measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from client.loadtest.bench import HEAD, BenchOptions, main, table

OPTIONS = BenchOptions(clip=(Path("a.flac"),))


def result(streams: int, p95: float, *, dropped: int = 0, server: float | None = 0.5) -> Any:
    """A run as the load test tells it."""
    spread = {"p50": p95 - 30, "p95": p95, "p99": p95 + 5}
    return {
        "load": {"streams": streams},
        "total_ms": spread,
        "beyond_ms": spread,
        "late_ms": {"p95": 1.0},
        "frames": {"dropped": {"overload": dropped}, "missing": 0},
        "loader_cpu": 0.1,
        "server_cpu": server,
    }


def cells(name: str, *runs: Any) -> list[str]:
    (line,) = table(OPTIONS, {name: list(runs)}).splitlines()[2:]
    found = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(found) == len(HEAD)
    return found


def test_a_row_has_the_median_of_its_runs_or_the_largest_trial_that_held() -> None:
    runs = [result(20, p95) for p95 in (240, 220, 230)] + [result(20, 900, dropped=4)]
    row = cells("twenty-spread", *runs)
    assert row[:3] == ["20 streams, starts spread, median of 4", "20", "205 / 235 / 240"]
    assert row[4:7] == ["4", "1.0", "10 / 50"]
    trials = [result(8, 210), result(16, 400), result(12, 250, server=None)]
    row = cells("most-spread", {"streams": 12, "bound_ms": 260.0, "trials": trials})
    assert row[1:3] == ["**12** within 260 ms", "220 / 250 / 255"] and row[6] == "10 / -"
    row = cells("most-spread", {"streams": 0, "bound_ms": 260.0, "trials": [result(1, 900)]})
    assert row[1] == "**0** within 260 ms"


@pytest.mark.slow
def test_a_row_is_measured_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench"
    assert main(["--rows", "one-48k", "--seconds", "3", "--out", str(out)]) == 0
    output = capfd.readouterr().out
    assert output.rstrip().endswith((out / "serving.md").read_text().rstrip())
    assert "synthetic, speech-like" in output
    assert "`python -m client loadtest --rate 48000 --seconds 3`" in output
    kept = json.loads((out / "one-48k-1.json").read_text())
    assert kept["load"]["rate"] == 48_000 and kept["frames"]["got"] == 90


def test_a_row_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "all"]) == 2
    assert "row 'all' is unknown; wanted one of one-16k" in capsys.readouterr().err

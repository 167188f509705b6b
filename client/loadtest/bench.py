"""Measures the server on this machine; each figure stands beside the command that made it::

    python -m client.bench [--clip speech.flac] [--out build/bench] [--rows one-16k twenty-spread]

Every row starts a server of its own on a free port and runs ``python -m client loadtest``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from client.loadtest.server_process import ServerProcess
from kfusion import options
from kfusion.errors import BadOptions, KFusionError, run_command
from kfusion.options import option

MANY_SESSIONS: Final = ("--max-sessions", "4096")  # so that no trial ends at the default of 64


@dataclass(frozen=True)
class Row:
    """A row of the table: load tests with ``options`` of a server with ``server`` options."""

    title: str
    options: tuple[str, ...]
    server: tuple[str, ...] = MANY_SESSIONS
    repeated: bool = False  # the median of several runs is shown
    searches: bool = False


SYNTHETIC: Final = ("--engine", "synthetic", *MANY_SESSIONS)
ROWS: Final = {
    "one-16k": Row("one stream, 16 kHz", ()),
    "one-48k": Row("one stream, 48 kHz", ("--rate", "48000")),
    "twenty-spread": Row("20 streams, starts spread", ("--streams", "20"), repeated=True),
    "twenty-phase": Row(
        "20 streams in phase", ("--streams", "20", "--starts", "phase"), repeated=True
    ),
    "most-spread": Row(
        "most streams, starts spread", ("--find", "--streams", "8"), searches=True
    ),
    "most-phase": Row(
        "most streams in phase", ("--find", "--streams", "8", "--starts", "phase"), searches=True
    ),
    "synthetic-200": Row(
        "200 streams, chunks of 100 ms, no model",
        ("--streams", "200", "--chunk-ms", "100"),
        SYNTHETIC,
    ),
    "synthetic-most": Row(
        "most streams, chunks of 20 ms, no model",
        ("--find", "--streams", "16"),
        SYNTHETIC,
        searches=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class BenchOptions:
    clip: tuple[Path, ...] = option((), metavar="FILE")
    out: Path = option(Path("build/bench"), metavar="FOLDER")
    rows: tuple[str, ...] = option(tuple(ROWS), "of " + ", ".join(ROWS))
    seconds: float = option(60.0, "a run (%(default)g)")
    search_seconds: float = option(15.0, "a trial (%(default)g)")
    runs: int = option(3, "of 20 streams (%(default)s)")


def loadtest_arguments(o: BenchOptions, row: Row) -> list[str]:
    """The arguments of the load test of a row, without the address and the output file."""
    seconds = o.search_seconds if row.searches else o.seconds
    arguments = ["loadtest", *row.options, "--seconds", f"{seconds:g}"]
    return [*arguments, "--clip", *map(str, o.clip)] if o.clip else arguments


def measure(o: BenchOptions, name: str) -> list[dict[str, Any]]:
    """The load test's JSON of every run of a row."""
    row = ROWS[name]
    results: list[dict[str, Any]] = []
    with ServerProcess(*row.server) as server:
        for k in range(max(1, o.runs) if row.repeated else 1):
            out = o.out / f"{name}-{k + 1}.json"
            command = [sys.executable, "-m", "client", *loadtest_arguments(o, row)]
            environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
            done = subprocess.run(
                [*command, "--url", server.url, "--json", str(out)], env=environment, check=False
            )
            if done.returncode not in (0, 1):
                raise KFusionError(f"{name}: the load test ended with {done.returncode}")
            results.append(json.loads(out.read_text()))
    return results


def cells(row: Row, results: Sequence[dict[str, Any]]) -> list[str]:
    """A row's figures: the median over its runs, or those of a search's largest trial that held."""
    if row.searches:
        most = results[0]["streams"]
        held = [t for t in results[0]["trials"] if t["load"]["streams"] == most]
        figure = f"**{most}** within {results[0]['bound_ms']:g} ms"
        return [figure, *(_figures(held) if held else [""] * 5)]
    return [str(results[0]["load"]["streams"]), *_figures(results)]


def _figures(reports: Sequence[dict[str, Any]]) -> list[str]:
    lost = sum(sum(r["frames"]["dropped"].values()) + r["frames"]["missing"] for r in reports)
    cpu = [_median(reports, "loader_cpu"), _median(reports, "server_cpu")]
    return [
        _percentiles(reports, "total_ms", ".0f"),
        _percentiles(reports, "beyond_ms", ".1f"),
        str(lost),
        _formatted(_median(reports, "late_ms", "p95"), ".1f"),
        " / ".join(_formatted(None if x is None else 100 * x, ".0f") for x in cpu),
    ]


def _percentiles(reports: Sequence[dict[str, Any]], name: str, form: str) -> str:
    medians = (_median(reports, name, p) for p in ("p50", "p95", "p99"))
    return " / ".join(_formatted(median, form) for median in medians)


def _median(reports: Sequence[dict[str, Any]], *path: str) -> float | None:
    values: list[float] = []
    for r in reports:
        value: Any = r
        for key in path:
            value = None if value is None else value[key]
        if value is not None:
            values.append(value)
    return statistics.median(values) if values else None


def _formatted(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


HEAD: Final = (
    "", "streams", "total ms p50 / p95 / p99", "beyond ms p50 / p95 / p99", "frames lost",
    "loader late ms p95", "CPU % of a core, loader / server", "command",
)  # fmt: skip


def table(o: BenchOptions, results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row a measurement, with the commands that made it."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for name, runs in results.items():
        row = ROWS[name]
        title = f"{row.title}, median of {len(runs)}" if len(runs) > 1 else row.title
        server = " ".join(("python -m server", *row.server))
        test = " ".join(("python -m client", *loadtest_arguments(o, row)))
        lines.append((title, *cells(row, runs), f"`{server}`, `{test}`"))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bench(o: BenchOptions) -> str:
    """Measures rows and returns their table, which is also written to ``o.out``."""
    o.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in o.rows:
        print(f"\n{ROWS[name].title}", flush=True)
        results[name] = measure(o, name)
    sound = ", ".join(map(str, o.clip)) or "synthetic, speech-like"
    text = f"{table(o, results)}\n\nSound: {sound}. Cores: {os.cpu_count()}.\n"
    (o.out / "serving.md").write_text(text)
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m client.bench", description=__doc__)
    options.add_options(p, BenchOptions)
    o = options.parsed(BenchOptions, p.parse_args(arguments))

    def command() -> None:
        for name in o.rows:
            if name not in ROWS:
                raise BadOptions(f"row {name!r} is unknown; wanted one of {', '.join(ROWS)}")
        print("\n" + bench(o))

    return run_command("bench", command)
